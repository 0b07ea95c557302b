"""Which effects of a map stand out from a crowd that does nothing in particular: the null that
`discover` holds each map against.

An effect stands out if it passes three tests, each of which is there for another mistake:

    size      at least a share of all there is to explain: in a map of trifles, the largest trifle
              is a trifle
    crowd     further from the map's median than any of as many normal draws would be. Most heads do
              nothing for a task, so the median tells where nothing lies and the median absolute
              deviation how far it strays; up to half of the heads may matter without moving either.
              The quantile is Bonferroni's: `level` is the chance of one false find in a map
    prompts   a bootstrap over prompts, paired as the effects are, at the same level: not the work
              of a few prompts
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch

from interp.effects import Effects
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

# The standard deviation of a normal crowd by its median absolute deviation: 1 / Phi^-1(3/4).
NORMAL = 1 / NormalDist().inv_cdf(0.75)


@dataclass(frozen=True, repr=False)
class Cutoff(Shown):
    """What an effect of one map must reach: `least` in size, and further from `centre` than
    `reach`; intervals hold with `level` in all."""

    least: float
    centre: float
    reach: float
    level: float

    def kept(self, effects: Effects) -> list[int]:
        """The rows that stand out, the largest first."""
        far = (effects.values.abs() >= self.least) & (
            (effects.values - self.centre).abs() >= self.reach
        )
        order = [
            i for i in effects.values.abs().argsort(descending=True, stable=True).tolist() if far[i]
        ]
        tail = self.level / max(1, len(effects)) / 2
        # Draws enough that two of them lie in each tail.
        low, high = (
            effects.rows(order).interval(1 - 2 * tail, resamples=max(2000, math.ceil(2 / tail))).T
            if order
            else torch.empty(2, 0)
        )
        return [i for i, sure in zip(order, (low * high > 0).tolist(), strict=True) if sure]

    def __str__(self) -> str:
        return f"{self.least:.3f} in size and {self.reach:.3f} from the median {self.centre:+.3f}"


def cutoff(effects: Effects, total: float, threshold: float, level: float) -> Cutoff:
    """The cutoff of a map. total: what there is to explain, of which an effect is to be `threshold`
    or more; level: chance of a false find."""
    if not (0 <= threshold < 1 and 0 < level < 1):
        raise MiniGPTError(
            f"threshold={threshold}, level={level}",
            "a share of the whole effect, from 0 to 1; a chance between 0 and 1",
            "threshold=0.02, level=0.05",
        )
    centre = effects.values.median()
    spread = NORMAL * float((effects.values - centre).abs().median())
    quantile = NormalDist().inv_cdf(1 - level / max(1, len(effects)) / 2)
    return Cutoff(threshold * abs(total), float(centre), quantile * spread, level)
