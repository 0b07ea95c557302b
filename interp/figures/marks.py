"""What a plotly figure draws, as SVG: cells, bars, lines, points, arrows, by their axes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from plotly.colors import hex_to_rgb, unlabel_rgb

from interp.figures.axes import Axis

Scale = Sequence[tuple[float, str]]
Point = tuple[float, float]


def text(at: Point, words: str, anchor: str = "middle", style: str = "") -> str:
    """A line of text, escaped."""
    x, y = at
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place} {style}>{escape(words)}</text>"


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """A filled rectangle."""
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{fill}"/>'


def line(start: Point, end: Point, style: str) -> str:
    """A straight line."""
    (a, b), (c, d) = start, end
    return f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" {style}/>'


def colour(scale: Scale, share: float) -> str:
    """The colour at a share of a scale.

    >>> colour([(0, '#000000'), (1, '#ffffff')], 0.5)
    '#808080'
    """
    share = min(max(share, 0.0), 1.0)
    (low, a), (high, b) = next(ends for ends in pairwise(scale) if share <= ends[1][0])
    part = (share - low) / (high - low)
    return "#" + "".join(
        f"{round(x + part * (y - x)):02x}" for x, y in zip(_rgb(a), _rgb(b), strict=True)
    )


def heat(trace: Any, x: Axis, y: Axis, _shade: str) -> Iterator[str]:
    """A cell for each number."""
    low, high = ends(trace)
    width, height = x.step - (trace.xgap or 0), y.step - (trace.ygap or 0)
    across = range(len(trace.z[0])) if trace.x is None else trace.x
    down = range(len(trace.z)) if trace.y is None else trace.y
    for name, row in zip(down, trace.z, strict=True):
        for column, value in zip(across, row, strict=True):
            if value is not None and value == value:
                shade = colour(trace.colorscale, (value - low) / ((high - low) or 1))
                corner = x.at(column) - width / 2, y.at(name) - height / 2
                yield box(*corner, width, height, shade)


def ends(trace: Any) -> Point:
    """The numbers at both ends of a heat map's scale."""
    known = [v for row in trace.z for v in row if v is not None and v == v] or [0.0]
    return (
        min(known) if trace.zmin is None else trace.zmin,
        max(known) if trace.zmax is None else trace.zmax,
    )


def bar(trace: Any, x: Axis, y: Axis, shade: str, slot: Point = (0.0, 1.0)) -> Iterator[str]:
    """A bar for each number, from zero. slot: which part of the room of each name, and how much."""
    flat = trace.orientation == "h"
    fills = trace.marker.color or shade
    first, share = slot
    for i, (across, up) in enumerate(zip(trace.x, trace.y, strict=True)):
        fill = fills if isinstance(fills, str) else fills[i]
        long, wide = (x, y) if flat else (y, x)
        value, name = (across, up) if flat else (up, across)
        tip, foot = sorted((long.at(value), long.at(0)))
        side = wide.at(name) + wide.step * (0.8 * (first - 0.5))
        thick = 0.8 * share * wide.step
        sizes = (tip, side, foot - tip, thick) if flat else (side, tip, thick, foot - tip)
        yield box(*sizes, fill)


def scatter(trace: Any, x: Axis, y: Axis, shade: str) -> Iterator[str]:
    """Lines between points, points, and the words above them, as the trace's mode says."""
    mode = trace.mode or "lines+markers"
    every = [(x.at(across), y.at(up)) for across, up in zip(trace.x, trace.y, strict=True)]
    places = [place if all(map(math.isfinite, place)) else None for place in every]
    if "lines" in mode:
        stroke = f'fill="none" stroke="{trace.line.color or shade}" stroke-width="2"'
        yield from (line(a, b, stroke) for a, b in pairwise(places) if a and b)
    if "markers" in mode:
        yield from (_point(trace, place, shade) for place in places if place)
    if "text" in mode:
        above = (trace.marker.size or 6) / 2 + 5
        for place, words in zip(places, trace.text, strict=True):
            yield text((place[0], place[1] - above), words) if place else ""


def arrow(shown: Any, x: Axis, y: Axis) -> str:
    """An annotation's arrow, which ends short of both points."""
    tail, tip = (x.at(shown.ax), y.at(shown.ay)), (x.at(shown.x), y.at(shown.y))
    length = math.dist(tail, tip) or 1.0
    along = ((tip[0] - tail[0]) / length, (tip[1] - tail[1]) / length)
    start, stop = shown.startstandoff or 0, length - (shown.standoff or 0)
    a, b = ((tail[0] + n * along[0], tail[1] + n * along[1]) for n in (start, stop))
    look = f'stroke="{shown.arrowcolor}" stroke-width="{shown.arrowwidth or 1:g}"'
    return line(a, b, f'{look} opacity="{shown.opacity or 1:g}" marker-end="url(#tip)"')


def _point(trace: Any, place: Point, shade: str) -> str:
    fill, half = trace.marker.color or trace.line.color or shade, (trace.marker.size or 6) / 2
    (x, y), seen = place, trace.marker.opacity or 1
    if trace.marker.symbol == "line-ew-open":
        return line((x - half, y), (x + half, y), f'stroke="{fill}" stroke-width="2"')
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{half:g}" fill="{fill}" opacity="{seen:g}"/>'


def _rgb(shade: str) -> tuple[float, float, float]:
    parts: tuple[float, float, float] = (hex_to_rgb if shade[0] == "#" else unlabel_rgb)(shade)
    return parts
