"""A cheap first look at all edges: exact effects on few pairs choose those that are found on all;
what that misses is measured on some of the others, by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.circuit.search import every_edges, exact
from interp.circuit.turns import Turns
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

# Of the edges that are kept, the share whose largest are what was looked for.
WANTED = 3


@dataclass(frozen=True, eq=False, repr=False)
class Screened(Shown):
    """edges: those that were found on all pairs; lost [edges, prompts]: what is lost without each.

    Of the `wanted` largest in size, `missed` are expected to be among the `out` that were not
    looked at further: so many as `drawn` of these, found on all pairs too, say.
    """

    edges: list[str]
    lost: Float[Tensor, "edges prompts"]
    out: int
    drawn: int
    larger: int
    wanted: int

    @property
    def missed(self) -> float:
        """How many of the wanted are expected to be among those that were screened out."""
        return self.out * self.larger / self.drawn if self.drawn else 0.0

    def to_dict(self) -> dict[str, Any]:
        """How it was screened, and what that misses."""
        names = ("out", "drawn", "larger", "wanted", "missed")
        return {"kept": len(self.edges), **{name: getattr(self, name) for name in names}}


def screen(few: Turns, every: Turns, keep: int, *, sample: int = 200, seed: int = 0) -> Screened:
    """The effects on all pairs (`every`) of the edges that are largest on some of them (`few`)."""
    names = every_edges(every)
    if not 0 < keep <= len(names):
        raise MiniGPTError(f"{keep} edges to keep", f"1 to {len(names)}")
    first = exact(few).mean(1).abs()
    order = first.argsort(descending=True, stable=True).tolist()
    kept, rest = order[:keep], order[keep:]
    by_chance = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:sample]
    drawn = [rest[i] for i in by_chance.tolist()]
    lost = exact(every, [names[i] for i in (*kept, *drawn)])
    size, wanted = lost.mean(1).abs(), max(1, keep // WANTED)
    least = size[:keep].sort(descending=True).values[wanted - 1]
    larger = int((size[keep:] > least).sum())
    return Screened([names[i] for i in kept], lost[:keep], len(rest), len(drawn), larger, wanted)
