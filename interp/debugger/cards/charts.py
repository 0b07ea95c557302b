"""Heat maps for ECharts. Texts come as names, which ECharts escapes; colours fade to nothing, so
that they suit a light and a dark page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

FOR, AGAINST, INK, LINE = "#2f7bd0", "#d24545", "#8792a0", "rgba(135,146,160,0.25)"
STEPS = [i / 15 for i in range(16)]
FADING = [f"rgba(47,123,208,{step:.2f})" for step in STEPS]
SIGNED = [f"rgba(210,69,69,{step:.2f})" for step in reversed(STEPS)] + FADING
FONT = {"color": INK, "fontFamily": "system-ui, sans-serif", "fontSize": 11}
RING = {"borderColor": INK, "borderWidth": 2}
MARKS = {
    "itemStyle": {"borderWidth": 1, "borderColor": LINE},
    "emphasis": {"itemStyle": RING},
}
MONO = {**FONT, "fontFamily": "ui-monospace, monospace"}
Cell = tuple[int, int, float, str]


class Chart:
    """A chart that is made when it is first needed and from then on only changed, in its place.

    One that is taken away while the browser still makes it would be an error there.
    """

    def __init__(self, place: ui.element, name: str, on_click: Callable[[Any], Any]) -> None:
        self.place, self.name, self.on_click = place, name, on_click
        self.element: ui.echart | None = None

    def show(self, options: dict[str, Any], height: int, words: str) -> None:
        """Another picture, and what it shows in words, for those who do not see it."""
        if self.element is None:
            with self.place:
                self.element = ui.echart(
                    options, on_point_click=lambda event: self.on_click(event.data)
                ).props(f"data-testid={self.name}")
        else:
            self.element.options.clear()
            self.element.options.update(options)
            self.element.update()
        self.element.style(f"width: 100%; height: {height}px").props("role=img")
        self.element.props["aria-label"] = words


def heat(
    cells: Sequence[Cell],
    columns: Sequence[str],
    rows: Sequence[str],
    *,
    signed: bool,
    top: float,
    pinned: tuple[int, int] | None = None,
    rotate: int = 0,
) -> dict[str, Any]:
    """A heat map: (column, row, value, what its tooltip says); row 0 on top. A click gives
    {"value": [column, row, value]}."""
    data = [
        {"value": [x, y, value], "name": words, **({"itemStyle": RING} if (x, y) == pinned else {})}
        for x, y, value, words in cells
    ]
    return {
        "animation": False,
        "textStyle": FONT,
        "grid": {"left": 8, "right": 8, "top": 4, "bottom": 4, "containLabel": True},
        "tooltip": {"formatter": "{b}", "confine": True, "transitionDuration": 0},
        "xAxis": _axis(columns, rotate=rotate),
        "yAxis": {**_axis(rows), "inverse": True},
        "visualMap": _colours(signed, top),
        "series": [{"type": "heatmap", "data": data, **MARKS}],
    }


def zoom(at: int, n: int, shown: int) -> list[dict[str, Any]]:
    """A slider under the columns, at first around one of n; the wheel zooms too."""
    first = max(0, min(at - shown // 2, n - shown))
    ends = {"startValue": first, "endValue": min(first + shown, n) - 1, "xAxisIndex": 0}
    return [{"type": "slider", "height": 16, "bottom": 2, **ends}, {"type": "inside", **ends}]


def _axis(names: Sequence[str], **label: Any) -> dict[str, Any]:
    """A category for each name, without lines of its own."""
    bare = {line: {"show": False} for line in ("axisTick", "axisLine", "splitLine")}
    return {
        "type": "category",
        **bare,
        "data": list(names),
        "axisLabel": {**MONO, "interval": 0, **label},
    }


def _colours(signed: bool, top: float) -> dict[str, Any]:
    """Which colour a value has: from nothing to `top`, or from -`top`."""
    return {
        "show": False,
        "min": -top if signed else 0,
        "max": top,
        "dimension": 2,
        "inRange": {"color": SIGNED if signed else FADING},
    }
