"""A feature graph as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interp import figures
from interp.features.graph import OUT, Edge, FeatureGraph, Node
from interp.features.influence import Scores
from interp.show.document import Document, Picture, Prompt, Section, Span, Table, Words

KINDS = {
    "latent": "latent",
    "head": "head",
    "error": "what no latent explains",
    "token": "token",
    "out": "output",
}
# Arrows beyond these would hide one another.
ARROWS, ROWS = 60, 12


def features(graph: FeatureGraph, title: str) -> Document:
    """Its latents and heads, its edges, where the linear convention says something else."""
    some = f"The strongest of the {graph.measured} largest latents"
    said = f"{some}, of {graph.active} that are on; total effect: what is lost without it."
    exactly = "What the receiver loses without the sender, attention and LayerNorm computed again."
    apart = "The edges on which exact and linear weights differ most."
    return Document(
        title,
        [
            Section("The prompt", "", [Prompt(graph.tokens)]),
            Section("Latents", said, [_nodes(graph, "latent")]),
            *_heads(graph),
            Section("Edges", exactly, [_edges(_largest(graph)[:ROWS]), Picture(_picture(graph))]),
            Section(
                "Where freezing attention misleads", apart, [_edges(graph.disagreement[:ROWS])]
            ),
        ],
        list(_verdict(graph)),
    )


def _verdict(graph: FeatureGraph) -> Iterator[Words]:
    if graph.value is not None:
        yield Span(f"{graph.asked} {graph.value:+.4f}", "strong")
    for name, found in (("exact", graph.exact), ("linear", graph.linear)):
        if found is not None:
            yield _scores(name, found)


def _scores(name: str, found: Scores) -> Words:
    return (
        f"by {name} weights: replacement {found.replacement:.3f}, "
        f"completeness {found.completeness:.3f}"
    )


def _heads(graph: FeatureGraph) -> Iterator[Section]:
    """Where there are any."""
    if any(node.kind == "head" for node in graph.nodes):
        said = "Those with the largest total effects; an edge into one is what the metric loses by "
        yield Section("Heads", f"{said}way of it.", [_nodes(graph, "head")])


def _nodes(graph: FeatureGraph, kind: str) -> Table:
    """By total effect."""
    shown = [node for node in graph.nodes if node.kind == kind]
    shown.sort(key=lambda node: -abs(node.total or 0))
    columns = (kind, "at", ">activation", ">total effect", "most from", "most to")
    largest = _largest(graph)
    rows = [_node(largest, node) for node in shown]
    if kind == "head":  # whose activation is a whole write
        return Table("", columns[:2] + columns[3:], [(*row[:2], *row[3:]) for row in rows])
    return Table("", columns, rows)


def _node(largest: Sequence[Edge], node: Node) -> Sequence[Words]:
    into = [edge for edge in largest if edge.receiver == node.address]
    onto = [edge for edge in largest if edge.sender == node.address]
    return (
        Span(node.address, "code"),
        Span(node.token, "token"),
        "" if node.activation is None else f"{node.activation:.3f}",
        "" if node.total is None else _signed(node.total),
        Span(into[0].sender if into else "", "code"),
        Span(onto[0].receiver if onto else "", "code"),
    )


def _edges(shown: Sequence[Edge]) -> Table:
    rows = [
        (
            Span(edge.sender, "code"),
            Span(edge.receiver, "code"),
            *("" if x is None else _signed(x) for x in (edge.exact, edge.linear)),
        )
        for edge in shown
    ]
    return Table("", ("from", "to", ">exact", ">linear"), rows)


def _signed(effect: float) -> Span:
    return Span(f"{effect:+.3f}", "for" if effect > 0 else "against")


def _largest(graph: FeatureGraph) -> list[Edge]:
    return sorted(graph.edges, key=lambda edge: -abs(edge.weight))


def _picture(graph: FeatureGraph) -> figures.Figure:
    """The strongest edges, and the nodes that they join."""
    last = len(graph.tokens) - 1
    names = {node.address: node.address for node in graph.nodes} | {OUT: f"out@{last}"}
    kept = _largest(graph)[:ARROWS]
    joined = {end for edge in kept for end in (edge.sender, edge.receiver)}
    roles = {
        names[node.address]: KINDS[node.kind] for node in graph.nodes if node.address in joined
    }
    arrows = {(names[edge.sender], names[edge.receiver]): edge.weight for edge in kept}
    title = f"the {len(kept)} strongest of {len(graph.edges)} edges"
    columns = {str(at): f"{at} {token!r}" for at, token in enumerate(graph.tokens)}
    return figures.diagram(roles, arrows, title, columns)
