"""The float64 reference (minigpt/reference.py) as the audit asks it, of a batch; of single neurons'
writes only those that the audit's patches name are kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from minigpt import Batch, Params, Patch, reference
from minigpt.params import tensors

NEURONS = (0,)


def run(
    params: Params,
    batch: Batch,
    patch: Patch | None = None,
    runs: Mapping[str, reference.Run] | None = None,
) -> reference.Run:
    """The reference's run of these prompts under a patch; runs: its own runs that the patch takes
    values from, by name."""
    weights = {name: x.double().cpu().numpy() for name, x in tensors(params).items()}
    lengths = batch.lengths.tolist()
    tokens = [row[:n] for row, n in zip(batch.tokens.tolist(), lengths, strict=True)]
    positions = {name: index.tolist() for name, index in batch.positions.items()}
    known = params.dictionaries
    return reference.run(weights, params.config, tokens, patch, runs, positions, NEURONS, known)


def values(found: reference.Run, index: int) -> dict[str, Tensor]:
    """One prompt's values by the names of compare.values; each [1, pos, ...]."""
    c, cells = found.config, found.prompts[index]
    heads = {
        f"a{layer}.{kind}": np.concatenate(
            [cells[f"a{layer}.{head}.{kind}"] for head in range(c.n_head)], -1
        )
        for layer in range(c.n_layer)
        for kind in "qkvz"
    }
    whole = {name: x for name, x in cells.items() if "." not in name or name.endswith(".mid")}
    return {name: torch.from_numpy(x)[None] for name, x in (heads | whole).items()}


def relative(found: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest exact number."""
    return float(
        (found.cpu().double() - exact).abs().max()
        / exact.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    )
