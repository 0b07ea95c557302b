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
        self,
        start: int,
        key: Float[Tensor, "windows m"],
        first: int,
        did: Did,
        counted: Bool[Tensor, "windows pos"],
        sign: int = 1,
    ) -> None:
        """Keep windows, from `first` on, of the components from `start` on, where their keys are
        among the k largest; of equals those that come first. A window stands for the token that
        counts and has the largest number, with sign=-1 the smallest."""
        enters = key > self.least[start : start + key.shape[1]]
        turn = enters.cumsum(0)
        for now in range(1, int(turn[-1].max()) + 1):  # a window of each component at a time
            window, component = ((turn == now) & enters).nonzero(as_tuple=True)
            rows = start + component
            better = key[window, component] > self.least[rows]
            chosen = rows[better], window[better], component[better]
            if len(chosen[0]):
                self._put(*chosen, key, first, did, counted, sign)

    def _put(
        self,
        rows: Int[Tensor, "m"],
        window: Int[Tensor, "m"],
        component: Int[Tensor, "m"],
        key: Float[Tensor, "windows n"],
        first: int,
        did: Did,
        counted: Bool[Tensor, "windows pos"],
        sign: int,
    ) -> None:
        values, inside = did.values[window, :, component], counted[window]
        ends = inside.int().cumsum(1).argmax(1) + 1  # behind the last that counts
        at = (sign * values).masked_fill(~inside, -torch.inf).argmax(1)
        begin = torch.minimum(at - (SPAN - AFTER - 1), ends - SPAN)
        begin = torch.maximum(begin, inside.int().argmax(1))  # the first that counts
        slot = self._slot(rows)
        self.key[rows, slot] = key[window, component]
        self.value[rows, slot] = values.gather(1, at[:, None])[:, 0].float()
        self.window[rows, slot] = first + window
        self.at[rows, slot] = at.to(torch.int16)
        self.first[rows, slot] = begin.to(torch.int16)
        self.acts[rows, slot] = _around(values, begin, ends)
        if did.source is not None:
            self.source[rows, slot] = did.source[window, at, component].to(torch.int16)
        self.least[rows] = torch.maximum(self.least[rows], self.key[rows].amin(1))

    def _slot(self, rows: Int[Tensor, "m"]) -> Int[Tensor, "m"]:
        """The place of the least key; of equals that of the latest window."""
        key, window = self.key[rows], self.window[rows]
        lowest = key == key.amin(1, keepdim=True)
        return torch.where(lowest, window, -1).argmax(1)

    def __or__(self, other: Best) -> Best:
        """The k best of both, the best first; of equals the window that comes first."""
        k = self.key.shape[1]
        order = _order(_beside(self, other, "key"), _beside(self, other, "window"))[:, :k]
        kept = {}
        for name in NAMES:  # one after the other, for the sake of memory
            both = _beside(self, other, name)
            kept[name] = torch.take_along_dim(both, _like(order, both), 1)
        return Best(**kept, least=kept["key"].amin(1))

    @property
    def ordered(self) -> Best:
        """The best first."""
        return self | self.none(len(self.key), 0)

    def part(self, rows: slice | Bool[Tensor, "n"]) -> Best:
        """Of some components."""
        return Best(**{name: x[rows] for name, x in vars(self).items()})


# What stands in places, [n, k, ...].
NAMES = tuple(field.name for field in fields(Best) if field.name != "least")


def _beside(a: Best, b: Best, name: str) -> Tensor:
    return torch.cat([getattr(a, name), getattr(b, name)], 1)


def _around(
    values: Float[Tensor, "m pos"], first: Int[Tensor, "m"], ends: Int[Tensor, "m"]
) -> Float[Tensor, "m span"]:
    """What components did in the SPAN tokens from `first` on, NaN from a window's end on."""
    places = first[:, None] + torch.arange(SPAN)
    found = values.gather(1, places.clamp(max=values.shape[1] - 1)).clamp(-LARGEST, LARGEST)
    return found.to(torch.float16).masked_fill_(places >= ends[:, None], torch.nan)


def _order(key: Float[Tensor, "n k"], window: Int[Tensor, "n k"]) -> Int[Tensor, "n k"]:
    """By key, the largest first, then by window."""
    first = window.argsort(dim=1, stable=True)
    then = key.gather(1, first).argsort(dim=1, descending=True, stable=True)
    return first.gather(1, then)


def _like(order: Int[Tensor, "n k"], x: Tensor) -> Int[Tensor, "n k *rest"]:
    return order if x.ndim == 2 else order[..., None]
