"""The circuit graph: chosen nodes by position and layer, and the edges between them by their exact effect on the metric."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from nicegui import ui

from interp.debugger import graph
from interp.debugger.cards import charts, tokens
from interp.debugger.cards.card import Card
from interp.debugger.graph import Edge, Graph, Vertex
from interp.debugger.question import Question
from interp.debugger.session import Runs


class GraphCard(Card):
    """Positions from left to right, layers from bottom to top, as a model is drawn; the output on top."""

    name, title = "graph", "Circuit graph"
    hint = "An edge's width is how much the metric changes when that edge alone carries something else. Click a node for its details; add and drop nodes there."
    depends = ("graph", "instead")

    def compute(self, runs: Runs) -> tuple[Graph | None, tuple[str, ...]]:
        """The graph, or nodes to begin with where none is chosen."""
        return (graph.graph(runs), ()) if runs.question.graph else (None, graph.suggested(runs))

    def exported(self) -> Graph | None:
        """The graph alone."""
        return self.found[0]

    def draw(self, found: tuple[Graph | None, tuple[str, ...]]) -> None:
        """The picture, and its nodes as chips."""
        shown, suggested = found
        if shown is None:
            ui.label("No nodes yet. Add them one by one from a selected node's card, or begin with the heads of the largest direct effects.").classes("note")
            ui.button(f"Begin with {', '.join(suggested)}", on_click=lambda: self.propose(graph=suggested)).props("outline dense no-caps").props("data-testid=begin-graph")
            return
        ui.echart(options(shown), on_point_click=lambda e: self._clicked(e.data)).style(f"height: {110 + 62 * len({v.layer for v in shown.vertices})}px; width: 100%").props("data-testid=graph-chart")
        with ui.element("div").classes("lines"):
            for address in self.view.question.graph:
                with ui.element("span").classes("line mono").props("data-testid=vertex"):
                    ui.button(address, on_click=lambda address=address: self.propose(node=address)).props("flat dense no-caps")
                    ui.button(icon="close", on_click=lambda address=address: self._drop(address)).props(f"flat dense round size=xs aria-label='Drop {address}'")
            ui.button("Circuit", icon="download", on_click=lambda: ui.download.content(json.dumps(shown.circuit, indent=1), "circuit.json")).props("flat dense no-caps").props("data-testid=export-circuit")
        strongest = sorted(shown.edges, key=lambda edge: -abs(edge.effect))[:3]
        ui.label("Strongest: " + ", ".join(f"{edge.edge} {edge.effect:+.3f}" for edge in strongest)).classes("note mono")

    async def _drop(self, address: str) -> None:
        await self.propose(graph=tuple(each for each in self.view.question.graph if each != address))

    async def _clicked(self, data: Any) -> None:
        node = data.get("node") or data.get("sender") if isinstance(data, dict) else None
        if node and not node.startswith("out"):
            await self.propose(node=node)


def options(found: Graph) -> dict[str, Any]:
    """The graph for ECharts: x the position, y the layer."""
    places, tokens_at = _spread(found.vertices), {vertex.position: vertex.token for vertex in found.vertices}
    columns = sorted(tokens_at)
    strongest = max((abs(edge.effect) for edge in found.edges), default=1.0) or 1.0
    nodes = [{"name": v.address, "node": v.address, "x": columns.index(v.position) * 120 + dx, "y": -60 * v.layer, "symbolSize": [max(44, 8 * len(v.address.partition("@")[0])), 22],
              "itemStyle": {"color": _colour(v.direct)}, "label": {"formatter": v.address.partition("@")[0]},
              "tooltip": {"formatter": f"{v.address}: direct effect {v.direct or 0.0:+.3f}"}} for v, dx in zip(found.vertices, places, strict=True)]
    names = {vertex.address for vertex in found.vertices}
    links = [_link(edge, strongest) for edge in found.edges if {edge.sender, edge.receiver} <= names]
    marks = [{"name": f"at {t}", "x": i * 120, "y": 60 * 1.9, "symbol": "none", "label": {"formatter": f"{t} {tokens.visible(tokens_at[t])}", "color": charts.INK}} for i, t in enumerate(columns)]
    return {"animation": False, "textStyle": charts.FONT, "tooltip": {"confine": True, "transitionDuration": 0},
            "series": [{"type": "graph", "layout": "none", "roam": False, "left": 50, "right": 50, "top": 24, "bottom": 18, "symbol": "roundRect",
                        "label": {**charts.MONO, "show": True, "color": "#fff"}, "edgeSymbol": ["none", "arrow"], "edgeSymbolSize": 7,
                        "data": nodes + marks, "links": links, "emphasis": {"focus": "adjacency", "lineStyle": {"opacity": 1}}}]}


def _link(edge: Edge, strongest: float) -> dict[str, Any]:
    share = abs(edge.effect) / strongest
    return {"source": edge.sender, "target": edge.receiver, "sender": edge.sender, "tooltip": {"formatter": f"{edge.edge}: {edge.effect:+.4f}"},
            "lineStyle": {"width": 0.5 + 5 * share, "opacity": 0.15 + 0.7 * share, "color": charts.FOR if edge.effect < 0 else charts.AGAINST,
                          "curveness": {"q": 0.12, "k": -0.12, "v": 0.22}.get(edge.port, 0.05)}}


def _colour(direct: float | None) -> str:
    return charts.INK if not direct else charts.FOR if direct > 0 else charts.AGAINST


def _spread(vertices: tuple[Vertex, ...]) -> list[float]:
    """How far each vertex stands beside the middle of its position, so that those of one layer do not cover one another."""
    total = Counter((vertex.layer, vertex.position) for vertex in vertices)
    seen: Counter[tuple[int, int]] = Counter()
    found = []
    for vertex in vertices:
        place = vertex.layer, vertex.position
        found.append(54.0 * (seen[place] - (total[place] - 1) / 2))
        seen[place] += 1
    return found
