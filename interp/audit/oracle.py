"""The float64 reference (minigpt/reference.py) as the audit asks it: one prompt after another,
single neurons' writes not kept.

Kept, they would take 3 GB for one short prompt of GPT-2 small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigpt import Batch, Params, Patch, reference
from minigpt.params import tensors


class _NoNeurons(dict[str, Any]):
    """Cells but for single neurons'."""

    def __setitem__(self, name: str, x: Any) -> None:
        if ".n" not in name:
            super().__setitem__(name, x)


def run(
    params: Params,
    batch: Batch,
    patch: Patch | None = None,
    runs: Mapping[str, reference.Run] | None = None,
) -> reference.Run:
    """The reference's run of these prompts under a patch; runs: its own runs that the patch takes
    values from, by name."""
    c, w = params.config, {name: x.double().cpu().numpy() for name, x in tensors(params).items()}
    positions = {name: index.tolist() for name, index in batch.positions.items()}
    found: list[reference.Cells] = []
    for index, (row, n) in enumerate(
        zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ):
        found.append(_NoNeurons())
        said = reference.changes(patch or Patch(), c, n, index, positions)
        reference.forward(w, c, row[:n], reference.Sheet(index, n, said, runs or {}, {}, found[-1]))
    return reference.Run(c, found, positions)


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
