"""A number on one side or on both, and the difference: what every column of every table is made
of; and what a difference of direct effects is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Both(Shown):
    """left; right where there are two sides; difference = right - left. None where there is no such
    number."""

    left: float | None = None
    right: float | None = None
    difference: float | None = None


@dataclass(frozen=True, repr=False)
class Change(Shown):
    """A difference of direct effects: what the write changed, at the left side's LayerNorm scale,
    and what that scale changed. They sum to the difference; None where there is none."""

    write: float | None = None
    scale: float | None = None


def change(left: float, held: float, right: float) -> Change:
    """The parts of right - left, held being the right side's at the left side's scale."""
    known = all(map(math.isfinite, (left, held, right)))
    return Change(held - left, right - held) if known else Change()


def both(left: float | None, right: float | None = None) -> Both:
    """The two and their difference; a number that is not finite is none."""
    left, right = (x if x is not None and math.isfinite(x) else None for x in (left, right))
    return Both(left, right, right - left if left is not None and right is not None else None)
