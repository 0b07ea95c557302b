"""What every workload is given, and the metric that every one returns. Knows torch and NumPy only:
all environments have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Sweep = Callable[[], Tensor]  # the part of a workload that grows with the number of variants
Place = tuple[Tensor, Tensor]  # an index into [B, T, ...]: prompts, positions


class Edge(NamedTuple):
    """From a write (kind "input", "head" or "mlp") to a port ("q", "k", "v" of a head, "mlp" or
    "out"); -1 where it has none."""

    sender_kind: str
    sender_layer: int
    sender_head: int
    receiver_kind: str
    receiver_layer: int
    receiver_head: int


@dataclass(frozen=True)
class Inputs:
    """Arrays by name: clean and corrupt [B, T], answers and distractors [B], and what the workload
    names besides."""

    arrays: Mapping[str, np.ndarray]

    @property
    def clean(self) -> Tensor:
        """[B, T] tokens."""
        return torch.from_numpy(self.arrays["clean"]).long()

    @property
    def corrupt(self) -> Tensor:
        """[B, T] tokens."""
        return torch.from_numpy(self.arrays["corrupt"]).long()

    def metric(self, logits: Tensor) -> Tensor:
        """[B, T or 1, V] -> [B]: the logit of the answer less that of the distractor, at the last
        position."""
        rows = torch.arange(len(logits))
        answers, distractors = (
            torch.from_numpy(self.arrays[name]).long() for name in ("answers", "distractors")
        )
        return logits[rows, -1, answers] - logits[rows, -1, distractors]

    def heads(self, name: str) -> list[tuple[int, int]]:
        """An array [N, 2] as (layer, head)."""
        return [(int(layer), int(head)) for layer, head in self.arrays[name]]

    def edges(self) -> list[Edge]:
        """The six arrays of Edge's names, side by side."""
        return [
            Edge(*row)
            for row in zip(*(self.arrays[name].tolist() for name in Edge._fields), strict=True)
        ]

    def place(self) -> Place:
        """An index (prompts, positions): `position`, a number or one for each prompt; the last
        where it is not given."""
        prompts, length = self.arrays["clean"].shape
        position = self.arrays.get("position", np.array(length - 1))
        return torch.arange(prompts), torch.from_numpy(
            np.broadcast_to(position, prompts).copy()
        ).long()

    def integer(self, name: str) -> int:
        """A number."""
        return int(self.arrays[name])

    def flag(self, name: str) -> bool:
        """A switch; off where it is not given."""
        return bool(self.arrays.get(name, False))


class KeepingMetric:
    """The metric for a library that wants one number a run: gives it the mean over the prompts, and
    keeps each prompt's value."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.kept: list[Tensor] = []

    def __call__(self, logits: Tensor) -> Tensor:
        """[B, T, V] -> a number."""
        self.kept.append(self.inputs.metric(logits))
        return self.kept[-1].mean()

    def values_of(self, table: Tensor) -> Tensor:
        """[runs, B], once the library's own table [runs] has turned out to be their means in this
        order."""
        values = torch.stack(self.kept)
        torch.testing.assert_close(table, values.mean(1).to(table), rtol=1e-4, atol=1e-5)
        return values


def later_queries(sources: list[tuple[int, int]], layers: int = 12, heads: int = 12) -> list[Edge]:
    """Every edge from these heads to a head's queries in a later layer, in the order of
    tl4_head_q."""
    return [
        Edge("head", layer, head, "q", later, receiver)
        for layer, head in sources
        for later in range(layer + 1, layers)
        for receiver in range(heads)
    ]
