"""A plotly figure as a still picture, SVG: for whoever sees it where no script runs.

Draws the kinds of marks that this project's figures have, and says so where a figure has others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import plotly.graph_objects as go

from interp.figures import marks
from interp.figures.axes import LETTER, Axis, axis

WIDTH, HEIGHT = 800, 450
LINE = 'stroke="#888" stroke-opacity="0.35"'
TIP = (
    '<defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" '
    'orient="auto"><path d="M0 0L6 3L0 6z" fill="#888"/></marker></defs>'
)
KINDS: dict[str, Callable[..., Iterator[str]]] = {
    "heatmap": marks.heat,
    "bar": marks.bar,
    "scatter": marks.scatter,
}

# Left, top, right, bottom in pixels.
Room = tuple[float, float, float, float]


def svg(figure: go.Figure) -> str:
    """The whole picture."""
    height = figure.layout.height or HEIGHT
    body = "".join(chain(_title(figure), *_panels(figure, _room(figure, height)), _legend(figure)))
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    ink = figure.layout.font.color or "#777"
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} fill="{ink}">{TIP}{body}</svg>'


def _title(figure: go.Figure) -> Iterator[str]:
    yield marks.text((16, 24), figure.layout.title.text or "", "start", 'font-size="15"')


def _room(figure: go.Figure, height: float) -> Room:
    """Where the panels are: what titles, labels, colour bar and legend leave."""
    layout = figure.layout
    down = max(map(len, _labels(figure, "y")), default=0) * LETTER
    across = max(map(len, _labels(figure, "x")), default=0) * LETTER
    below = across * math.sin(math.radians(abs(layout.xaxis.tickangle or 0))) + 16
    side = max(map(len, _named(figure)), default=0) * LETTER + 30 * bool(_named(figure))
    return (
        16 + down + 22 * bool(layout.yaxis.title.text),
        46 + 16 * any(not note.showarrow for note in layout.annotations),
        WIDTH - 20 - (64 if _bar(figure) else 0) - side,
        height - 10 - below - 22 * bool(layout.xaxis.title.text),
    )


def _labels(figure: go.Figure, way: str) -> list[str]:
    """The labels of the axis, before there is room for them."""
    shown = _axis(figure.layout[f"{way}axis"], way, _known(figure), (0, WIDTH))
    return [label for _, label in shown.ticks()]


def _axis(shown: Any, way: str, drawn: Sequence[Any], pixels: tuple[float, float]) -> Axis:
    values = [value for trace in drawn for value in _values(trace, way)]
    long = {"h": "x"}
    bars = any(t.type == "bar" and long.get(t.orientation, "y") == way for t in drawn)
    cells = any(t.type == "heatmap" for t in drawn)
    zero = bars or shown.rangemode == "tozero"
    return axis(shown, values, pixels, cells=cells, zero=zero)


def _values(trace: Any, way: str) -> Sequence[Any]:
    if trace[way] is not None or trace.type != "heatmap":
        return list(trace[way] if trace[way] is not None else ())
    return range(len(trace.z if way == "y" else trace.z[0]))


def _panels(figure: go.Figure, room: Room) -> Iterator[Iterator[str]]:
    """Each pair of axes with what is drawn on it; then what belongs to all."""
    pairs = dict.fromkeys(map(_pair, _known(figure)))
    for pair in pairs or {("x", "y"): None}:
        yield _panel(figure, room, *pair)
    if shown := _bar(figure):
        yield _colours(shown, room)
    yield (_note(note, room) for note in figure.layout.annotations if not note.showarrow)


def _known(figure: go.Figure) -> list[Any]:
    return [trace for trace in figure.data if trace.type in KINDS]


def _pair(trace: Any) -> tuple[str, str]:
    return trace.xaxis or "x", trace.yaxis or "y"


def _panel(figure: go.Figure, room: Room, across: str, up: str) -> Iterator[str]:
    shown = [figure.layout[f"{name[0]}axis{name[1:]}"] for name in (across, up)]
    drawn = [trace for trace in _known(figure) if _pair(trace) == (across, up)]
    left, top, right, bottom = room
    (a, b), (c, d) = (s.domain or (0, 1) for s in shown)
    x = _axis(shown[0], "x", drawn, (left + a * (right - left), left + b * (right - left)))
    y = _axis(shown[1], "y", drawn, (bottom - c * (bottom - top), bottom - d * (bottom - top)))
    yield from _frame(x, y)
    yield from (marks.arrow(n, x, y) for n in figure.layout.annotations if n.showarrow)
    yield from _drawn(figure, drawn, x, y)


def _drawn(figure: go.Figure, drawn: Sequence[Any], x: Axis, y: Axis) -> Iterator[str]:
    bars = [t for t in drawn if t.type == "bar"]
    for trace in drawn:
        draw = KINDS[trace.type]
        if trace.type == "bar":
            draw = partial(marks.bar, slot=(bars.index(trace) / len(bars), 1 / len(bars)))
        yield from draw(trace, x, y, _shade(figure, trace))


def _shade(figure: go.Figure, trace: Any) -> str:
    """The colour of a trace that names none: of the theme's, by its place."""
    every = figure.layout.template.layout.colorway or ("#636efa",)
    place = next(i for i, other in enumerate(figure.data) if other is trace)
    return str(every[place % len(every)])


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    """Zero, labels and titles."""
    left, bottom, lines = x.start, y.start, x.shown.showgrid is not False
    for at, label in y.ticks():
        if lines and not y.names:
            yield marks.line((left, at), (x.end, at), LINE)
        if y.shown.showticklabels is not False:
            yield marks.text((left - 6, at + 4), label, "end")
    for at, label in x.ticks():
        if lines and not x.names:
            yield marks.line((at, bottom), (at, y.end), LINE)
        yield _under((at, bottom + 14), label, x.shown.tickangle)
    yield from _titles(x, y)


