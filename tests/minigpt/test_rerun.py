"""rerun against a dense patched pass bit for bit, and against the reference; and its own
promises."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import GPT2, Batch, Site
from minigpt.address import streams
from minigpt.errors import AddressError, NoEffectWarning, PatchError
from minigpt.patch import Patch
from tests.conftest import tiny
from tests.dense import final_stream
from tests.patches import MEETINGS, assert_agrees, meetings, patches, reference_of

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def tokens(seed: int, batch: int, length: int, vocab: int = 50) -> torch.Tensor:
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def runs(model: GPT2, seed: int, batch: int, length: int):
    return model.run(tokens(seed, batch, length)), model.run(tokens(seed + 1, batch, length))


OUT = Site("out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data())
def test_a_patched_run_is_the_dense_patched_run_bit_for_bit(data, dtype):
    model = tiny(3, 2, 16, 32, dtype=dtype)
    length = data.draw(st.sampled_from([1, 3, 5, 8, 13, 17]))
    clean, corrupt = runs(model, data.draw(st.integers(0, 99)), 2, length)
    patch = data.draw(patches(model.config, length, 2, {"clean": clean, "corrupt": corrupt}))
    found, expected = model.rerun(clean, patch).stream(OUT), final_stream(model, clean, patch)
    assert torch.equal(found[:, :length], expected[:, :length]), str(patch)


@pytest.mark.parametrize("d_head", [2, 4, 8])
@pytest.mark.parametrize("length", [12, 13, 16, 20, 24])
def test_narrow_heads_bit_for_bit_where_torch_changes_its_kernel(d_head, length):
    """Products of fewer than ops.SMALL operations take another way through torch: 4 rows of a short
    prompt, but not all of them."""
    model = tiny(2, 4, 4 * d_head, 32)
    clean, corrupt = runs(model, length, 2, length)
    for at in (0, 3, length - 2, length - 1):
        for patch in (
            Patch.write(f"resid1@{at}", corrupt),
            Patch.input(f"a1.2.k@{at}", corrupt),
            Patch.read(f"m0>a1.1.q@{at}", corrupt),
        ):
            found, expected = (
                model.rerun(clean, patch).stream(OUT),
                final_stream(model, clean, patch),
            )
            assert torch.equal(found[:, :length], expected[:, :length]), str(patch)


@settings(max_examples=150)
@given(data=st.data())
def test_every_value_after_any_patch_is_what_the_reference_says(data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    length = data.draw(st.integers(1, 6))
    clean, corrupt = runs(model, data.draw(st.integers(0, 9)), 2, length)
    patch = data.draw(patches(model.config, length, 2, {"clean": clean, "corrupt": corrupt}))
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@pytest.mark.parametrize("meeting", MEETINGS, ids=" ".join)
@settings(max_examples=10)
@given(data=st.data())
def test_a_whole_and_its_part_in_one_patch_are_what_the_reference_says(meeting, data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    length = data.draw(st.integers(2, 6))
    clean, corrupt = runs(model, data.draw(st.integers(0, 9)), 2, length)
    sources = {"clean": clean, "corrupt": corrupt}
    patch = data.draw(meetings(model.config, meeting, [length] * 2, sources, {}))
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@given(data=st.data())
def test_prompts_of_different_lengths_too(data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    made = [
        Batch(
            torch.where(
                torch.arange(max(lengths)) < torch.tensor(lengths)[:, None],
                tokens(seed, len(lengths), max(lengths)),
                0,
            ),
            torch.tensor(lengths),
        )
        for seed in (3, 4)
    ]
    clean, corrupt = (model.run(batch) for batch in made)
    patch = data.draw(
        patches(model.config, lengths, len(lengths), {"clean": clean, "corrupt": corrupt})
    )
    assert_agrees(model.rerun(clean, patch), reference_of(model, clean, patch))


@given(data=st.data())
def test_a_sweep_gives_every_patch_what_it_gets_alone_whatever_shares_the_call(data):
    model = tiny(2, 2, 16, 32, seed=1)
    clean, corrupt = runs(model, 5, 3, 13)
    drawn = data.draw(
        st.lists(
            patches(model.config, 13, 3, {"clean": clean, "corrupt": corrupt}),
            min_size=1,
            max_size=5,
        )
    )
    want = data.draw(st.sampled_from(["out@-1", "out", "resid1", "resid0.mid@4", "resid2@0"]))
    together = model.rerun(clean, drawn, want).values
    for patch, value in zip(drawn, together, strict=True):
        alone = model.rerun(clean, patch)
        expected = alone[want] if want.startswith("out") else pointed(alone, want)
        assert torch.equal(value, expected), str(patch)


def pointed(trace, want):
    """A stream point itself, which is what a sweep gives."""
    return trace[want]


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
    assert found.receipt.flops < whole.flops / 3


@pytest.mark.filterwarnings("error")
def test_a_patch_without_effect_warns_and_one_with_does_not():
    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    with pytest.warns(NoEffectWarning, match=r"a1.0 = run"):
        model.rerun(clean, Patch.write("a1.0", clean))
    with pytest.warns(NoEffectWarning, match="none of 2 patches"):
        _ = model.rerun(clean, [Patch.write("a1.0", clean)] * 2, "out@-1").values
    model.rerun(clean, Patch.write("a1.0", corrupt))


def test_a_stale_row_would_be_seen(monkeypatch):
    """The twin: were a dirty row left as it was, the comparison with the dense pass would fail."""
    from minigpt.recompute import forward as rerun
    from minigpt.recompute.rows import union

    model = tiny(3, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    patch = Patch.write("a0.0@3", corrupt)
    expected = final_stream(model, clean, patch)
    assert torch.equal(model.rerun(clean, patch).stream(OUT)[:, :14], expected[:, :14])
    monkeypatch.setattr(rerun, "union", lambda *many: union(*many)[:-1])
    assert not torch.equal(model.rerun(clean, patch).stream(OUT)[:, :14], expected[:, :14])


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(monkeypatch):
    from minigpt.recompute import sweep as module

    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    drawn = [
        Patch.write(f"a{layer}.{head}@{t}", corrupt)
        for layer in range(2)
        for head in range(2)
        for t in range(14)
    ]
    expected = model.rerun(clean, drawn, "out@-1").values
    monkeypatch.setattr(module, "GOOD_ROWS", 64)
    swept, seen = model.rerun(clean, drawn, "out@-1"), []

    def read(values):
        if len(seen) == 3:
            seen.append("stop")
            raise KeyboardInterrupt
        seen.append(len(values))
        return values

    with pytest.raises(KeyboardInterrupt):
        swept.map(read)
    before = swept.receipt.written
    assert before > 0
    found = swept.map(read)
    assert torch.equal(found, expected)
    assert swept.receipt.written < 2 * before + len(drawn) * 2 * 8


def test_chunks_of_any_size_give_the_same_bits(monkeypatch):
    from minigpt.recompute import sweep as module

    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 3, 15)
    drawn = [
        Patch.read(edge, corrupt)
        for edge in ("a0.0>a1.0.q", "a0.1>a1.1.v", "m0>out", "a1.0>m1.in", "input>a0.1.k")
    ] * 3
    found = []
    for rows in (1, 100, 10**6):
        monkeypatch.setattr(module, "GOOD_ROWS", rows)
        found.append(model.rerun(clean, drawn, "out").values)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda m, t, o: m.rerun(t, [Patch.write("a0.0", o)], "a1.0"),
            AddressError,
            "a stream point",
        ),
        (lambda m, t, o: m.rerun(t, Patch.write("a7.0", o)), AddressError, "layer 7 of 2"),
        (
            lambda m, t, o: m.rerun(
                t, Patch.write("a0.0", tiny(2, 2, 16, 32, seed=9).run(tokens(0, 3, 14)))
            ),
            PatchError,
            "another model",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0", m.run(tokens(0, 3, 9)))),
            PatchError,
            "do not match",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0", torch.zeros(5))),
            PatchError,
            r"shape \[5\]",
        ),
        (
            lambda m, t, o: m.rerun(t, Patch.write("a0.0@2", o) | Patch.write("a0.0@-12", o)),
            PatchError,
            "both decide",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    model = tiny(2, 2, 16, 32)
    with pytest.raises(error, match=message):
        make(model, *runs(model, 0, 3, 14))


@pytest.mark.parametrize(
    "address", ["a1.1@-1", "a1@-1", "a1.b@-1", "m1@-1", "m1.n3@-1", "m1.b@-1", "emb@-1"]
)
def test_a_sweep_from_a_run_with_written_vectors_gives_every_patch_what_it_gets_from_the_first_run(
    address,
):
    """Once, what the first patch had written was counted twice where another variant of the sweep
    made the node's layer compute anew."""
    model = tiny(3, 2, 16, 32, dtype=torch.float64)
    clean, corrupt = runs(model, 5, 3, 13)
    standing = Patch.write(
        address, torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    base = model.rerun(clean, standing)
    many = [
        Patch.write(sender, corrupt) | standing
        for sender in ("a0.0@4", "a0.0@-1", "a0.1@4", "a1.0@4", "m0@4", "m0@-1", "a2.1@-1")
    ]
    found = model.rerun(base, many, "out@-1").values
    expected = torch.stack([model.rerun(clean, patch)["out@-1"] for patch in many])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert min(float((value - base["out@-1"]).abs().max()) for value in expected) > 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "hold heads = run",
        "a1.0 = run",
        "a1 = run",
        "m1 = run",
        "hold mlps = run",
        "a1.0@2 = run",
        "hold heads but a1.0@1 = run",
        "a1.0>m1.in = run",
        "hold heads = mean(run)",
    ],
)
@pytest.mark.parametrize("written", ["a1.0", "m1", "a1.0@2", "m1@-1"])
def test_values_from_a_run_that_itself_has_written_vectors_are_those_vectors(written, text):
    model = tiny(2, 2, 16, 32, dtype=torch.float64)
    clean, corrupt = runs(model, 5, 3, 6)
    first = Patch.write(written, torch.linspace(-1, 1, 16, dtype=torch.float64), name="given")
    source = model.rerun(corrupt, first)
    patch = Patch.parse(text, {"run": source})
    expected = reference_of(model, clean, patch, {"run": reference_of(model, corrupt, first)})
    told = [
        "logits",
        *map(str, streams(model.config)),
        "a1",
        "m1",
    ]  # the parts of what a vector was put in place of, nobody can tell
    assert_agrees(model.rerun(clean, patch), expected, among=told)
