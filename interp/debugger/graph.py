"""The circuit graph: nodes of interest by layer and position, and the edges between them by their exact effect."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.session import Runs


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
    """An edge and its exact effect: how the metric changes when it alone carries `instead`. port: q, k, v, in or out."""

    edge: str
    sender: str
    receiver: str
    port: str
    effect: float


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
    """The graph of the question's nodes; the edges from each to the output and to every later one that can read it."""
    raise NotImplementedError


def suggested(runs: Runs, k: int = 4) -> tuple[str, ...]:
    """Nodes to begin with: the k heads with the largest direct effects."""
    raise NotImplementedError
