"""What `discover` found, as a record: every map that was drawn, what stood out in it, and what each
head is taken to be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp import figures
from interp.circuit import Circuit
from interp.discover.null import Cutoff
from interp.discover.roles import ROLES, Scores
from interp.effects import Effects
from minigpt import parse
from minigpt.shown import LINE, ROWS, Row, Shown, cut


@dataclass(frozen=True, eq=False, repr=False)
class Map(Shown):
    """One map of path patching: what every head does to the metric from one position through these
    receivers; and which of them stand out.

    total: what there is to explain. knocked: the nodes that were knocked out the while.
    """

    receivers: tuple[str, ...]
    at: int | str
    total: float
    effects: Effects
    cutoff: Cutoff
    kept: tuple[str, ...]
    knocked: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """What stands out, as heads at the map's position, the largest effect first."""
        return tuple(f"{head}@{self.at}" for head in self.kept)

    @property
    def edges(self) -> tuple[str, ...]:
        """From each head that stands out to each receiver that it can reach; receivers were tried
        together."""
        return tuple(
            f"{head}>{port}@{self.at}"
            for head in self.kept
            for port in self.receivers
            if parse(head).site.stage < parse(port).site.stage
        )

    def helps(self, node: str) -> bool:
        """Whether a node pushes the metric away from the corrupt side."""
        return self.effects[node.partition("@")[0]] * self.total < 0

    def __str__(self) -> str:
        without = f" without {' '.join(self.knocked)}" if self.knocked else ""
        return f"{' '.join(self.receivers)}@{self.at}{without}"


@dataclass(frozen=True, repr=False)
class Finding(Shown):
    """A head at a position that stands out: what it is taken to be, its effect in each map that it
    stands out in, and its scores."""

    node: str
    role: str
    effects: Mapping[str, float]
    scores: Scores

    @property
    def looks(self) -> str:
        """What it pays at least a tenth of its attention to, in words."""
        weights = {**self.scores.attention, **self.scores.places}
        some = [f"{name} {weight:.2f}" for name, weight in weights.items() if weight >= 0.1]
        return ", ".join(some) or "nowhere in particular"

    @property
    def does(self) -> str:
        """Its effects, in words."""
        return "; ".join(f"{effect:+.3f} through {name}" for name, effect in self.effects.items())

    def __str__(self) -> str:
        return f"{self.role:<21} {self.node:<10} looks at {self.looks}; {self.does}"


@dataclass(frozen=True, eq=False)
class Discovery(Shown):
    """The heads that were found, the largest first in each map and maps in the order of drawing,
    with all that they were found by.

    total: the metric's mean on the clean prompts less that on the corrupt ones, of which an effect
    had to be a share of `threshold`.
    """

    found: tuple[Finding, ...]
    maps: tuple[Map, ...]
    metric: str
    total: float
    threshold: float
    level: float
    heads: int

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """The nodes of each class that has any."""
        every = {
            role: tuple(head.node for head in self.found if head.role == role) for role in ROLES
        }
        return {role: nodes for role, nodes in every.items() if nodes}

    @property
    def circuit(self) -> Circuit:
        """Roles and edges, to be judged."""
        return Circuit(self.roles, self.edges)

    @property
    def edges(self) -> tuple[str, ...]:
        """Every edge that a map speaks for, each once."""
        return tuple(dict.fromkeys(edge for drawn in self.maps for edge in drawn.edges))

    @property
    def kept(self) -> tuple[str, ...]:
        """The heads of the circuit, whatever their positions, in the model's order."""
        sites = {parse(head.node).site for head in self.found}
        return tuple(map(str, sorted(sites, key=lambda site: (site.layer, site.part))))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        plain = {
            name: getattr(self, name)
            for name in ("metric", "total", "threshold", "level", "heads", "roles", "edges")
        }
        return {
            **plain,
            "found": [{**vars(head), "scores": vars(head.scores)} for head in self.found],
            "maps": [
                {
                    "receivers": asked.receivers,
                    "at": asked.at,
                    "knocked": asked.knocked,
                    "kept": asked.kept,
                    "cutoff": vars(asked.cutoff),
                    "effects": dict(asked.effects),
                }
                for asked in self.maps
            ],
        }

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(self.to_dict())

    def figure(self) -> figures.Figure:
        """The circuit as a diagram: heads by position and layer, the edges between them."""
        return figures.diagram(
            {head.node: head.role for head in self.found},
            self._arrows(),
            f"what makes the {self.metric}",
        )

    def _arrows(self) -> list[tuple[str, str]]:
        """Edges between nodes: to every place of the reader's, since a head reads a key at one
        position for another."""
        nodes = [head.node for head in self.found]
        arrows = []
        for edge in self.edges:
            address = parse(edge)
            writer, port = address.sites
            arrows += [
                (f"{writer}@{address.at}", node)
                for node in nodes
                if port.kind != "out" and parse(node).site == port.writer
            ]
        return list(dict.fromkeys(arrow for arrow in arrows if arrow[0] in nodes))

    def __repr__(self) -> str:
        order = sorted(self.found, key=lambda head: ROLES.index(head.role))
        more = [f"  ... and {len(order) - ROWS} more"] if len(order) > ROWS else []
        return "\n".join(
            [
                f"{len(self.kept)} of {self.heads} heads{self._places} make the {self.metric}; "
                f"{len(self.maps)} maps",
                f"an effect counts from {self.threshold:.0%} of {self.total:.3f} up (clean less "
                f"corrupt), where a false find in a map has a chance of {self.level:.0%}",
                *(cut(f"  {head}", LINE) for head in order[:ROWS]),
                *more,
            ]
        )

    @property
    def _places(self) -> str:
        """How many lines there are, where some head has several positions."""
        found = len(self.found)
        return f", at {found} positions in all," if found > len(self.kept) else ""

    def _table(self) -> Iterator[Row]:
        yield "class", "node", "looks at", "effects"
        for head in self.found:
            yield head.role, head.node, head.looks, head.does
