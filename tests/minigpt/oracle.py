"""A small model, two runs of it, and the reference's runs of the same prompts: what tests of the
reference share."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from minigpt import GPT2, Trace, reference
from minigpt.patch import Patch
from minigpt.patch.edit import ZERO
from tests.conftest import tiny
from tests.patches import reference_of

F64 = torch.float64


def draw(seed: int, batch: int = 3, length: int = 5, vocab: int = 50) -> torch.Tensor:
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


@cache
def world(n_layer: int = 2, seed: int = 0) -> tuple[GPT2, Trace, Trace]:
    """A model, a run and another: "clean" and "corrupt"."""
    model = tiny(n_layer, seed=seed, dtype=F64)
    return model, model.run(draw(1)), model.run(draw(2))


def patched(patch: Patch, which: int = 1, **runs: object) -> reference.Run:
    """The reference's run of world()'s clean (1) or corrupt (2) prompts under a patch."""
    return reference_of(world()[0], world()[which], patch, runs)


def same(a: reference.Run, b: reference.Run, names: object = ("logits",)) -> bool:
    """Whether two runs agree, within rounding, at these addresses."""
    pairs = ((a.logits, b.logits) if name == "logits" else (a[name], b[name]) for name in names)
    return all(np.allclose(x, y, rtol=1e-10, atol=1e-10) for x, y in pairs)


def joined(parts: object) -> Patch:
    parts = list(parts)
    return Patch(tuple(e for p in parts for e in p.edits), tuple(h for p in parts for h in p.holds))


def write(name: str, run: Trace, label: str = "corrupt") -> Patch:
    return Patch.write(name, run, name=label)


def sources_of(patch: Patch) -> dict[str, object]:
    """What the names in a patch's text stand for."""
    found = {}
    for line in (*patch.edits, *patch.holds):
        given = line.source
        found |= (
            {given.name: given.run if given.value is None else given.value} if given != ZERO else {}
        )
        found |= {given.by_name: given.by} if given.by is not None else {}
    return found
