"""Pictures of effects, as plotly figures: blue pushes toward the answer, red against it, white is
nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from plotly import subplots
from torch import Tensor

from interp.figures.figure import Figure

# Read on white and on black.
INK = "#777"
FOR, AGAINST = "#2166ac", "#b2182b"
SCALE = [(0.0, AGAINST), (0.25, "#ef8a62"), (0.5, "#f7f7f7"), (0.75, "#67a9cf"), (1.0, FOR)]


def grid(
    values: Float[Tensor, "layer head"],
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Figure:
    """A heat map of one number for each head, layer 0 on top; or for each of named rows and
    columns."""
    layers, heads = values.shape
    bound = float(values.nan_to_num().abs().max()) or 1.0
    names = [[f"a{layer}.{head}" for head in range(heads)] for layer in range(layers)]
    if rows:
        names = [[f"{row} at {column}" for column in columns] for row in rows]
    figure = Figure(
        go.Heatmap(
            z=values.tolist(),
            x=list(columns or range(heads)),
            y=list(rows or range(layers)),
            text=names,
            zmin=-bound,
            zmax=bound,
            colorscale=SCALE,
            xgap=2,
            ygap=2,
            hovertemplate="%{text}<br>%{z:+.4f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
    )
    kinds = ("position", None) if rows else ("head", "layer")
    style = {
        "showgrid": False,
        "zeroline": False,
        **({"type": "category"} if rows else {"dtick": 1}),
    }
    figure.update_xaxes(title=kinds[0], **style)
    figure.update_yaxes(title=kinds[1], autorange="reversed", **style)
    return styled(figure, title, height=120 + 34 * layers)


def bars(values: Mapping[str, float], metric: str, title: str) -> Figure:
    """A bar an address, in the order given, from the top."""
    figure = Figure(
        go.Bar(
            x=list(values.values()),
            y=list(values),
            orientation="h",
            marker_color=[FOR if v > 0 else AGAINST for v in values.values()],
            hovertemplate="%{y}<br>%{x:+.4f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title=metric, zeroline=True, zerolinewidth=1)
    return styled(figure, title, height=110 + 22 * len(values))


def lens(values: Mapping[str, float], metric: str) -> Figure:
    """The metric at every point of the stream, from the embedding to the end."""
    figure = Figure(
        go.Scatter(
            x=list(values),
            y=list(values.values()),
            mode="lines+markers",
            line={"color": FOR, "width": 2},
            hovertemplate="%{x}<br>%{y:+.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(title=metric, zeroline=True)
    return styled(figure, f"{metric}, read at each point of the residual stream", height=340)


def curves(x: Sequence[float], lines: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Lines of one x each, which is shown by its logarithm."""
    figure = Figure(
        [
            go.Scatter(x=list(x), y=list(y), mode="lines+markers", name=name)
            for name, y in lines.items()
        ]
    )
    figure.update_xaxes(type="log")
    figure.update_layout(showlegend=len(lines) > 1)
    return styled(figure, title, 320)


def patterns(
    tokens: Sequence[str], heads: Mapping[str, Float[Tensor, "pos key"]], title: str = ""
) -> Figure:
    """Whole attention patterns, heads side by side: from each position (down) to each key
    (across).

    figures.patterns(tokens, {h: trace[f"{h}.pattern"][0] for h in ("a3.4", "a2.6")})
    """
    labels = [f"{i} {token!r}" for i, token in enumerate(tokens)]
    figure = subplots.make_subplots(
        1, len(heads), subplot_titles=list(heads), shared_yaxes=True, figure=Figure()
    )
    for column, (head, weights) in enumerate(heads.items(), 1):
        drawn = go.Heatmap(
            z=weights.tolist(),
            x=labels,
            y=labels,
            zmin=0,
            zmax=1,
            colorscale="Blues",
            showscale=column == len(heads),
            hovertemplate=head + "<br>from %{y}<br>to %{x}<br>%{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
        figure.add_trace(drawn, 1, column)
    figure.update_xaxes(tickangle=-50, showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return styled(figure, title or "attention patterns", height=220 + 22 * len(labels))


def attention(tokens: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Figure:
    """Where heads look from the last position: a row a head, a column a token."""
    labels = [f"{i} {token!r}" for i, token in enumerate(tokens)]
    figure = Figure(
        go.Heatmap(
            z=list(rows.values()),
            x=labels,
            y=list(rows),
            zmin=0,
            zmax=1,
            colorscale="Blues",
            xgap=1,
            ygap=2,
            hovertemplate="%{y} looks at %{x}<br>%{z:.3f}<extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(tickangle=-50, showgrid=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return styled(figure, "attention from the last position", height=190 + 30 * len(rows))


def styled(figure: Figure, title: str, height: int) -> Figure:
    """The look that all figures share."""
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        height=height,
        margin={"l": 70, "r": 20, "t": 46, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
    )
    return figure
