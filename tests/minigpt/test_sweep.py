"""A sweep's chunks: as many patches at a time as the working memory that it may take allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from minigpt import Patch
from tests.conftest import tiny

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


@pytest.mark.parametrize("at_a_time", [1, 3, 5])
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
