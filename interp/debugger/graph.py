"""The circuit graph: nodes of interest by layer and position, and the edges between them by their exact effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from interp import attribution
from interp.debugger.both import both
from interp.debugger.place import Place, kind
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from interp.debugger.totals import edit, effects_of
from minigpt import Config, Site
from minigpt.errors import problem

# By what a node reads, and how many nodes a graph may have.
_READS = {"attn": ("q", "k", "v"), "mlp": ("in",), "out": ("out",)}
MAX_NODES = 48


@dataclass(frozen=True)
class Vertex:
    """A node at a position; layer -1 is the embedding, n_layer the output. direct: its direct effect on the metric."""

    address: str
    layer: int
    position: int
    token: str
    direct: float | None


@dataclass(frozen=True)
class Edge:
    """An edge and its exact effect: how the metric changes when it alone carries `instead`; None where an intervention decides it.

    port: q, k, v, in or out.
    """

    edge: str
    sender: str
    receiver: str
    port: str
    effect: float | None


@dataclass(frozen=True)
class Graph:
    """Vertices and edges; the output is the vertex "out@END". circuit: the same as roles and edges, as Circuit takes them."""

    metric_name: str
    metric: float
    instead: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    circuit: dict[str, object]


def graph(runs: Runs) -> Graph:
    """The graph of the question's nodes on the left side; the edges from each to the output and to every later one that can read it.

    An edge is exact: the port sees the sender's other write at that position, everything after it is computed again. A head reads
    keys and values at earlier positions too; such an edge changes them for every query.
    """
    side, config = runs.left, runs.model.config
    found = sorted({_node(text, runs) for text in runs.question.graph}, key=lambda p: (p.site.stage, p.at, str(p)))
    if len(found) > MAX_NODES:
        raise QuestionError(problem(f"a graph of {len(found)} nodes", f"up to {MAX_NODES}"))
    every = [*found, Place(Site("out"), len(side.tokens) - 1)]
    edges = [(a, port, b) for a, b in combinations(every, 2) for port in _ports(a, b)]
    names = [f"{a.site}>{port}@{a.at}" for a, port, _ in edges]
    effects, _ = effects_of(runs.model, side, [edit(f"{name} = {runs.question.instead}", side) for name in names])
    drawn = tuple(Edge(name, str(a), str(b), port.kind, both(value).left) for name, (a, port, b), value in zip(names, edges, effects, strict=True))
    direct = [_direct(side, place) for place in found] + [None]
    vertices = tuple(Vertex(str(p), _layer(p.site, config), p.at, side.tokens[p.at], value) for p, value in zip(every, direct, strict=True))
    circuit: dict[str, object] = {"roles": _roles(found), "edges": names}
    return Graph(side.metric.name, float(side.metric(side.trace)), runs.question.instead, vertices, drawn, circuit)


def suggested(runs: Runs, k: int = 4) -> tuple[str, ...]:
    """Nodes to begin with: the k heads with the largest direct effects, at the last position."""
    if not runs.left.metric.linear:
        return ()
    last = len(runs.left.tokens) - 1
    return tuple(f"{name}@{last}" for name in attribution.direct(runs.left.trace, runs.left.metric).heads().top(k).addresses)


def _node(text: str, runs: Runs) -> Place:
    place = Place.parse(text, runs.left.trace)
    if place.site.role != "node" or place.key is not None:
        raise QuestionError(problem(f"'{text}' is no node of a graph", "a node at a position", "'a2.6@13', 'm1@4', 'emb@9'"))
    return place


def _ports(a: Place, b: Place) -> Iterator[Site]:
    """The ports by which b can read what a writes: at its own position; a head's keys and values at earlier ones too."""
    for port in (Site(name, b.site.layer, None if name == "in" else b.site.part) for name in _READS.get(b.site.kind, ())):
        if a.site.stage < port.stage and (a.at == b.at or (port.kind in ("k", "v") and a.at < b.at)):
            yield port


def _direct(side: Side, place: Place) -> float | None:
    if not side.metric.linear:
        return None
    g = attribution.gradient(side.trace, side.metric)[0]
    return float(place.wrote(side.trace).double() @ g) if place.at == len(side.tokens) - 1 else 0.0


def _layer(site: Site, config: Config) -> int:
    return config.n_layer if site.kind in ("out", "out.b") else -1 if site.layer is None else site.layer


def _roles(found: Sequence[Place]) -> dict[str, str]:
    """The nodes by kind, as a Circuit takes them: a role's name, and its addresses side by side."""
    roles: dict[str, list[str]] = {}
    for place in found:
        roles.setdefault(f"{kind(place.site)}s", []).append(str(place))
    return {role: " ".join(names) for role, names in roles.items()}
