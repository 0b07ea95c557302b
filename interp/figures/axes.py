"""Where a value lies in a still picture: the axes of a plotly figure, in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Pixels: of a letter's width in a label, between two labels, between two of an axis of numbers.
LETTER, APART, SPREAD = 6.6, 14, 90

Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    """`low` lies at the pixel `start`, `high` at `end`: numbers, their decimal logarithms where
    `log`, or places in `names`. shown: plotly's axis."""

    shown: Any
    names: tuple[str, ...]
    low: float
    high: float
    start: float
    end: float

    @property
    def log(self) -> bool:
        """Whether it is of logarithms."""
        return bool(self.shown.type == "log")

    def at(self, value: Any) -> float:
        """The pixel of a value; NaN where it has none."""
        share = (_unit(value, self.names, self.log) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def step(self) -> float:
        """Pixels from 0 to 1, or from a name to the next."""
        return abs((self.end - self.start) / (self.high - self.low))

    def ticks(self) -> list[Tick]:
        """Labels and their pixels, as many as there is room for."""
        if self.shown.tickvals is not None:
            return [*zip(map(self.at, self.shown.tickvals), self.shown.ticktext, strict=True)]
        if self.names:
            every = math.ceil(APART / self.step)
            return [(self.at(name), name) for name in self.names[::every]]
        return list(self._decades() if self.log else self._numbers())

    def _decades(self) -> Iterator[Tick]:
        low, high = sorted((self.low, self.high))
        for power in range(math.ceil(low), math.floor(high) + 1):
            yield self.at(10.0**power), f"1e{power}"

    def _numbers(self) -> Iterator[Tick]:
        low, high = sorted((self.low, self.high))
        step = self.shown.dtick or _round((high - low) * SPREAD / abs(self.end - self.start))
        step *= math.ceil(APART / (step * self.step))
        for i in range(math.ceil(low / step), math.floor(high / step) + 1):
            yield self.at(i * step), f"{round(i * step, 12):g}"


def names(shown: Any, values: Iterable[Any]) -> tuple[str, ...]:
    """What an axis of names has on it, in order; nothing of an axis of numbers."""
    found = tuple(dict.fromkeys(str(value) for value in values if value is not None))
    words = any(isinstance(value, str) for value in values)
    return found if shown.type == "category" or (shown.type is None and words) else ()


def axis(
    shown: Any, values: Sequence[Any], pixels: tuple[float, float], *, cells: bool, zero: bool
) -> Axis:
    """The axis of these values between two pixels. cells: each is the middle of a cell; zero: it
    reaches from there."""
    called = names(shown, values)
    if shown.range is not None:
        low, high = map(float, shown.range)
    elif called:
        low, high = -0.5, len(called) - 0.5
    else:
        low, high = _reach([*values, *([0.0] * zero)], shown.type == "log", cells)
    if shown.autorange == "reversed":
        low, high = high, low
    return Axis(shown, called, low, high, *pixels)


def _reach(values: Sequence[Any], log: bool, cells: bool) -> tuple[float, float]:
    units = [unit for value in values if math.isfinite(unit := _unit(value, (), log))]
    low, high = min(units, default=0.0), max(units, default=1.0)
    pad = 0.5 if cells else 0.06 * (high - low) or 0.5
    return low - pad, high + pad


def _unit(value: Any, called: tuple[str, ...], log: bool) -> float:
    if called and isinstance(value, str):
        return float(called.index(value))
    if value is None or (log and value <= 0):
        return math.nan
    return math.log10(value) if log else float(value)


def _round(least: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(part * power for part in (1, 2, 5, 10) if part * power >= 0.999 * least)
