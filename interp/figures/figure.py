"""A figure as a user holds it: plotly's, which shows in a notebook, in what is exported of one, and
where no script runs. Fetches nothing; plotly's own script is in a notebook once."""

from __future__ import annotations

import sys
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any
from weakref import WeakKeyDictionary

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from interp.figures.still import svg

DRAW = """
{
  const shown = FIGURE;
  const draw = () => document.querySelectorAll("[data-figure='KEY']").forEach((place) => {
    place.replaceChildren();
    place.style.height = HEIGHT + "px";
    Plotly.newPlot(place, shown.data, shown.layout, {displayModeBar: false, responsive: true});
  });
  if (window.Plotly) draw(); else addEventListener("plotly", draw, {once: true});
}
"""
# Of each kernel: the cell in whose output plotly's script is, and the message that ran it.
_bearers: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()


class Figure(go.Figure):  # type: ignore[misc]
    """A plotly figure: interactive where scripts run, else a still picture of the same."""

    # plotly's own way to show itself, which has no still picture, comes first where there is one
    _ipython_display_ = None

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, str]:
        still = svg(self)
        shown = {"text/html": library() + html(self, still), "image/svg+xml": still}
        return {**shown, "text/plain": repr(self)}

    def show(self, *args: Any, **kwargs: Any) -> None:
        """In a notebook below the cell, else as plotly shows it: in a browser."""
        if kernel() is None or args or kwargs:
            super().show(*args, **kwargs)
        else:
            sys.modules["IPython"].display.display(self)

    def __repr__(self) -> str:
        return f"Figure({self.layout.title.text!r})"


def html(figure: go.Figure, still: str = "") -> str:
    """The still picture, and a script that puts the interactive figure in its place once plotly's
    is there."""
    data, picture = figure.to_json(), b64encode((still or svg(figure)).encode()).decode()
    key, said = sha256(data.encode()).hexdigest()[:12], escape(figure.layout.title.text or "figure")
    script = DRAW.replace("KEY", key).replace("HEIGHT", str(figure.layout.height or 450))
    return (
        f'<div data-figure="{key}"><img alt="{said}" style="max-width:100%" '
        f'src="data:image/svg+xml;base64,{picture}"></div>'
        f"<script>{script.replace('FIGURE', data)}</script>"
    )


def library() -> str:
    """plotly's script, as the first figure of a notebook brings it along; for the others, which
    draw by the same, nothing. Again where that figure's cell runs again, which replaces it."""
    if (running := kernel()) is None:
        return script()
    parent = running.get_parent()
    cell, message = parent.get("metadata", {}).get("cellId"), parent["header"]["msg_id"]
    bearer = _bearers.get(running)
    if bearer is not None and (bearer[1] == message or cell is None or bearer[0] != cell):
        return ""
    _bearers[running] = (cell, message)
    return script()


def script() -> str:
    """plotly's script, which then has every figure draw that waits for it."""
    return f"<script>{get_plotlyjs()}\ndispatchEvent(new Event('plotly'));</script>"


def kernel() -> Any:
    """The kernel of the notebook in which this runs; None where it runs elsewhere."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython.get_ipython(), "kernel", None) if ipython else None
