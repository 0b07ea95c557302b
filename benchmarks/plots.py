"""scaling.svg from scaling.jsonl: seconds of a sweep against prompts, positions and edges, here and
by hooks. python -m benchmarks.plots"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scaling import SCALING

PLOT = Path(__file__).parent / "scaling.svg"
WIDTH, HEIGHT, LEFT, TOP, INNER_WIDTH, INNER_HEIGHT = 360, 300, 58, 44, 280, 200
PANELS = {
    "prompts": "144 head paths, 16 positions",
    "positions": "144 head paths, 4 prompts",
    "edges": "edges of one pair, 15 tokens",
}
# What is drawn: the line's key, its colour, whether dashed, its name.
CURVES = (
    ("ours", "#0b62a4", "", "here"),
    ("peer", "#b5482a", "", "hooks, scaled up from a sample"),
    ("floor", "#777777", "5 4", "the arithmetic at the machine's peak"),
)
Point = tuple[float, float]


def value(line: dict[str, Any], curve: str) -> float:
    """Seconds of one curve at one point."""
    return float(line["floor"] if curve == "floor" else line["timings"][curve]["median"])


class Axis:
    """A logarithmic axis from whole powers of ten (or two, where `base` is 2) around some values to
    a range of pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, base: int = 10) -> None:
        self.start, self.end, self.base = start, end, base
        self.low, self.high = math.floor(self._log(min(values))), math.ceil(self._log(max(values)))
        self.high = max(self.high, self.low + 1)

    def _log(self, x: float) -> float:
        return round(math.log(x, self.base), 9)

    def __call__(self, x: float) -> float:
        """The pixel of a value."""
        return self.start + (self._log(x) - self.low) / (self.high - self.low) * (
            self.end - self.start
        )

    @property
    def ticks(self) -> list[float]:
        """The powers."""
        return [float(self.base) ** power for power in range(self.low, self.high + 1)]


def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{words}</text>'


def curve(points: Sequence[Point], colour: str, dash: str) -> str:
    """A line with a dot at each point; a dashed one without."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = (
        ""
        if dash
        else "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points
        )
    )
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8" '
        f'stroke-dasharray="{dash}"/>{dots}'
    )


def grid(across: Axis, up: Axis) -> str:
    """Ticks, their lines and names."""
    bottom = TOP + INNER_HEIGHT
    rows = [
        f'<path d="M{LEFT} {up(y):.1f}h{INNER_WIDTH}" class="grid"/>'
        + text(LEFT - 6, up(y) + 4, f"{y:g} s", "end")
        for y in up.ticks
    ]
    columns = [
        f'<path d="M{across(x):.1f} {TOP}v{INNER_HEIGHT}" class="grid"/>'
        + text(across(x), bottom + 16, f"{x:g}")
        for x in across.ticks
    ]
    return "".join(rows + columns)


def panel(axis: str, lines: Sequence[dict[str, Any]], up: Axis) -> str:
    """One plot."""
    across = Axis(
        [line["x"] for line in lines], LEFT, LEFT + INNER_WIDTH, 10 if axis == "edges" else 2
    )
    curves = [
        curve([(across(line["x"]), up(value(line, key))) for line in lines], colour, dash)
        for key, colour, dash, _ in CURVES
    ]
    return "".join(
        [
            grid(across, up),
            *curves,
            text(LEFT + INNER_WIDTH / 2, TOP - 14, PANELS[axis], more='font-weight="600"'),
            text(LEFT + INNER_WIDTH / 2, TOP + INNER_HEIGHT + 36, axis),
        ]
    )


def legend() -> str:
    return "".join(
        f'<g transform="translate({LEFT + 300 * i} {HEIGHT + 14})"><path d="M0 0h26" '
        f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        + text(34, 4, name, "start")
        + "</g>"
        for i, (_, colour, dash, name) in enumerate(CURVES)
    )


def draw(lines: Sequence[dict[str, Any]]) -> str:
    """All panels, on one scale of seconds."""
    up = Axis([value(line, key) for line in lines for key, *_ in CURVES], TOP + INNER_HEIGHT, TOP)
    drawn = [panel(axis, [line for line in lines if line["axis"] == axis], up) for axis in PANELS]
    panels = [f'<g transform="translate({WIDTH * i} 0)">{each}</g>' for i, each in enumerate(drawn)]
    size = f'viewBox="0 0 {WIDTH * len(PANELS)} {HEIGHT + 34}" width="{WIDTH * len(PANELS)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" '
        f'fill="#333"><style>.grid{{stroke:#e2e2e2}}</style>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(panels)}{legend()}</svg>\n'
    )


def main() -> None:
    latest = {
        (line["axis"], line["x"]): line
        for line in map(json.loads, SCALING.read_text().splitlines())
    }
    PLOT.write_text(draw([latest[key] for key in sorted(latest)]))


if __name__ == "__main__":
    main()
