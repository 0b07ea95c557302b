"""How a component's numbers are spread: count, mean, the next three moments, ends, and how many fall
between fixed edges. Made of pieces in a fixed order, so that it is the same bits however the work
was cut."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt.shown import Shown

# Powers of two on both sides of zero: the bounds between the counts of every histogram.
_STEPS = tuple(2.0**power for power in range(-7, 8))
EDGES = (*(-x for x in reversed(_STEPS)), 0.0, *_STEPS)


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Shown):
    """Of n components: count, the same for all; mean; sums of the second, third and fourth powers
    of what is left when the mean is taken off; least and most; counts between EDGES, each bound
    belonging to what is above it. float64."""

    count: int
    mean: Float[Tensor, "n"]
    second: Float[Tensor, "n"]
    third: Float[Tensor, "n"]
    fourth: Float[Tensor, "n"]
    least: Float[Tensor, "n"]
    most: Float[Tensor, "n"]
    counts: Int[Tensor, "n bins"]

    @classmethod
    def of(cls, x: Float[Tensor, "pos n"]) -> Moments:
        """Of some rows."""
        wide = x.double()
        mean = wide.mean(0)
        away = wide.sub_(mean) if wide is not x else wide - mean
        square = away * away
        second, fourth = square.sum(0), (square * square).sum(0)
        third = square.mul_(away).sum(0)
        ends = x.min(0).values.double(), x.max(0).values.double()
        return cls(len(x), mean, second, third, fourth, *ends, histogram(x))

    def __or__(self, other: Moments) -> Moments:
        """Of both, this one's numbers first (Pebay 2008, equations 2.1 and 3.1)."""
        a, b = self.count, other.count
        if not a or not b:
            return self if a else other
        n = a + b
        step = other.mean - self.mean
        part = step / n
        cross = step * part * (a * b)
        third = cross * part * (a - b) + 3 * part * (a * other.second - b * self.second)
        fourth = (
            cross * part * part * (a * a - a * b + b * b)
            + 6 * part * part * (a * a * other.second + b * b * self.second)
            + 4 * part * (a * other.third - b * self.third)
        )
        return Moments(
            n,
            self.mean + b * part,
            self.second + other.second + cross,
            self.third + other.third + third,
            self.fourth + other.fourth + fourth,
            torch.minimum(self.least, other.least),
            torch.maximum(self.most, other.most),
            self.counts + other.counts,
        )

    @classmethod
    def none(cls, n: int) -> Moments:
        """Of nothing."""
        zero = torch.zeros(n, dtype=torch.float64)
        ends = torch.full_like(zero, torch.inf), torch.full_like(zero, -torch.inf)
        counts = torch.zeros(n, len(EDGES) + 1, dtype=torch.int64)
        return cls(0, zero, zero, zero, zero, *ends, counts)

    @classmethod
    def joined(cls, parts: list[Moments]) -> Moments:
        """Of all components of some groups that have seen the same tokens."""
        names = [field.name for field in fields(cls)][1:]
        return cls(
            parts[0].count, *(torch.cat([getattr(part, name) for part in parts]) for name in names)
        )

    @property
    def variance(self) -> Float[Tensor, "n"]:
        """The mean square of what is left when the mean is taken off."""
        return self.second / self.count

    @property
    def skewness(self) -> Float[Tensor, "n"]:
        """The third standardised moment; 0 of what never changes."""
        return (self.third / self.count / self.variance**1.5).nan_to_num(0.0, 0.0, 0.0)

    @property
    def kurtosis(self) -> Float[Tensor, "n"]:
        """The fourth standardised moment, 3 of a normal distribution; 0 of what never changes."""
        return (self.fourth / self.count / self.variance**2).nan_to_num(0.0, 0.0, 0.0)


def histogram(x: Float[Tensor, "pos n"]) -> Int[Tensor, "n bins"]:
    """How many of each component's numbers lie between EDGES."""
    bins, n = len(EDGES) + 1, x.shape[1]
    edges = torch.tensor(EDGES, dtype=x.dtype)
    places = torch.bucketize(x, edges, right=True, out_int32=True)
    places += torch.arange(0, n * bins, bins, dtype=torch.int32)
    return torch.bincount(places.flatten(), minlength=n * bins).view(n, bins)
