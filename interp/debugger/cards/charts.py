"""Heat maps for ECharts. Texts come as names, which ECharts escapes; colours fade to nothing, so that they suit a light and a dark page."""

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
MONO = {**FONT, "fontFamily": "ui-monospace, monospace"}
Cell = tuple[int, int, float, str]


def heat(cells: Sequence[Cell], columns: Sequence[str], rows: Sequence[str], *, signed: bool, top: float, on_click: Callable[[int, int], Any], height: int,
         pinned: tuple[int, int] | None = None, rotate: int = 0) -> ui.echart:
    """A heat map: (column, row, value, what its tooltip says); row 0 on top."""
    data = [{"value": [x, y, value], "name": words, **({"itemStyle": RING} if (x, y) == pinned else {})} for x, y, value, words in cells]
    axis = {"type": "category", "axisTick": {"show": False}, "axisLine": {"show": False}, "splitLine": {"show": False}}
    options = {
        "animation": False, "textStyle": FONT, "grid": {"left": 8, "right": 8, "top": 4, "bottom": 4, "containLabel": True},
        "tooltip": {"formatter": "{b}", "confine": True, "transitionDuration": 0},
        "xAxis": {**axis, "data": list(columns), "axisLabel": {**MONO, "interval": 0, "rotate": rotate}},
        "yAxis": {**axis, "data": list(rows), "inverse": True, "axisLabel": {**MONO, "interval": 0}},
        "visualMap": {"show": False, "min": -top if signed else 0, "max": top, "dimension": 2,
                      "inRange": {"color": SIGNED if signed else FADING}},
        "series": [{"type": "heatmap", "data": data, "itemStyle": {"borderWidth": 1, "borderColor": LINE}, "emphasis": {"itemStyle": RING}}]}
    return ui.echart(options, on_point_click=lambda e: on_click(int(e.value[0]), int(e.value[1]))).style(f"height: {height}px; width: 100%")
