"""An audit's pictures, as plotly figures: error by layer, ULPs, bounds against what was observed,
and what each node costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch

from interp import figures
from interp.audit.row import Section
from interp.show.document import HeatMap, Picture

COLOURS = ("#2166ac", "#b2182b", "#e08214", "#5aae61")


def of(section: Section) -> dict[str, Picture]:
    """The pictures of a section, each by the sentence that stands over it."""
    make = _MAKERS.get(section.name)
    drawn = make(section.data) if make else {}
    return {
        sentence: figure if isinstance(figure, Picture) else Picture(figure)
        for sentence, figure in drawn.items()
    }


def growth(errors: Mapping[str, Mapping[str, float]], title: str) -> figures.Figure:
    """The relative error at each point, a line a type, on a logarithmic axis."""
    figure = figures.Figure(
        [
            go.Scatter(
                x=list(line),
                y=list(line.values()),
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate="%{x}<br>%{y:.1e}<extra>" + name + "</extra>",
            )
            for (name, line), colour in zip(errors.items(), COLOURS, strict=False)
        ]
    )
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(
        type="log", title="error over largest number", exponentformat="power", dtick=1
    )
    return figures.styled(figure, title, height=360)


def ulps(counts: Sequence[int], title: str) -> figures.Figure:
    """How many logits are off by 2^k to 2^(k+1) units in the last place."""
    names = ["under 2", *(f"{2**k:,} to {2 ** (k + 1):,}" for k in range(1, len(counts)))]
    figure = figures.Figure(
        go.Bar(
            x=names,
            y=list(counts),
            marker_color=COLOURS[0],
            hovertemplate="%{x} ULP<br>%{y:,} logits<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", title="units in the last place", tickangle=-45)
    figure.update_yaxes(title="logits")
    return figures.styled(figure, title, height=340)


def bounds(sums: Sequence[Mapping[str, Any]], title: str) -> figures.Figure:
    """The largest gap of each sum beside its bound, on a logarithmic axis."""
    names = [s["name"] for s in sums]
    drawn = (
        ("bound", "bound", "#9aa7b4", "line-ew-open"),
        ("gap", "observed", COLOURS[0], "circle"),
    )
    figure = figures.Figure(
        [
            go.Scatter(
                x=names,
                y=[s[key] or None for s in sums],
                name=word,
                mode="markers",
                marker={"color": colour, "size": 8, "symbol": symbol},
                hovertemplate="%{x}<br>%{y:.1e}<extra>" + word + "</extra>",
            )
            for key, word, colour, symbol in drawn
        ]
    )
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    return figures.styled(figure, title, height=360)


def costs(
    nodes: Mapping[str, Mapping[str, float]], layers: int, heads: int, title: str
) -> figures.Figure:
    """Layers x nodes: every head, then the layer's bias, its sum into the stream, its MLP, the
    MLP's bias, and the sum after it."""
    names = [_layer_names(layer, heads) for layer in range(layers)]
    titles = [*map(str, range(heads)), "bias", "sum", "MLP", "bias ", "sum "]
    figure = figures.Figure(
        go.Heatmap(
            z=[[nodes[name]["cost"] for name in row] for row in names],
            text=names,
            x=titles,
            y=list(range(layers)),
            colorscale="Reds",
            xgap=2,
            ygap=2,
            hovertemplate="%{text}<br>%{z:.2e}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(type="category", showgrid=False, title="heads, then the rest of the layer")
    figure.update_yaxes(
        title="layer", dtick=1, autorange="reversed", showgrid=False, zeroline=False
    )
    return figures.styled(figure, title, height=130 + 34 * layers)


def _layer_names(layer: int, heads: int) -> list[str]:
    a, m = f"a{layer}", f"m{layer}"
    own = [f"{a}.{head}" for head in range(heads)]
    return [*own, f"{a}.b", f"resid{layer}.mid", m, f"{m}.b", f"resid{layer + 1}"]


def ranking(nodes: Mapping[str, Mapping[str, float]], title: str, n: int = 20) -> figures.Figure:
    """The costliest nodes: what each costs alone, and what is gained when it alone is exact."""
    top = dict(list(nodes.items())[:n])
    figure = figures.Figure(
        [
            go.Bar(
                y=list(top),
                x=[node[key] for node in top.values()],
                name=word,
                orientation="h",
                marker_color=colour,
                hovertemplate="%{y}<br>%{x:+.2e}<extra>" + word + "</extra>",
            )
            for key, word, colour in (
                ("cost", "it alone rounds", COLOURS[1]),
                ("gain", "gained if it alone is exact", COLOURS[0]),
            )
        ]
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(barmode="group", bargap=0.25)
    return figures.styled(figure, title, height=120 + 28 * len(top))


def left(nodes: Sequence[int], error: Sequence[float], title: str) -> figures.Figure:
    """The error that is left once so many of the costliest nodes are exact."""
    figure = figures.Figure(
        go.Scatter(
            x=[str(n) for n in nodes],
            y=list(error),
            mode="lines+markers",
            line={"color": COLOURS[0], "width": 2},
            hovertemplate="%{x} nodes exact<br>%{y:.1e}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", title="nodes in float64, the costliest first")
    figure.update_yaxes(title="error left", rangemode="tozero")
    return figures.styled(figure, title, height=320)


def _parity(data: Mapping[str, Any]) -> dict[str, figures.Figure]:
    return {
        "How far each value is from the float64 reference.": growth(
            {data["dtype"]: data["relative_error"]}, f"{data['dtype']} against the reference"
        ),
        "How many units in the last place the logits are off.": ulps(
            data["logit_ulps_log2"], "logits, against the reference"
        ),
    }


def _sources(data: Mapping[str, Any]) -> dict[str, figures.Figure | Picture]:
    nodes, removed = data["nodes"], data["left"]
    return {
        "What each node's rounding alone does to the metric.": _every_cost(data),
        "The costliest, and what is gained where one of them is exact.": ranking(
            nodes, "the costliest nodes"
        ),
        "Fixing the costliest nodes one after another; with all of them nothing is left.": left(
            removed["nodes"], removed["error"], "error left"
        ),
    }


def _every_cost(data: Mapping[str, Any]) -> Picture:
    """Of every node; a terminal has room for the heads."""
    grid, error = data["grid"], data["left"]["error"][0] or 1.0
    heads = HeatMap(
        "cost of each head, in thousandths of the error",
        torch.tensor(grid, dtype=torch.float64) * (1000 / error),
        digits=0,
        costs=True,
    )
    title = f"{data['dtype']}: cost of each node"
    return Picture(costs(data["nodes"], len(grid), len(grid[0]), title), heads)


def _sensitivity(data: Mapping[str, Any]) -> dict[str, figures.Figure]:
    return {
        f"At which nodes it acts: {name}.": figures.bars(
            dict(list(nodes.items())[:12]), "change of the metric, this node alone", name
        )
        for name, nodes in data.items()
    }


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, figures.Figure | Picture]]] = {
    "parity": _parity,
    "closure": lambda data: {
        "The largest gap of each sum, and its bound.": bounds(
            data["sums"], "bound against observed"
        )
    },
    "precision": lambda data: {
        "The error of the stream, from layer to layer.": growth(data["growth"], "error growth")
    },
    "sources": _sources,
    "sensitivity": _sensitivity,
}
