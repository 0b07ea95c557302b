"""A circuit drawn: heads by the position at which they act and their layer, and what they hand on to whom."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go

from interp import figures
from interp.circuit import Circuit
from interp.ioi.part import Part, Table
from minigpt import parse

# The usual order of positions, from the first token to the last; others stand where their number or name puts them.
ORDER = ("IO", "S1", "S1+1", "A1", "B1", "S2", "END")
COLOURS = ("#2166ac", "#b2182b", "#67a9cf", "#1b7837", "#e08214", "#762a83", "#8c510a", "#5b6875", "#c51b7d")


def drawn(circuit: Circuit, heading: str, name: str, where: str, text: str = "") -> Part:
    """A circuit as a part of the study: its picture, and its roles."""
    rows = [(role, " ".join(nodes)) for role, nodes in circuit.roles.items()]
    return Part(name, heading, where, text or "Each head stands above the position at which it acts, at the height of its layer; lines are what one hands on "
                                              "to another.",
                [Table("", ("role", "heads"), rows)], figures={"circuit": picture(circuit)}, data=circuit.to_dict())


def picture(circuit: Circuit) -> go.Figure:
    """The diagram."""
    places = _places(circuit)
    figure = go.Figure([*_lines(circuit, places), *_heads(circuit, places)])
    columns = {x: at for at, x in _columns(circuit).items()}
    labels = [at or "all positions" for at in columns.values()]
    figure.update_xaxes(tickvals=list(columns), ticktext=labels, showgrid=False, zeroline=False, range=[-0.6, len(columns) - 0.4])
    figure.update_yaxes(title="layer", dtick=1, showgrid=True, gridcolor="rgba(128,128,128,.18)", zeroline=False)
    layers = 1 + max((y for _, y in places.values()), default=0)
    return figures.styled(figure, "", height=int(200 + 52 * layers)).update_layout(legend={"orientation": "h", "y": -0.12}, hovermode="closest")


def _columns(circuit: Circuit) -> dict[str, int]:
    """Positions from left to right."""
    ats = {str(found) if (found := parse(node).at) is not None else "" for node in circuit.nodes}
    known = {at: i for i, at in enumerate(ORDER)}
    return {at: i for i, at in enumerate(sorted(ats, key=lambda at: (known.get(at, -1), at)))}


def _places(circuit: Circuit) -> dict[str, tuple[float, float]]:
    """x and y of each node; heads of one layer at one position stand side by side."""
    columns, cells = _columns(circuit), {}
    for node in circuit.nodes:
        found = parse(node)
        cells.setdefault((columns["" if found.at is None else str(found.at)], found.site.layer or 0), []).append(node)
    return {node: (x + (i - (len(nodes) - 1) / 2) * min(0.2, 0.9 / len(nodes)), float(y)) for (x, y), nodes in cells.items() for i, node in enumerate(nodes)}


def _lines(circuit: Circuit, places: dict[str, tuple[float, float]]) -> Iterator[go.Scatter]:
    by_head = {}
    for node in circuit.nodes:
        by_head.setdefault(str(parse(node).site), []).append(node)
    for edge in circuit.edges:
        sender, port = parse(edge).sites
        receiver = str(port.writer) if port.kind != "out" else "out"
        for a in by_head.get(str(sender), []):
            for b in by_head.get(receiver, []):
                (x0, y0), (x1, y1) = places[a], places[b]
                yield go.Scatter(x=[x0, x1], y=[y0, y1], mode="lines", line={"width": 1.2, "color": "rgba(120,130,145,.55)"}, hoverinfo="text", text=edge,
                                 showlegend=False)


def _heads(circuit: Circuit, places: dict[str, tuple[float, float]]) -> Iterator[go.Scatter]:
    for i, (role, nodes) in enumerate(circuit.roles.items()):
        x, y = zip(*(places[node] for node in nodes), strict=True)
        yield go.Scatter(x=x, y=y, mode="markers+text", name=role, text=[str(parse(node).site).removeprefix("a") for node in nodes], textposition="top center",
                         hovertext=[f"{node}: {role}" for node in nodes], hoverinfo="text", marker={"size": 16, "color": COLOURS[i % len(COLOURS)]})
