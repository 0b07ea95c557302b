"""The bill of a rerun: a full run's share, and just the rows that the edits reach and the question
needs, no row fewer and none more."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import GPT2, Batch, Config, Patch, Trace
from minigpt.receipt import Receipt
from tests.conftest import tiny

LAYERS, WIDTH = 3, 14
MODEL = tiny(LAYERS, 2, 16, 32)
Bill = Counter[str]
# An edit behind the answer is one without effect.
pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def other_tokens(batch: Batch) -> Batch:
    """Another token at every position."""
    return replace(batch, tokens=(batch.tokens + 1) % 50 * batch.mask)


def pair(model: GPT2, lengths: tuple[int, ...] = (WIDTH,)) -> tuple[Trace, Trace]:
    """Prompts of these lengths, and others that differ at every position."""
    tokens = torch.randint(
        0, 49, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0)
    )
    batch = Batch(tokens, torch.tensor(lengths))
    batch = replace(batch, tokens=tokens * batch.mask)
    return model.run(batch), model.run(other_tokens(batch))


CLEAN, CORRUPT = pair(MODEL)

# ---- a full run ----


@pytest.mark.parametrize("lengths", [(WIDTH,), (WIDTH, WIDTH), (5, 1, 12)])
@pytest.mark.parametrize("model", [MODEL, tiny(2, 4, 16, 24)], ids=["three layers", "four heads"])
def test_a_run_of_which_nothing_stays_costs_a_full_run(model, lengths):
    clean, corrupt = pair(model, lengths)
    patch = Patch.write("input", corrupt)
    one, three = model.rerun(clean, patch).receipt, model.rerun(clean, [patch] * 3, "out")
    assert one.needed_flops == one.full_flops > 0
    assert three.values.shape[0] == 3
    assert three.receipt.needed_flops == three.receipt.full_flops == 3 * one.full_flops
    some = model.rerun(clean, Patch.write("resid1@0", corrupt)).receipt
    assert some.needed_flops < some.full_flops == one.full_flops


def test_a_full_run_costs_what_its_products_are():
    """Two operations for each weight and row; for each pair of positions two for each number of a
    query, two for each of a value."""
    c = MODEL.config
    weights = 4 * c.d_model**2 + 2 * c.d_model * c.d_mlp
    positions = [5, 1, 12]
    products = sum(2 * n * weights + 4 * n * n * c.d_model for n in positions)
    clean, corrupt = pair(MODEL, tuple(positions))
    receipt = MODEL.rerun(clean, Patch.write("a0.0@0", corrupt)).receipt
    assert receipt.full_flops == LAYERS * products


def test_what_is_printed_is_the_share_of_full_runs():
    assert str(Receipt(1000, 20, 3, 5 * 10**9, 0, 4 * 10**10)) == (
        "1,000 cells written, 20 changed, 3 rows recomputed, 5.000 GFLOP (12.50% of full runs)"
    )
    assert str(Receipt(flops=10**9)).endswith("1.000 GFLOP")
    receipt = MODEL.rerun(CLEAN, Patch.write("a1.0@3", CORRUPT)).receipt
    assert f"({receipt.flops / receipt.full_flops:.2%} of full runs)" in str(receipt)
    assert 0 < receipt.needed_flops <= receipt.flops < receipt.full_flops


def test_receipts_add_up_entry_by_entry():
    a, b = Receipt(1, 2, 3, 4, 5, 6), Receipt(10, 20, 30, 40, 50, 60)
    assert vars(a + b) == vars(Receipt(11, 22, 33, 44, 55, 66))


def test_what_an_edit_writes_and_what_of_it_is_new():
    head = MODEL.rerun(CLEAN, Patch.write("a1.0@3", CORRUPT)).receipt
    assert (head.written, head.changed) == (MODEL.config.d_head, MODEL.config.d_head)
    value = CLEAN["resid1@3"].clone()
    value[0, 5] += 1
    point = MODEL.rerun(CLEAN, Patch.write("resid1@3", value)).receipt
    assert (point.written, point.changed) == (MODEL.config.d_model, 1)


# ---- no row more than is needed ----


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


@settings(max_examples=25)
@given(
    edit=st.sampled_from(["resid0", "resid1", "resid2", "a0.0", "a1.1", "m0", "m1"]), at=POSITIONS
)
def test_a_whole_run_computes_the_rows_that_an_edit_reaches(edit, at):
    bill = needed(MODEL.config, edit, at, set(range(WIDTH)))
    receipt = MODEL.rerun(CLEAN, edited(edit, at)).receipt
    assert receipt.recomputed == bill.total()
    assert receipt.needed_flops == cost(MODEL.config, bill, WIDTH)


@settings(max_examples=25)
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


@settings(max_examples=15)
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
