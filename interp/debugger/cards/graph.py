"""The circuit graph: chosen nodes by position and layer, and the edges between them by their exact
effect on the metric."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from types import MappingProxyType
from typing import Any

from nicegui import ui

from interp.debugger import graph, numbers
from interp.debugger.cards import charts, tokens, widgets
from interp.debugger.cards.long import LongCard
from interp.debugger.cards.view import View
from interp.debugger.graph import Edge, Graph, Vertex
from interp.debugger.question import notes_of
from interp.debugger.session import Runs

# Edges drawn at most, and until more are asked for; the export has them all.
LINKS, SHOWN = 200, 24
# Letters of a note that are drawn; its tooltip has them all.
NOTE, PINNED = 28, "#e0a800"
NOTHING: Mapping[str, str] = MappingProxyType({})
LEGEND = (
    "Blue edges help the answer, red ones work against it; the wider, the more is lost without the "
    "edge. q, k, v: which input of the head it reaches."
)
SERIES: dict[str, Any] = {
    "type": "graph",
    "coordinateSystem": "cartesian2d",
    "symbol": "roundRect",
    "label": {**charts.MONO, "show": True, "color": "#fff"},
    "edgeSymbol": ["none", "arrow"],
    "edgeSymbolSize": 7,
    "emphasis": {"focus": "adjacency", "lineStyle": {"opacity": 1}},
}


class GraphCard(LongCard):
    """Positions from left to right, layers from bottom to top, as a model is drawn; the output on
    top."""

    name, title, tab = "graph", "Circuit graph", "graph"
    hint = (
        "An edge's width is how much the metric changes when that edge alone carries something "
        "else. Click a node for its details; add and drop nodes there."
    )
    depends = ("graph", "instead", "pins", "notes")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.body:
            self.verdict = widgets.sentence("strongest")
            with ui.element("div").classes("controls"):
                widgets.note("strongest edges")
                self.many = ui.slider(min=1, max=LINKS, value=SHOWN).classes("least")
                self.many.props("dense data-testid=threshold aria-label='How many edges'")
                self.threshold = widgets.note("", "threshold-words")
            self.picture, self.words = ui.element("div"), ui.element("div")
            widgets.note(LEGEND)
        self.many.on_value_change(self._redraw)
        self.chart = charts.Chart(self.picture, "graph-chart", self._clicked)

    def begin(self, runs: Runs) -> Iterator[Graph]:
        """The graph, with more of its edges each time."""
        self.suggested = () if runs.question.graph else graph.suggested(runs)
        return graph.graphs(runs)

    def fill(self, result: Graph) -> None:
        """The picture, its nodes as chips."""
        super().fill(result)
        chosen = bool(self.view.question.graph)
        self.picture.set_visibility(chosen)
        self.many.props(f"max={max(1, min(LINKS, len(result.edges)))}")
        if chosen:
            self._redraw()
        self.verdict.set_text(_verdict(result) if chosen else "")
        self.words.clear()
        with self.words:
            self._chips(result) if chosen else self._empty()

    def _redraw(self) -> None:
        """As many of the strongest edges as are asked for."""
        if not (self.result and self.view.question.graph):
            return
        q, notes = self.view.question, notes_of(self.view.question)
        strongest = _strongest(self.result, int(self.many.value))
        pinned = [edge for edge in _pinned(self.result, q.pins) if edge not in strongest]
        height = 60 + (66 if notes else 50) * len({v.layer for v in self.result.vertices})
        drawn = options(self.result, [*strongest, *pinned], self.view.helps, notes, q.pins)
        words = " ".join([_verdict(self.result), *(f"{at}: {said}." for at, said in notes.items())])
        self.chart.show(drawn, height=height, words=words)
        weakest = abs(strongest[-1].effect or 0.0) if strongest else 0.0
        more = f", and {len(pinned)} of pinned nodes" if pinned else ""
        self.threshold.set_text(
            f"{len(strongest)} of {len(self.result.edges)} edges, {numbers.plain(weakest)} or "
            f"more{more}"
        )

    def _chips(self, shown: Graph) -> None:
        with ui.element("div").classes("lines"):
            for address in self.view.question.graph:
                self._chip(address)
            save = json.dumps(shown.circuit, indent=1)
            widgets.button(
                "Circuit",
                lambda: ui.download.content(save, "circuit.json"),
                "export-circuit",
                icon="download",
                look="flat",
            )

    def _empty(self) -> None:
        widgets.note(
            "No nodes yet. Add them one by one from a selected node's card, or begin with the "
            "heads of the largest direct effects."
        )
        if begin := self.suggested:
            widgets.button(
                f"Begin with {', '.join(begin)}", lambda: self.propose(graph=begin), "begin-graph"
            )

    def _chip(self, address: str) -> None:
        with ui.element("span").classes("line mono").props("data-testid=vertex"):
            widgets.button(
                address, lambda: self.propose(node=address), f"vertex {address}", look="flat"
            )
            more = partial(self.expand, address)
            words = f"Add the strongest sources of {address}"
            widgets.symbol("add", more, f"expand {address}", words, size="xs")
            drop = partial(self._drop, address)
            widgets.symbol("close", drop, f"drop {address}", f"Drop {address}", size="xs")

    async def expand(self, address: str) -> None:
        """Add the strongest sources of a node."""
        runs = self.runs
        found = await self.view.workers.run(lambda: graph.sources(runs, address))
        shown = self.view.question.graph
        await self.propose(graph=tuple(dict.fromkeys((*shown, address, *found))))

    async def _drop(self, address: str) -> None:
        graph = self.view.question.graph
        await self.propose(graph=tuple(node for node in graph if node != address))

    async def _clicked(self, data: Any) -> None:
        node = data.get("node") or data.get("sender") if isinstance(data, dict) else None
        if node and not node.startswith("out"):
            await self.propose(node=node)


def _verdict(shown: Graph) -> str:
    """The edges without which most is lost."""
    some = [f"{edge.edge} {numbers.signed(-(edge.effect or 0.0))}" for edge in _strongest(shown, 4)]
    place = "" if shown.side == "this prompt" else f" ({shown.side})"
    return f"Lost without an edge{place}: {', '.join(some) or 'nothing yet'}."


def _share(drawn: Graph, edge: Edge) -> float:
    """An edge's effect as a share of the strongest one's."""
    top = max((abs(each.effect or 0.0) for each in drawn.edges), default=1.0) or 1.0
    return abs(edge.effect or 0.0) / top


def options(
    drawn: Graph,
    edges: Sequence[Edge],
    helps: int = 1,
    notes: Mapping[str, str] = NOTHING,
    pins: Sequence[str] = (),
) -> dict[str, Any]:
    """The graph for ECharts with these edges: x the position, y the layer. helps: the sign of what
    helps the answer. notes: what stands under a node; pins: nodes that are framed."""
    columns = {at: i for i, at in enumerate(sorted({v.position for v in drawn.vertices}))}
    rows = {layer: i for i, layer in enumerate(sorted({v.layer for v in drawn.vertices}))}
    nodes = [
        _marked(
            _node(vertex, helps, columns[vertex.position] + aside, rows[vertex.layer]),
            notes.get(vertex.address, ""),
            vertex.address in pins,
        )
        for vertex, aside in zip(drawn.vertices, _spread(drawn.vertices), strict=True)
    ]
    series = {
        **SERIES,
        "data": nodes + _margins(drawn, columns, rows),
        "links": [_link(edge, _share(drawn, edge), helps) for edge in edges],
    }
    return {
        "animation": False,
        "textStyle": charts.FONT,
        "tooltip": {"confine": True, "transitionDuration": 0},
        "grid": {"left": 0, "right": 0, "top": 0, "bottom": 0},
        "xAxis": _axis(-1.0, len(columns) - 0.4),
        "yAxis": _axis(-1.1, len(rows) - 0.6),
        "series": [series],
    }


def _axis(low: float, high: float) -> dict[str, Any]:
    return {"type": "value", "show": False, "min": low, "max": high}


def _margins(
    drawn: Graph, columns: Mapping[int, int], rows: Mapping[int, int]
) -> list[dict[str, Any]]:
    """The tokens under their positions, and the layers' names beside them, but the output's."""
    written = {vertex.position: vertex.token for vertex in drawn.vertices}
    under = [_words(f"{t} {tokens.visible(written[t])}", i, -0.8) for t, i in columns.items()]
    beside = [
        _words("embedding" if layer < 0 else f"layer {layer}", -0.8, i)
        for layer, i in rows.items()
        if i + 1 < len(rows)
    ]
    return under + beside


def _node(vertex: Vertex, helps: int, x: float, y: float) -> dict[str, Any]:
    name = vertex.address.partition("@")[0]
    return {
        "name": vertex.address,
        "node": vertex.address,
        "value": [x, y],
        "symbolSize": [max(46, 8 * len(name)), 22],
        "itemStyle": {"color": _colour(helps * (vertex.direct or 0.0))},
        "label": {"formatter": name},
        "tooltip": {
            "formatter": f"{vertex.address}: direct effect {numbers.signed(vertex.direct)}"
        },
    }


def _marked(node: dict[str, Any], note: str, pinned: bool) -> dict[str, Any]:
    """A node with its note under its name, and a frame where it is pinned."""
    if pinned:
        frame = {"borderColor": PINNED, "borderWidth": 2}
        node = {**node, "itemStyle": {**node["itemStyle"], **frame}}
    if not note:
        return node
    short, (wide, _) = note if len(note) <= NOTE else note[: NOTE - 1] + "…", node["symbolSize"]
    return {
        **node,
        "symbolSize": [max(wide, 6 * len(short) + 12), 38],
        "label": {"formatter": f"{node['label']['formatter']}\n{short}", "lineHeight": 15},
        "tooltip": {"formatter": f"{escape(note)}<br>{node['tooltip']['formatter']}"},
    }


def _words(text: str, x: float, y: float) -> dict[str, Any]:
    return {
        "name": text,
        "value": [x, y],
        "symbolSize": 1,
        "itemStyle": {"color": "transparent"},
        "label": {"color": charts.INK},
        "tooltip": {"show": False},
    }


def _strongest(drawn: Graph, k: int) -> list[Edge]:
    """The k edges of the largest exact effects."""
    known = [edge for edge in drawn.edges if edge.effect]
    return sorted(known, key=lambda edge: -abs(edge.effect or 0.0))[:k]


def _pinned(drawn: Graph, pins: Sequence[str]) -> list[Edge]:
    """The edges of pinned nodes that have an effect."""
    return [
        edge for edge in drawn.edges if edge.effect and {edge.sender, edge.receiver} & set(pins)
    ]


def _link(edge: Edge, share: float, helps: int) -> dict[str, Any]:
    effect = edge.effect or 0.0
    return {
        "source": edge.sender,
        "target": edge.receiver,
        "sender": edge.sender,
        "tooltip": {"formatter": f"{edge.edge}: lost without it {-effect:+.4f}"},
        "label": {
            **charts.FONT,
            "show": edge.port in ("q", "k", "v"),
            "formatter": edge.port,
            "rotate": 0,
        },
        "lineStyle": {
            "width": 0.5 + 5 * share,
            "opacity": 0.25 + 0.65 * share,
            "color": charts.FOR if helps * effect < 0 else charts.AGAINST,
            "curveness": {"q": 0.12, "k": -0.12, "v": 0.22}.get(edge.port, 0.05),
        },
    }


def _colour(direct: float | None) -> str:
    return charts.INK if not direct else charts.FOR if direct > 0 else charts.AGAINST


def _spread(vertices: tuple[Vertex, ...]) -> list[float]:
    """How far each vertex stands beside the middle of its position, so that those of one layer do
    not cover one another."""
    total = Counter((vertex.layer, vertex.position) for vertex in vertices)
    seen: Counter[tuple[int, int]] = Counter()
    aside = []
    for vertex in vertices:
        place = vertex.layer, vertex.position
        aside.append((seen[place] - (total[place] - 1) / 2) * 0.9 / max(total[place], 3))
        seen[place] += 1
    return aside