def _under(at: marks.Point, label: str, angle: float | None) -> str:
    if not angle:
        return marks.text(at, label)
    turn = f'transform="rotate({angle:g} {at[0]:.1f} {at[1]:.1f})"'
    return marks.text(at, label, "end", turn)


def _titles(x: Axis, y: Axis) -> Iterator[str]:
    if words := x.shown.title.text:
        deep = max((len(label) for _, label in x.ticks()), default=0) * LETTER
        below = 14 + deep * math.sin(math.radians(abs(x.shown.tickangle or 0))) + 20
        yield marks.text(((x.start + x.end) / 2, y.start + below), words)
    if words := y.shown.title.text:
        middle = (y.start + y.end) / 2
        turn = f'transform="rotate(-90 16 {middle:.1f})"'
        yield marks.text((16, middle), words, style=turn)


def _note(note: Any, room: Room) -> str:
    """A line of text at a place of the paper, such as a panel's title."""
    left, top, right, bottom = room
    at = left + note.x * (right - left), bottom - note.y * (bottom - top) - 6
    return marks.text(at, note.text)


def _bar(figure: go.Figure) -> Any:
    """The heat map whose colours are explained."""
    maps = (t for t in _known(figure) if t.type == "heatmap" and t.showscale is not False)
    return next(maps, None)


def _colours(shown: Any, room: Room) -> Iterator[str]:
    _, top, right, bottom = room
    (low, high), steps = marks.ends(shown), 40
    tall, x = (bottom - top) / steps, right + 16
    for i in range(steps):
        shade = marks.colour(shown.colorscale, (i + 0.5) / steps)
        yield marks.box(x, bottom - (i + 1) * tall, 12, tall + 0.5, shade)
    for share in (0, 0.5, 1):
        at = (x + 18, bottom - share * (bottom - top) + 4)
        yield marks.text(at, f"{low + share * (high - low):.3g}", "start")


def _named(figure: go.Figure) -> list[str]:
    """What the legend explains, where there is more than one thing to."""
    every = [trace.name for trace in _known(figure) if trace.name and trace.type != "heatmap"]
    return every if len(every) > 1 else []


def _legend(figure: go.Figure) -> Iterator[str]:
    named = _named(figure)
    left = WIDTH - 20 - max(map(len, named), default=0) * LETTER
    shown = (trace for trace in _known(figure) if trace.name in named)
    for i, trace in enumerate(shown):
        fill = trace.marker.color or trace.line.color or _shade(figure, trace)
        yield marks.box(left - 14, 54 + 20 * i, 10, 10, fill)
        yield marks.text((left, 63 + 20 * i), trace.name, "start")
    yield from _others(figure)


def _others(figure: go.Figure) -> Iterator[str]:
    """What is not drawn here, by name."""
    for i, kind in enumerate(dict.fromkeys(t.type for t in figure.data if t.type not in KINDS)):
        yield marks.text((WIDTH / 2, 80 + 18 * i), f"{kind}: drawn only where scripts run")
