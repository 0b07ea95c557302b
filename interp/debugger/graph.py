"""The circuit graph: nodes of interest by layer and position, and the edges between them by their
exact effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from interp import attribution
from interp.debugger.both import both
from interp.debugger.place import Place, kind
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from interp.debugger.totals import CHUNK, edit, effects_of, fits
from minigpt import Config, Site
from minigpt.address import heads
from minigpt.patch import Patch
from minigpt.shown import Shown

# By what a node reads, and how many nodes a graph may have.
_READS = {"attn": ("q", "k", "v"), "mlp": ("in",), "mlp.l": ("in",), "out": ("out",)}
MAX_NODES = 48
# Writers whose edges are measured when a node's strongest sources are looked for.
CANDIDATES = 24


@dataclass(frozen=True, repr=False)
class Vertex(Shown):
    """A node at a position; layer -1 is the embedding, n_layer the output. direct: its direct
    effect on the metric."""

    address: str
    layer: int
    position: int
    token: str
    direct: float | None


@dataclass(frozen=True, repr=False)
class Edge(Shown):
    """An edge and its exact effect: how the metric changes when it alone carries `instead`; None
    where an intervention decides it.

    port: q, k, v, in or out.
    """

    edge: str
    sender: str
    receiver: str
    port: str
    effect: float | None


class Link(NamedTuple):
    """An edge to be measured: by its name, the node that writes, the port, the node that reads."""

    edge: str
    sender: Place
    port: Site
    reader: Place


@dataclass(frozen=True, repr=False)
class Graph(Shown):
    """Vertices, and the edges computed so far, done of so many; the output is the last vertex.

    side: the run that is drawn, after the interventions where there are any; circuit: the same as
    roles and edges, as Circuit takes them.
    """

    side: str
    metric_name: str
    metric: float
    instead: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    circuit: dict[str, object]
    done: int
    of: int


def graphs(runs: Runs) -> Iterator[Graph]:
    """The graph of the question's nodes after its interventions, with more of its edges each time:
    from each to the output and to every later node that can read it.

    An edge is exact: the port sees the sender's other write at that position, everything after it
    is computed again. A head reads keys and values at earlier positions too; such an edge changes
    them for every query. Into a neuron or a latent it leads on through that part alone.
    """
    nodes = {_node(text, runs) for text in runs.question.graph}
    if len(nodes) > MAX_NODES:
        raise QuestionError(f"a graph of {len(nodes)} nodes", f"up to {MAX_NODES}")
    ordered = sorted(nodes, key=lambda place: (place.site.stage, place.at, str(place)))
    ends = [*ordered, Place(Site("out"), len(runs.left.tokens) - 1)]
    links = [
        Link(f"{a.site}>{port}@{a.at}", a, port, b)
        for a, b in combinations(ends, 2)
        for port in _ports(a, b)
    ]
    return _chunks(runs, ends, links)


def graph(runs: Runs) -> Graph:
    """The whole graph."""
    *_, last = graphs(runs)
    return last


def _chunks(runs: Runs, ends: Sequence[Place], links: Sequence[Link]) -> Iterator[Graph]:
    """The graph with the edges whose effects are known so far; without edges, once."""
    side, size = _drawn(runs), max(1, CHUNK // len(runs.left.tokens))
    names: dict[str, object] = {
        "roles": _roles(ends[:-1]),
        "edges": list(dict.fromkeys(link.edge for link in links)),
    }
    bare = Graph(
        side.name,
        side.metric.name,
        float(side.metric(side.trace)),
        runs.question.instead,
        tuple(_vertex(side, place) for place in ends),
        (),
        names,
        0,
        len(links),
    )
    drawn: list[Edge] = []
    for start in range(0, max(1, len(links)), size):
        chunk = links[start : start + size]
        effects, _ = effects_of(runs.model, side, [_edit(runs, side, link) for link in chunk])
        drawn += map(_edge, chunk, effects)
        yield replace(bare, edges=tuple(drawn), done=len(drawn))


def _drawn(runs: Runs) -> Side:
    """The side that the graph is of."""
    return runs.after or runs.left


def _edit(runs: Runs, side: Side, link: Link) -> Patch | None:
    """The edge carrying something else; into a part of an MLP, as what that part then writes."""
    read = edit(f"{link.edge} = {runs.question.instead}", side)
    if read is None or link.port.kind != "in" or link.reader.site.part is None:
        return read
    name = str(link.reader)
    passed = Patch.write(name, runs.model.rerun(side.base, side.patch | read)[name][0])
    return passed if fits(passed, side) else None


def _vertex(side: Side, place: Place) -> Vertex:
    layer = _layer(place.site, side.trace.config)
    return Vertex(str(place), layer, place.at, side.tokens[place.at], _direct(side, place))


def _edge(link: Link, effect: float | None) -> Edge:
    return Edge(link.edge, str(link.sender), str(link.reader), link.port.kind, both(effect).left)


def suggested(runs: Runs, k: int = 4) -> tuple[str, ...]:
    """Nodes to begin with: the k heads with the largest direct effects, at the last position."""
    side = _drawn(runs)
    if not side.metric.linear:
        return ()
    effects = attribution.direct(side.trace, side.metric)
    return tuple(f"{name}@{len(side.tokens) - 1}" for name in effects.heads().top(k).addresses)


def sources(runs: Runs, address: str, k: int = 3) -> tuple[str, ...]:
    """The k nodes whose edges into this node have the largest exact effects: at its own position,
    and at the one that it looks at most. Of the CANDIDATES largest norms there, not of all."""
    side, reader = _drawn(runs), _node(address, runs)
    links = _candidates(side, reader)
    effects, _ = effects_of(runs.model, side, [_edit(runs, side, link) for link in links])
    known = [(abs(x), str(link.sender)) for link, x in zip(links, effects, strict=True) if x == x]
    ordered = dict.fromkeys(name for _, name in sorted(known, key=lambda pair: -pair[0]))
    return tuple(name for name in ordered if name not in runs.question.graph)[:k]


def _candidates(side: Side, reader: Place) -> list[Link]:
    """Edges into a node from those that write most before it."""
    places = {reader.at}
    if reader.site.kind == "attn":
        places.add(int(side.trace[f"{reader.site}.pattern@{reader.at}"][0].argmax()))
    config = side.trace.config
    writers = [Site("emb"), *heads(config), *(Site("mlp", i) for i in range(config.n_layer))]
    found = [Place(site, at) for site in writers for at in places if site.stage < reader.site.stage]
    found.sort(key=lambda place: -float(place.wrote(side.trace).norm()))
    return [
        Link(f"{a.site}>{port}@{a.at}", a, port, reader)
        for a in found[:CANDIDATES]
        for port in _ports(a, reader)
    ]


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
    for name in _READS.get(b.site.kind, ()):
        port = Site(name, b.site.layer, None if name == "in" else b.site.part)
        seen = a.at == b.at or (name in ("k", "v") and a.at < b.at)
        if seen and a.site.stage < port.stage:
            yield port


def _direct(side: Side, place: Place) -> float | None:
    if not side.metric.linear or place.site.kind == "out":
        return None
    g = attribution.gradient(side.trace, side.metric)[0]
    return float(place.wrote(side.trace).double() @ g) if place.at == len(side.tokens) - 1 else 0.0


def _layer(site: Site, config: Config) -> int:
    if site.kind in ("out", "out.b"):
        return config.n_layer
    return -1 if site.layer is None else site.layer


def _roles(found: Sequence[Place]) -> dict[str, str]:
    """The nodes by kind, as a Circuit takes them: a role's name, and its addresses side by side."""
    roles: dict[str, list[str]] = {}
    for place in found:
        roles.setdefault(f"{kind(place.site)}s", []).append(str(place))
    return {role: " ".join(names) for role, names in roles.items()}
