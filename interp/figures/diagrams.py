"""Pictures of circuits and feature graphs: nodes at their position and layer, and arrows from what
writes to what reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from interp.figures.figure import Figure
from interp.figures.pictures import AGAINST, FOR, styled
from minigpt import Site, parse

# Where a node is drawn: across (its position's column) and up (its layer).
Spot = tuple[float, float]
# Edges from one node to another; with weights, blue ones add and red ones take away.
Arrows = Sequence[tuple[str, str]] | Mapping[tuple[str, str], float]
# How far above its heads a layer's MLP is drawn.
RAISED = 0.45
PLAIN = "rgba(120,130,140,.5)"


def diagram(
    roles: Mapping[str, str], arrows: Arrows, title: str, columns: Mapping[str, str] | None = None
) -> Figure:
    """Nodes at positions ("a2.6@END" -> what it is) and who writes to whom; layer 0 at the bottom,
    a column a position: those given ("9" -> what it is called), or as found, the first last."""
    found = dict.fromkeys(node.partition("@")[2] for node in roles)
    named = columns or {name: name for name in list(found)[::-1]}
    shown = {name: label for name, label in named.items() if name in found}
    spots = _spots(list(roles), list(shown))
    figure = Figure()
    for writer, reader in arrows:
        look = _look(arrows, (writer, reader))
        figure.add_annotation(**_arrow(spots[writer], spots[reader]), **look)
    for role in dict.fromkeys(roles.values()):
        nodes = {node: spots[node] for node in roles if roles[node] == role}
        figure.add_scatter(**_marks(nodes, role))
    layers = _layers(spots)
    _axes(figure, dict(zip(_middles(spots, list(shown)), shown.values(), strict=True)), layers)
    return styled(figure, title, height=140 + 80 * len(layers))


def _layers(spots: Mapping[str, Spot]) -> dict[int, str]:
    """What each height is called; the lowest is layer 0 or the tokens'."""
    heights = [0, *(math.floor(layer) for _, layer in spots.values())]
    outputs = {int(layer) for node, (_, layer) in spots.items() if parse(node).site.kind == "out"}
    ends = {-1: "tokens", **dict.fromkeys(outputs, "output")}
    every = range(min(heights), max(heights) + 1)
    return {height: ends.get(height, str(height)) for height in every}


def _axes(figure: Figure, columns: Mapping[float, str], layers: Mapping[int, str]) -> None:
    """A name for each column and each height, and no lines."""
    bare = {"showgrid": False, "zeroline": False}
    across, up = (
        {"tickvals": list(names), "ticktext": list(names.values())} for names in (columns, layers)
    )
    low, *_, top = (*layers, max(layers))
    figure.update_xaxes(title="position", **across, **bare)
    figure.update_yaxes(title="layer", **up, **bare, range=[low - 0.5, top + 0.5])


def _arrow(tail: Spot, tip: Spot) -> dict[str, Any]:
    """As an annotation, whose arrow alone is seen."""
    return {
        **dict(zip(("x", "y", "ax", "ay"), (*tip, *tail), strict=True)),
        **{"xref": "x", "yref": "y", "axref": "x", "ayref": "y"},
        **{"text": "", "showarrow": True, "arrowhead": 2},
        **{"standoff": 12, "startstandoff": 8},
    }


def _look(arrows: Arrows, arrow: tuple[str, str]) -> dict[str, Any]:
    """Colour and width: of weights, by sign and size."""
    if not isinstance(arrows, Mapping):
        return {"arrowwidth": 1, "arrowcolor": PLAIN}
    weight, most = arrows[arrow], max(map(abs, arrows.values())) or 1.0
    share = abs(weight) / most
    return {
        "arrowwidth": 0.6 + 2.9 * share,
        "arrowcolor": FOR if weight > 0 else AGAINST,
        "opacity": 0.3 + 0.7 * share,
    }


def _marks(nodes: Mapping[str, Spot], role: str) -> dict[str, Any]:
    """The nodes of a role, each with its name above it."""
    return {
        "x": [column for column, _ in nodes.values()],
        "y": [layer for _, layer in nodes.values()],
        "mode": "markers+text",
        "name": role,
        "marker": {"size": 18},
        "text": [_short(node) for node in nodes],
        "customdata": list(nodes),
        "textposition": "top center",
        "hovertemplate": "%{customdata}<br>" + role + "<extra></extra>",
    }


def _spots(nodes: Sequence[str], columns: Sequence[str]) -> dict[str, Spot]:
    """Where each node is drawn: in its position's column at its layer's height, side by side with
    those that are there too. A column is as wide as its fullest layer."""
    top = max((parse(node).site.depth for node in nodes), default=0) + 1
    shared: dict[tuple[str, float], list[str]] = {}
    for node in nodes:
        place = node.partition("@")[2], _height(parse(node).site, top)
        shared.setdefault(place, []).append(node)
    wide = [max(len(many) for (at, _), many in shared.items() if at == name) for name in columns]
    ends = zip(columns, accumulate(wide), wide, strict=True)
    middles = {name: end - width / 2 for name, end, width in ends}
    return {
        node: (middles[column] + i - (len(many) - 1) / 2, layer)
        for (column, layer), many in shared.items()
        for i, node in enumerate(many)
    }


def _middles(spots: Mapping[str, Spot], columns: Sequence[str]) -> list[float]:
    """The middle of each column."""
    places = [[x for node, (x, _) in spots.items() if node.partition("@")[2] == c] for c in columns]
    return [(min(xs) + max(xs)) / 2 for xs in places]


def _short(node: str) -> str:
    """Its name, without its position; of a latent without its layer, at whose height it is."""
    site = parse(node).site
    return f"l{site.part}" if site.is_latent and site.part is not None else str(site)


def _height(site: Site, top: int) -> float:
    """Its layer, an MLP above its heads; embeddings below the first, the output above the last."""
    if site.kind == "out":
        return top
    if site.layer is None:
        return -1
    return site.layer + RAISED * site.kind.startswith("mlp")
