"""The windows that are kept of each component: those with its largest numbers, its smallest ones,
and some at random; each with what it did around that token."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.corpus.groups import Did
from minigpt.shown import Shown

# Tokens that are kept around the one with the number, and how many of them come after it.
SPAN, AFTER = 32, 8
NOWHERE = 2**40
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, eq=False, repr=False)
class Best(Shown):
    """The k windows of the largest key, of n components: key; window; the token's position `at`, of
    heads the source; what the component did in the SPAN tokens from `first` on, NaN outside of the
    window; least: what a key must exceed to be kept. A place that is still free has the key -inf.
    Changed in place while a corpus is read."""

    key: Float[Tensor, "n k"]
    value: Float[Tensor, "n k"]
    window: Int[Tensor, "n k"]
    at: Int[Tensor, "n k"]
    source: Int[Tensor, "n k"]
    first: Int[Tensor, "n k"]
    acts: Float[Tensor, "n k span"]

    least: Float[Tensor, "n"]

    @classmethod
    def none(cls, n: int, k: int, least: Float[Tensor, "n"] | None = None) -> Best:
        """Nothing yet, and nothing to be kept that is not above `least`."""
        shape = (n, k)
        at, source, first = (torch.full(shape, -1, dtype=torch.int16) for _ in range(3))
        return cls(
            torch.full(shape, -torch.inf, dtype=torch.float64),
            torch.zeros(shape),
            torch.full(shape, NOWHERE),
            at,
            source,
            first,
            torch.full((*shape, SPAN), torch.nan, dtype=torch.float16),
            torch.full((n,), -torch.inf, dtype=torch.float64) if least is None else least.clone(),
        )

    def offer(
        self, start: int, key: Float[Tensor, "m"], window: int, did: Did, skip: int, sign: int = 1
    ) -> None:
        """Keep a window of the components from `start` on, where its key is among the k largest; of
        equals those that were offered first. It stands for the token, from `skip` on, of the
        largest number, with sign=-1 of the smallest."""
        better = (key > self.least[start : start + len(key)]).nonzero().flatten()
        if not len(better):
            return
        rows = start + better
        slot = self._slot(rows)
        values = did.values[:, better]
        here = (sign * values[skip:]).argmax(0) + skip
        first = (here - (SPAN - AFTER - 1)).clamp(max=max(0, len(values) - SPAN)).clamp(min=0)
        each = torch.arange(len(better))
        self.key[rows, slot] = key[better]
        self.value[rows, slot] = values[here, each].float()
        self.window[rows, slot] = window
        self.at[rows, slot] = here.to(torch.int16)
        self.first[rows, slot] = first.to(torch.int16)
        self.acts[rows, slot] = _around(values, first, each)
        if did.source is not None:
            self.source[rows, slot] = did.source[here, better].to(torch.int16)
        self.least[rows] = torch.maximum(self.least[rows], self.key[rows].amin(1))

    def _slot(self, rows: Int[Tensor, "m"]) -> Int[Tensor, "m"]:
        """The place of the least key; of equals that of the latest window."""
        key, window = self.key[rows], self.window[rows]
        lowest = key == key.amin(1, keepdim=True)
        return torch.where(lowest, window, -1).argmax(1)

    def __or__(self, other: Best) -> Best:
        """The k best of both, the best first; of equals the window that comes first."""
        k = self.key.shape[1]
        both = [torch.cat([getattr(x, name) for x in (self, other)], 1) for name in NAMES]
        order = _order(both[0], both[2])[:, :k]
        kept = {
            name: torch.take_along_dim(x, _like(order, x), 1)
            for name, x in zip(NAMES, both, strict=True)
        }
        return Best(**kept, least=kept["key"].amin(1))

    def part(self, rows: slice | Bool[Tensor, "n"]) -> Best:
        """Of some components."""
        return Best(**{name: x[rows] for name, x in vars(self).items()})


# What stands in places, [n, k, ...].
NAMES = tuple(field.name for field in fields(Best) if field.name != "least")


def _around(
    values: Float[Tensor, "pos n"], first: Int[Tensor, "m"], rows: Int[Tensor, "m"]
) -> Float[Tensor, "m span"]:
    """What components did in the SPAN tokens from `first` on."""
    places = first[:, None] + torch.arange(SPAN)
    outside = places >= len(values)
    found = values[places.clamp(max=len(values) - 1), rows[:, None]].clamp(-LARGEST, LARGEST)
    return found.to(torch.float16).masked_fill_(outside, torch.nan)


def _order(key: Float[Tensor, "n k"], window: Int[Tensor, "n k"]) -> Int[Tensor, "n k"]:
    """By key, the largest first, then by window."""
    first = window.argsort(dim=1, stable=True)
    then = key.gather(1, first).argsort(dim=1, descending=True, stable=True)
    return first.gather(1, then)


def _like(order: Int[Tensor, "n k"], x: Tensor) -> Int[Tensor, "n k *rest"]:
    return order if x.ndim == 2 else order[..., None]
