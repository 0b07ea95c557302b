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
LARGEST = torch.finfo(torch.float16).max
# Bits of a rank that say which window: fewer than the first have more.
BITS, LAST = 31, 2**31 - 1
# The rank of a place that is still free.
FREE = -(2**62) - 1


@dataclass(frozen=True, eq=False, repr=False)
class Best(Shown):
    """The k windows of the largest key, of n components: rank, the key and the window in one
    number, of equal keys the first window's being larger; the number's value; the token's position
    `at`, of heads the source; what the component did in the SPAN tokens from `first` on, NaN
    outside of the window; least: what a rank must exceed to be kept. Changed in place while a
    corpus is read."""

    rank: Int[Tensor, "n k"]
    value: Float[Tensor, "n k"]
    at: Int[Tensor, "n k"]
    source: Int[Tensor, "n k"]
    first: Int[Tensor, "n k"]
    acts: Float[Tensor, "n k span"]

    least: Int[Tensor, "n"]

    @classmethod
    def none(cls, n: int, k: int, least: Int[Tensor, "n"] | None = None) -> Best:
        """Nothing yet, and nothing to be kept that is not above `least`."""
        shape = (n, k)
        at, source, first = (torch.full(shape, -1, dtype=torch.int16) for _ in range(3))
        return cls(
            torch.full(shape, FREE),
            torch.zeros(shape),
            at,
            source,
            first,
            torch.full((*shape, SPAN), torch.nan, dtype=torch.float16),
            torch.full((n,), FREE) if least is None else least.clone(),
        )

    @property
    def window(self) -> Int[Tensor, "n k"]:
        """The windows; LAST in a place that is free."""
        return torch.where(self.rank == FREE, LAST, LAST - (self.rank & LAST))

    def offer(
        self,
        start: int,
        keys: Int[Tensor, "windows m"],
        first: int,
        did: Did,
        counted: Bool[Tensor, "windows pos"],
        sign: int = 1,
    ) -> None:
        """Keep windows, from `first` on, of the components from `start` on, where their keys are
        among the k largest; of equals those that come first. A window stands for the token that
        counts and has the largest number, with sign=-1 the smallest."""
        from interp.corpus import kernels  # its library is an extra

        windows, m = keys.shape
        some = slice(start, start + m)
        new = ranks(keys, first + torch.arange(windows)[:, None])
        taken = torch.full((m, self.rank.shape[1]), -1, dtype=torch.int16)
        kernels.threads()
        kernels.chosen(*(x.numpy() for x in (new, self.rank[some], self.least[some], taken)))
        component, slot = (taken >= 0).nonzero(as_tuple=True)
        if len(component):
            found = component, taken[component, slot].long()
            self._put((start + component, slot), found, did, counted, sign)

    def _put(
        self,
        place: tuple[Tensor, Tensor],
        found: tuple[Tensor, Tensor],
        did: Did,
        counted: Bool[Tensor, "windows pos"],
        sign: int,
    ) -> None:
        """What components did in windows of the block, into these places."""
        from interp.corpus import kernels

        component, window = found
        n = len(component)
        value, acts = torch.empty(n), torch.empty(n, SPAN)
        at, first = torch.empty(2, n, dtype=torch.int16)
        given = (x.numpy() for x in (did.values.contiguous(), counted, component, window))
        out = (x.numpy() for x in (value, at, first, acts))
        kernels.around(*given, sign, AFTER, *out)
        self.value[place], self.at[place], self.first[place] = value, at, first
        self.acts[place] = acts.clamp_(-LARGEST, LARGEST).to(torch.float16)
        if did.source is not None:
            self.source[place] = did.source[window, at.long(), component]

    def __or__(self, other: Best) -> Best:
        """The k best of both, the best first; of equals the window that comes first."""
        k = self.rank.shape[1]
        order = torch.cat([self.rank, other.rank], 1).topk(k).indices
        kept = {}
        for name in NAMES:  # one after the other, for the sake of memory
            both = torch.cat([getattr(self, name), getattr(other, name)], 1)
            kept[name] = torch.take_along_dim(both, _like(order, both), 1)
        return Best(**kept, least=kept["rank"].amin(1))

    @property
    def ordered(self) -> Best:
        """The best first."""
        return self | self.none(len(self.rank), 0)

    def part(self, rows: slice | Bool[Tensor, "n"]) -> Best:
        """Of some components."""
        return Best(**{name: x[rows] for name, x in vars(self).items()})


# What stands in places, [n, k, ...].
NAMES = tuple(field.name for field in fields(Best) if field.name != "least")


def ranks(keys: Int[Tensor, "*n"], windows: Int[Tensor, "*m"]) -> Int[Tensor, "*n"]:
    """Keys of 32 bits and windows in one number."""
    return (keys << BITS) | (LAST - windows)


def keys(x: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Numbers in the order of their size, as float32 has them."""
    bits = (x.float() + 0.0).view(torch.int32)  # -0 is 0
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()


def _like(order: Int[Tensor, "n k"], x: Tensor) -> Int[Tensor, "n k *rest"]:
    return order if x.ndim == 2 else order[..., None]
