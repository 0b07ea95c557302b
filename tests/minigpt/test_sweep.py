"""A sweep gives every patch what it gets alone, whatever shares the call, in chunks that its memory
allows, and goes on where it was interrupted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt import Patch
from minigpt.device import CPU, KINDS
from tests.conftest import some, tiny
from tests.minigpt.pairs import runs
from tests.patches import patches

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


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
        assert torch.equal(value, alone[want]), str(patch)


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(monkeypatch):
    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 2, 14)
    drawn = [
        Patch.write(f"a{layer}.{head}@{t}", corrupt)
        for layer in range(2)
        for head in range(2)
        for t in range(14)
    ]
    expected = model.rerun(clean, drawn, "out@-1").values
    monkeypatch.setitem(KINDS, "cpu", replace(CPU, sweep_rows=64))
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
    model = tiny(2, 2, 16, 32)
    clean, corrupt = runs(model, 0, 3, 15)
    drawn = [
        Patch.read(edge, corrupt)
        for edge in ("a0.0>a1.0.q", "a0.1>a1.1.v", "m0>out", "a1.0>m1.in", "input>a0.1.k")
    ] * 3
    found = []
    for rows in (1, 100, 10**6):
        monkeypatch.setitem(KINDS, "cpu", replace(CPU, sweep_rows=rows))
        found.append(model.rerun(clean, drawn, "out").values)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


@pytest.mark.parametrize(
    "address", some(["a1.1@-1", "a1@-1", "a1.b@-1", "m1@-1", "m1.n3@-1", "m1.b@-1", "emb@-1"])
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


MODEL = tiny(2, 2, 16, 32)
PROMPTS, WIDTH = 8, 32
CLEAN, OTHER = (
    MODEL.run(torch.randint(50, (PROMPTS, WIDTH), generator=torch.Generator().manual_seed(seed)))
    for seed in (0, 1)
)
# Bytes of one row's working values: eight vectors of the stream's width, three of the MLP's.
ROW = 4 * (8 * MODEL.config.d_model + 3 * MODEL.config.d_mlp)


def chunks(patches: list[Patch], budget: int) -> list[int]:
    """How many patches each chunk of a sweep has."""
    sizes: list[int] = []

    def read(values: torch.Tensor) -> torch.Tensor:
        sizes.append(len(values))
        return values

    MODEL.rerun(CLEAN, patches, "out", budget=budget).map(read)
    return sizes


@pytest.mark.parametrize("at_a_time", some([3, 1, 5]))
@pytest.mark.parametrize(
    ("edit", "rows"),
    [("resid0", PROMPTS * WIDTH), ("resid1@0", PROMPTS * WIDTH), ("resid1@16", PROMPTS * 16)],
)
def test_once_the_rows_of_a_patch_are_known_a_chunk_stays_within_the_budget(edit, rows, at_a_time):
    patches = [Patch.write(edit, OTHER)] * 20
    first, *later = chunks(patches, at_a_time * rows * ROW)
    assert first + sum(later) == 20
    assert {*later[:-1]} == {at_a_time}
    assert later[-1] <= at_a_time
    assert chunks(patches, 0)[1:] == [1] * (20 - first)


def test_where_memory_is_plenty_chunks_grow_with_what_was_seen_to_fit():
    sizes = chunks([Patch.write("resid1@31", OTHER)] * 200, 10**12)
    assert sizes[1] > sizes[0]
    assert all(b <= 8 * a for a, b in pairwise(sizes))
