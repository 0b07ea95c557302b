"""How a component's numbers are spread: count, mean, the next three moments, ends, and how many
fall between fixed edges. Made of pieces in a fixed order, so that it is the same bits however the
work was cut."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.shown import Shown

# Powers of two on both sides of zero: the bounds between the counts of every histogram. A float32's
# sign and exponent say between which a number is.
_STEPS = tuple(2.0**power for power in range(-7, 8))
# Nearer to zero is as good as nothing.
LEAST = 2.0**-100
EDGES = (*(-x for x in reversed(_STEPS)), -LEAST, LEAST, *_STEPS)
BINS = len(EDGES) + 1
# The exponent below the first step, and the bits of LEAST, as a float32 has them.
_BELOW, _NOTHING = np.int32(127 - 8 - 1), np.int32((127 - 100) << 23)


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Shown):
    """Of n components: count, the same for all; mean; sums of the second, third and fourth powers
    of what is left when the mean is taken off; least and most; counts between EDGES, a bound
    belonging to what is further from zero. float64."""

    count: int
    mean: Float[Tensor, "n"]
    second: Float[Tensor, "n"]
    third: Float[Tensor, "n"]
    fourth: Float[Tensor, "n"]
    counts: Int[Tensor, "n bins"]
    least: Float[Tensor, "n"]
    most: Float[Tensor, "n"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "windows pos n"], counted: Bool[Tensor, "windows pos"]
    ) -> tuple[Moments, Float[Tensor, "windows n"], Float[Tensor, "windows n"]]:
        """Of the tokens that count in some windows; and each window's least and most."""
        from interp.corpus import kernels  # its library is an extra

        windows, _, n = x.shape
        sums = torch.zeros(4, n, dtype=torch.float64)
        counts = torch.zeros(n, BINS, dtype=torch.int64)
        least, most = torch.empty(2, windows, n, dtype=x.dtype)
        x = x.contiguous()
        bits, inside = x.float().view(torch.int32).numpy(), counted.numpy()
        kernels.threads()
        kernels.spread(x.numpy(), inside, sums.numpy(), least.numpy(), most.numpy())
        kernels.histogram(bits, inside, counts.numpy(), _BELOW, _NOTHING)
        ends = least.amin(0).double(), most.amax(0).double()
        mean, second, third, fourth = sums
        n = int(counted.sum())
        return cls(n, mean, second, third, fourth, counts, *ends), least, most

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
            self.counts + other.counts,
            torch.minimum(self.least, other.least),
            torch.maximum(self.most, other.most),
        )

    @classmethod
    def none(cls, n: int) -> Moments:
        """Of nothing."""
        zero = torch.zeros(n, dtype=torch.float64)
        ends = torch.full_like(zero, torch.inf), torch.full_like(zero, -torch.inf)
        counts = torch.zeros(n, BINS, dtype=torch.int64)
        return cls(0, zero, zero, zero, zero, counts, *ends)

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
    counted = torch.ones(1, len(x), dtype=torch.bool)
    return Moments.of(x[None], counted)[0].counts
