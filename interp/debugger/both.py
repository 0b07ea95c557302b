"""A number on one side or on both, and the difference: what every column of every table is made
of."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Both:
    """left; right where there are two sides; difference = right - left. None where there is no such
    number."""

    left: float | None = None
    right: float | None = None
    difference: float | None = None


def both(left: float | None, right: float | None = None) -> Both:
    """The two and their difference; a number that is not finite is none."""
    left, right = (x if x is not None and math.isfinite(x) else None for x in (left, right))
    return Both(left, right, right - left if left is not None and right is not None else None)
