"""A rerun computes just the rows that the edits reach and the question needs: none fewer, none
more; all others are shared."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.audit import dense
from minigpt import Config, Patch, Site
from tests.conftest import examples, tiny
from tests.minigpt.pairs import CLEAN, CORRUPT, MODEL, WIDTH, runs, tokens

Bill = Counter[str]
# An edit behind the answer is one without effect.
pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def needed(config: Config, edit: str, at: set[int], wanted: set[int]) -> Bill:
    """The rows of each product that an edit of "resid1", "a1.0" or "m1" at some positions makes new
    and the last stream at wanted ones needs, one prompt. A position passes on to later ones by
    attention, and nothing ever to earlier ones."""
    bill, last = Counter(), max(wanted)
    new = at if edit.startswith("resid") else set()
    for layer in range(int(edit.partition(".")[0][-1]), config.n_layer):
        here = int(edit.partition(".")[0][-1]) == layer
        need = wanted if layer == config.n_layer - 1 else set(range(last + 1))
        attended = {t for t in need if new and t >= min(new)}
        bill["query, key, value"] += len({t for t in new if t <= last})
        bill["attention"] += len(attended)
        written = attended | (at & need if here and edit[0] == "a" else set())
        bill["attention's output"] += len(written)
        new = (new & need) | written
        decided = at if here and edit[0] == "m" else set()
        bill["MLP's input"] += len(new - decided)
        new = new | (decided & need)
        bill["MLP's output"] += len(new)
    return bill


def cost(config: Config, bill: Bill, length: int) -> int:
    """The arithmetic of so many rows of each product."""
    d, m = config.d_model, config.d_mlp
    each = {
        "query, key, value": 6 * d * d,
        "attention": 4 * length * d,
        "attention's output": 2 * d * d,
        "MLP's input": 2 * d * m,
        "MLP's output": 2 * d * m,
    }
    return sum(rows * each[name] for name, rows in bill.items())


POSITIONS = st.sets(st.integers(0, WIDTH - 1), min_size=1, max_size=3)


def edited(name: str, at: set[int]) -> Patch:
    return Patch.all(Patch.write(f"{name}@{t}", CORRUPT) for t in at)


@examples(8)
@given(
    edit=st.sampled_from(["resid0", "resid1", "resid2", "a0.0", "a1.1", "m0", "m1"]), at=POSITIONS
)
def test_a_whole_run_computes_the_rows_that_an_edit_reaches(edit, at):
    bill = needed(MODEL.config, edit, at, set(range(WIDTH)))
    receipt = MODEL.rerun(CLEAN, edited(edit, at)).receipt
    assert receipt.recomputed == bill.total()
    assert receipt.needed_flops == cost(MODEL.config, bill, WIDTH)


@examples(8)
@given(
    edit=st.sampled_from(["resid0", "resid1", "resid2", "a0.0", "a1.1", "a2.0", "m0", "m1", "m2"]),
    at=POSITIONS,
    wanted=st.integers(0, WIDTH - 1),
)
def test_a_sweep_computes_of_them_only_what_its_question_needs(edit, at, wanted):
    bill = needed(MODEL.config, edit, at, {wanted})
    sweep = MODEL.rerun(CLEAN, [edited(edit, at)], f"out@{wanted}")
    same = bool(torch.equal(sweep.values[0], CLEAN[f"out@{wanted}"]))
    assert same == (not bill.total())
    assert sweep.receipt.recomputed == bill.total()
    assert sweep.receipt.needed_flops == cost(MODEL.config, bill, WIDTH)


# What is held while resid1@3 is written, and the rows that the answers at 13, at 5 and at 3 need.
HELD = {
    "": (60, 20, 10),  # 1 query, 11 or 3 or 1 of the rest; then as many queries, one of the rest
    "a1.0": (60, 20, 10),  # the other head passes on just as much
    "a1.0 a1.1": (7, 7, 7),  # through m1 and what a2.0 and a2.1 make of position 3
    "m1": (38, 14, 8),
    "mlps but m1@3": (38, 14, 8),
    "mlps": (36, 12, 6),
    "heads but a1.0": (7, 7, 7),
    "heads but a1.0@5": (0, 7, 4),  # position 5 sees position 3 by that head
    "heads": (0, 0, 4),  # m1 and m2 at the position itself
    "heads mlps": (0, 0, 0),
}


@pytest.mark.parametrize("held", HELD)
def test_what_is_held_is_not_computed_and_passes_nothing_on(held):
    nodes, _, but = held.partition(" but ")
    hold = Patch.hold(nodes, CLEAN, but=but) if held else Patch()
    patch = Patch.write("resid1@3", CORRUPT) | hold
    sweeps = [MODEL.rerun(CLEAN, [patch], f"out@{wanted}") for wanted in (13, 5, 3)]
    assert all(sweep.values.isfinite().all() for sweep in sweeps)
    assert tuple(sweep.receipt.recomputed for sweep in sweeps) == HELD[held]


# What of one head, one port or one edge is edited, and the rows that the same answers need.
PARTS = {
    # A query, what the head makes of it, the write, the MLP; the query also where nobody needs it.
    "a2.0.q@3": (1, 1, 5),
    "a2.0.k@3": (5, 5, 5),  # a key, and those of one row that looks at it
    "a2.0.v@3": (5, 5, 5),
    "a0.1>a2.0.k@3": (5, 5, 5),
    "a2.1.pattern@3": (0, 0, 4),
    "m2.in@3": (0, 0, 2),
    "m0>m2.in@3": (0, 0, 2),
    "m1>out@3": (0, 0, 0),
    "a1.0.q@3": (10, 10, 10),  # one row of each, and what a2.0 and a2.1 make of position 3
    "a1.0.k@3": (60, 20, 10),  # all who look at position 3, as if the stream had been written
    "a1.0.v@3": (60, 20, 10),
    "input>a1.0.v@3": (60, 20, 10),
    "a1.0.pattern@3": (9, 9, 9),
    "a1.1.z@3": (8, 8, 8),
    "m1.in@3": (7, 7, 7),
}


@pytest.mark.parametrize("edit", PARTS)
def test_an_edit_of_one_head_or_port_computes_what_looks_at_it_and_no_more(edit):
    patch = Patch.parse(f"{edit} = corrupt", {"corrupt": CORRUPT})
    sweeps = [MODEL.rerun(CLEAN, [patch], f"out@{wanted}") for wanted in (13, 5, 3)]
    assert all(sweep.values.isfinite().all() for sweep in sweeps)
    assert tuple(sweep.receipt.recomputed for sweep in sweeps) == PARTS[edit]


@examples(6)
@given(
    drawn=st.lists(
        st.tuples(st.sampled_from(["resid1", "a0.0", "a1.1", "m1"]), POSITIONS),
        max_size=4,
        min_size=1,
    )
)
def test_many_patches_cost_what_each_costs_alone(drawn):
    patches = [edited(name, at) for name, at in drawn]
    together, *alone = (MODEL.rerun(CLEAN, some, "out@9") for some in (patches, *zip(patches)))
    assert torch.equal(together.values, torch.cat([one.values for one in alone]))
    for entry in ("written", "changed", "recomputed", "needed_flops", "full_flops"):
        assert getattr(together.receipt, entry) == sum(
            getattr(one.receipt, entry) for one in alone
        ), entry


@pytest.mark.parametrize("name", ["resid1", "a1.0", "m1", "a1.0.z", "input"])
def test_a_runs_own_value_costs_nothing(name):
    assert MODEL.rerun(CLEAN, Patch.write(name, CLEAN)).receipt.recomputed == 0


@pytest.mark.parametrize(
    "address",
    [
        "emb",
        "pos",
        "input",
        "a1.0",
        "a1",
        "a1.b",
        "m0.n3",
        "m0",
        "m0.b",
        "out.b",
        "resid1",
        "resid1.mid",
        "resid2",
        "a1.1.pattern",
        "a1.pattern",
        "a1.1.z",
        "a0.z",
    ],
)
@pytest.mark.parametrize("at", ["", "@2"])
def test_a_patch_with_the_runs_own_value_changes_no_bit(address, at):
    model = tiny(2, 2, 16, 32)
    trace = model.run(tokens(1, 3, 14))
    given = trace[address + at]
    for source in (trace, given):
        found = model.rerun(trace, Patch.write(address + at, source))
        assert all(
            torch.equal(a, b)
            for x, y in zip(found.cells, trace.cells, strict=True)
            for a, b in zip(vars(x).values(), vars(y).values(), strict=True)
        )
        assert found.receipt.changed == 0


def test_the_empty_patch_is_the_run_and_shares_its_tensors():
    model = tiny(2, 2, 16, 32)
    trace = model.run(tokens(1, 3, 14))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.rerun(trace, Patch())
    assert all(
        a is b
        for x, y in zip(found.cells, trace.cells, strict=True)
        for a, b in zip(vars(x).values(), vars(y).values(), strict=True)
    )


def test_what_a_patch_does_not_reach_is_shared_and_not_computed():
    model = tiny(3, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    found = model.rerun(clean, Patch.write("a1.0@9", corrupt))
    assert found.cells[0].out is clean.cells[0].out
    assert torch.equal(found.cells[2].out[:, :9], clean.cells[2].out[:, :9])
    assert not torch.equal(found.cells[2].out[:, 9:], clean.cells[2].out[:, 9:])
    whole = model.rerun(clean, Patch.write("input", corrupt)).receipt
    assert found.receipt.needed_flops < whole.needed_flops / 3


def test_a_stale_row_would_be_seen(monkeypatch):
    """The twin: were a dirty row left as it was, the comparison with the dense pass would fail."""
    from minigpt.recompute import forward as rerun
    from minigpt.recompute.rows import union

    model = tiny(3, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    patch = Patch.write("a0.0@3", corrupt)
    expected = dense.patched(model, clean, patch)["out"]
    assert torch.equal(model.rerun(clean, patch).stream(Site("out"))[:, :14], expected[:, :14])
    monkeypatch.setattr(rerun, "union", lambda *many: union(*many)[:-1])
    assert not torch.equal(model.rerun(clean, patch).stream(Site("out"))[:, :14], expected[:, :14])
