"""Two runs to take values from one another: of random prompts, or of prompts that differ at every
position."""

from __future__ import annotations

from dataclasses import replace

import torch

from minigpt import GPT2, Batch, Trace
from tests.conftest import tiny


def tokens(seed: int, batch: int, length: int, vocab: int = 50) -> torch.Tensor:
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def runs(model: GPT2, seed: int, batch: int, length: int):
    return model.run(tokens(seed, batch, length)), model.run(tokens(seed + 1, batch, length))


LAYERS, WIDTH = 3, 14
MODEL = tiny(LAYERS, 2, 16, 32)


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
