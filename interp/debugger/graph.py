"""The circuit graph: nodes of interest by layer and position, and the edges between them by their
exact effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from interp import attribution
from interp.debugger.both import both
from interp.debugger.place import Place, kind
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from interp.debugger.totals import CHUNK, edit, effects_of
from minigpt import Config, Site
from minigpt.patch import Patch

# By what a node reads, and how many nodes a graph may have.
_READS = {"attn": ("q", "k", "v"), "mlp": ("in",), "out": ("out",)}
MAX_NODES = 48


@dataclass(frozen=True)
class Vertex:
    """A node at a position; layer -1 is the embedding, n_layer the output. direct: its direct
    effect on the metric."""

    address: str
    layer: int
    position: int
    token: str
    direct: float | None


@dataclass(frozen=True)
class Edge:
    """An edge and its exact effect: how the metric changes when it alone carries `instead`; None
    where an intervention decides it.

    port: q, k, v, in or out.
    """

    edge: str
    sender: str
    receiver: str
    port: str
    effect: float | None


@dataclass(frozen=True)
class Graph:
    """Vertices, and the edges computed so far, done of so many; the output is the last vertex.
    circuit: the same as roles and edges, as Circuit takes them."""

    metric_name: str
    metric: float
    instead: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    circuit: dict[str, object]
    done: int
    of: int


def graphs(runs: Runs) -> Iterator[Graph]:
    """The graph of the question's nodes on the left side, with more of its edges each time: from
    each to the output and to every later node that can read it.

    An edge is exact: the port sees the sender's other write at that position, everything after it
    is computed again. A head reads keys and values at earlier positions too; such an edge changes
    them for every query.
    """
    found = sorted(
        {_node(text, runs) for text in runs.question.graph},
        key=lambda p: (p.site.stage, p.at, str(p)),
    )
    if len(found) > MAX_NODES:
        raise QuestionError(f"a graph of {len(found)} nodes", f"up to {MAX_NODES}")
    every = [*found, Place(Site("out"), len(runs.left.tokens) - 1)]
    edges = [
        (f"{a.site}>{port}@{a.at}", a, port, b)
        for a, b in combinations(every, 2)
        for port in _ports(a, b)
    ]
    return _chunks(
        runs,
        every,
        edges,
        [edit(f"{name} = {runs.question.instead}", runs.left) for name, *_ in edges],
    )


def graph(runs: Runs) -> Graph:
    """The whole graph."""
    *_, last = graphs(runs)
    return last


def _chunks(
    runs: Runs,
    every: Sequence[Place],
    edges: Sequence[tuple[str, Place, Site, Place]],
    edits: Sequence[Patch | None],
) -> Iterator[Graph]:
    """The graph with the edges whose effects are known so far; without edges, once."""
    side, size, drawn = runs.left, max(1, CHUNK // len(runs.left.tokens)), list[Edge]()
    vertices = tuple(
        Vertex(str(p), _layer(p.site, runs.model.config), p.at, side.tokens[p.at], _direct(side, p))
        for p in every
    )
    circuit: dict[str, object] = {
        "roles": _roles(every[:-1]),
        "edges": [name for name, *_ in edges],
    }
    for start in range(0, max(1, len(edges)), size):
        effects, _ = effects_of(runs.model, side, edits[start : start + size])
        drawn += [
            Edge(name, str(a), str(b), port.kind, both(x).left)
            for (name, a, port, b), x in zip(edges[start : start + size], effects, strict=True)
        ]
        yield Graph(
            side.metric.name,
            float(side.metric(side.trace)),
            runs.question.instead,
            vertices,
            tuple(drawn),
            circuit,
            len(drawn),
            len(edges),
        )


def suggested(runs: Runs, k: int = 4) -> tuple[str, ...]:
    """Nodes to begin with: the k heads with the largest direct effects, at the last position."""
    if not runs.left.metric.linear:
        return ()
    last = len(runs.left.tokens) - 1
    return tuple(
        f"{name}@{last}"
        for name in attribution.direct(runs.left.trace, runs.left.metric).heads().top(k).addresses
    )


def _node(text: str, runs: Runs) -> Place:
    place = Place.parse(text, runs.left.trace)
    if place.site.role != "node" or place.key is not None:
        raise QuestionError(
            f"'{text}' is no node of a graph", "a node at a position", "'a2.6@13', 'm1@4', 'emb@9'"
        )
    return place


def _ports(a: Place, b: Place) -> Iterator[Site]:
    """The ports by which b can read what a writes: at its own position; a head's keys and values at
    earlier ones too."""
    for port in (
        Site(name, b.site.layer, None if name == "in" else b.site.part)
        for name in _READS.get(b.site.kind, ())
    ):
        if a.site.stage < port.stage and (
            a.at == b.at or (port.kind in ("k", "v") and a.at < b.at)
        ):
            yield port


def _direct(side: Side, place: Place) -> float | None:
    if not side.metric.linear or place.site.kind == "out":
        return None
    g = attribution.gradient(side.trace, side.metric)[0]
    return float(place.wrote(side.trace).double() @ g) if place.at == len(side.tokens) - 1 else 0.0


def _layer(site: Site, config: Config) -> int:
    return (
        config.n_layer
        if site.kind in ("out", "out.b")
        else -1
        if site.layer is None
        else site.layer
    )


def _roles(found: Sequence[Place]) -> dict[str, str]:
    """The nodes by kind, as a Circuit takes them: a role's name, and its addresses side by side."""
    roles: dict[str, list[str]] = {}
    for place in found:
        roles.setdefault(f"{kind(place.site)}s", []).append(str(place))
    return {role: " ".join(names) for role, names in roles.items()}
