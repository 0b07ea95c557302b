"""A circuit as a value: which heads, at which positions, in which roles, and (where it is known)
along which edges.

    circuit = Circuit({"name mover": "a9.9@END a9.6@END", "induction": "a5.5@S2"})
    circuit.faithfulness(model, pairs, metric)

Knows its text, its JSON and that of EAP-IG and MIB. How it is judged is in criteria.py, on runs of
ablation.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from interp.circuit import criteria
from interp.circuit.ablation import Ablation
from interp.circuit.criteria import Faithfulness, Need, Removal
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, Address, Config, parse
from minigpt.address import edges as every_edge
from minigpt.address import nodes as every_node
from minigpt.errors import MiniGPTError
from minigpt.names import ours, theirs
from minigpt.shown import Row, Shown


class CircuitError(MiniGPTError):
    """A circuit that cannot be one."""


@dataclass(frozen=True, init=False)
class Circuit(Shown):
    """Roles: a name -> nodes ("a9.9@END a9.6@END", or a list), each node in one role; edges:
    "a5.5>a8.6.v", where they are known.

    scores: of edges, in it or not, where a search gave some. shape: layers and heads of the model
    that it is of, where a file says.
    """

    roles: Mapping[str, tuple[str, ...]]
    edges: tuple[str, ...]
    scores: Mapping[str, float] = field(compare=False)
    shape: tuple[int, int] | None = field(compare=False)

    def __init__(
        self,
        roles: Mapping[str, str | Sequence[str]],
        edges: Sequence[str] = (),
        scores: Mapping[str, float] = MappingProxyType({}),
        shape: tuple[int, int] | None = None,
    ) -> None:
        put = partial(object.__setattr__, self)
        put("scores", dict(scores))
        put("shape", shape)
        put("roles", {role: _nodes(words) for role, words in roles.items()})
        put("edges", tuple(dict.fromkeys(str(_edge(edge)) for edge in edges)))
        twice = sorted({node for node in self.nodes if self.nodes.count(node) > 1})
        if twice:
            raise CircuitError(f"{', '.join(twice)} in two roles", "each node in one role")

    def __hash__(self) -> int:
        return hash((tuple(self.roles.items()), self.edges))

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, role by role."""
        return tuple(node for some in self.roles.values() for node in some)

    def role(self, node: str) -> str:
        """The role of a node."""
        for name, some in self.roles.items():
            if node in some:
                return name
        raise CircuitError(f"no node '{node}' in the circuit", ", ".join(self.nodes))

    def without(self, *nodes: str) -> Circuit:
        """The circuit less some nodes, and less the roles and edges that lose all they are made
        of.

        >>> Circuit({'name mover': 'a9.9@END a9.6@END'}).without('a9.6@END').nodes
        ('a9.9@END',)
        """
        gone = {str(parse(node).site) for node in nodes if node in self.nodes}
        roles = {
            role: [node for node in some if node not in nodes] for role, some in self.roles.items()
        }
        kept = [
            edge
            for edge in self.edges
            if not gone & {str(parse(edge).sites[0]), str(parse(edge).sites[-1].writer)}
        ]
        left = {role: some for role, some in roles.items() if some}
        return Circuit(left, kept, self.scores, self.shape)

    # ---- how good it is

    @property
    def over(self) -> str:
        """What it is chosen among: heads, or heads and MLPs where it holds one of these."""
        return "heads mlps" if any(parse(n).site.kind == "mlp" for n in self.nodes) else "heads"

    def check(self, config: Config) -> None:
        """CircuitError where it is of a model of another shape."""
        own = (config.n_layer, config.n_head)
        if self.shape is not None and self.shape != own:
            raise CircuitError(
                f"a graph of {self.shape[0]} layers and {self.shape[1]} heads for a model of "
                f"{own[0]} and {own[1]}",
                "a graph of the model that it is asked of",
                "--model with the model that the graph was found on",
            )

    def _on(
        self, model: GPT2, pairs: Prompts, metric: Metric, ablation: str, over: str, **more: Any
    ) -> Ablation:
        self.check(model.config)
        return Ablation(model, pairs, metric, ablation, over=over or self.over, **more)

    def faithfulness(
        self,
        model: GPT2,
        pairs: Prompts,
        metric: Metric,
        ablation: str = "mean",
        *,
        reference: Prompts | None = None,
        over: str = "",
        by: str = "nodes",
    ) -> Faithfulness:
        """F(C) beside F(M): everything else knocked out (by="nodes"), or every edge that is not in
        it (by="edges"). over: "heads" or "heads mlps", which it is chosen among; unless given, MLPs
        where it holds one."""
        on = self._on(model, pairs, metric, ablation, over, reference=reference)
        if by == "nodes":
            return criteria.faithfulness(on, self.nodes)
        if by != "edges" or not self.edges:
            raise CircuitError(
                f"by={by!r} of a circuit with {len(self.edges)} edges",
                "'nodes', or 'edges' where the circuit has some",
            )
        every = list(every_edge(model.config))
        return Faithfulness(on.full, on.edges(self.edges, every), on.edges((), every))

    def completeness(
        self,
        model: GPT2,
        pairs: Prompts,
        metric: Metric,
        ablation: str = "mean",
        *,
        draws: int = 100,
        seed: int = 0,
        over: str = "",
    ) -> list[Removal]:
        """F(C\\K) beside F(M\\K), for each role as K and for `draws` random K; criteria.greedy
        searches for worse ones."""
        on = self._on(model, pairs, metric, ablation, over)
        chance = criteria.random_subsets(self.nodes, draws, seed)
        return criteria.removals(on, self.nodes, {**self.roles, **chance})

    def minimality(
        self,
        model: GPT2,
        pairs: Prompts,
        metric: Metric,
        ablation: str = "mean",
        *,
        others: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
        over: str = "",
    ) -> list[Need]:
        """For each node what it changes where the K of `others` is gone; without it, under the
        worst K of a search."""
        on = self._on(model, pairs, metric, ablation, over)
        if others is not None:
            return criteria.needs(on, self.nodes, others)
        return criteria.searched_needs(on, self.roles, seed=seed)

    # ---- text and JSON

    def __repr__(self) -> str:
        roles = ", ".join(f"{len(some)} {role}" for role, some in self.roles.items())
        edges = f", {len(self.edges)} edges" if self.edges else ""
        return f"Circuit({len(self.nodes)} nodes: {roles}{edges})"

    def _table(self) -> Iterator[Row]:
        yield "role", "nodes"
        yield from ((role, " ".join(some)) for role, some in self.roles.items())

    def __str__(self) -> str:
        lines = [f"{role}: {' '.join(some)}" for role, some in self.roles.items()]
        return "\n".join([*lines, *(["edges: " + " ".join(self.edges)] if self.edges else [])])

    @classmethod
    def parse(cls, text: str) -> Circuit:
        """The inverse of str(): a line a role, "name mover: a9.9@END a9.6@END"; "edges: ..." for
        edges; # begins a comment."""
        roles: dict[str, str] = {}
        for line in (line.partition("#")[0].strip() for line in text.splitlines()):
            role, colon, nodes = line.partition(":")
            if line and (not colon or role.strip() in roles):
                raise CircuitError(
                    f"{line!r} is no line of a circuit",
                    "a role, a colon, its nodes; each role once",
                    "name mover: a9.9@END a9.6@END",
                )
            if line:
                roles[role.strip()] = nodes
        return cls(
            {role: nodes for role, nodes in roles.items() if role != "edges"},
            roles.get("edges", "").split(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Roles and edges as plain values."""
        return {
            "roles": {role: list(some) for role, some in self.roles.items()},
            "edges": list(self.edges),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Circuit:
        """The inverse of to_dict, or a graph of EAP-IG and MIB: its nodes in the graph, in one
        role, and its edges."""
        if "roles" in data:
            return cls(data["roles"], data.get("edges", ()))
        if not {"nodes", "edges"} <= set(data):
            raise CircuitError(
                f"a circuit with the keys {', '.join(data)}",
                "roles and edges, or EAP-IG's cfg, nodes and edges",
            )
        nodes = [name for name, node in data["nodes"].items() if _in_graph(name, node)]
        edges = {name: str(ours(name)) for name in data["edges"]}
        kept = [edges[name] for name, edge in data["edges"].items() if edge["in_graph"]]
        scores = {
            edges[name]: float(edge["score"])
            for name, edge in data["edges"].items()
            if edge.get("score") is not None
        }
        circuit = [str(ours(name)) for name in nodes if name not in ("input", "logits")]
        cfg = data.get("cfg") or {}
        shape = (cfg["n_layers"], cfg["n_heads"]) if {"n_layers", "n_heads"} <= set(cfg) else None
        return cls({"circuit": circuit}, kept, scores, shape)

    def to_eap(self, config: Config) -> dict[str, Any]:
        """The graph as EAP-IG and MIB write it: every node and edge, whether it is in (an edge that
        is brings the nodes at its ends), and its score. Positions are lost: theirs has none."""
        kept, ends = set(self.edges), [parse(edge) for edge in self.edges]
        inside = {str(parse(node).site) for node in self.nodes} | {"input", "out"}
        inside |= {str(end.sites[0]) for end in ends} | {str(end.sites[-1].writer) for end in ends}
        return {
            "cfg": {
                "n_layers": config.n_layer,
                "n_heads": config.n_head,
                "parallel_attn_mlp": False,
                "d_model": config.d_model,
            },
            "nodes": {theirs(name, "eap"): {"in_graph": name in inside} for name in _eap(config)},
            "edges": {
                theirs(edge, "eap"): {
                    "score": self.scores.get(edge, float(edge in kept)),
                    "in_graph": edge in kept,
                }
                for edge in every_edge(config)
            },
        }

    @classmethod
    def load(cls, text: str) -> Circuit:
        """From what a file holds: our text, our JSON, or EAP-IG's."""
        if not text.lstrip().startswith("{"):
            return cls.parse(text)
        try:
            return cls.from_dict(json.loads(text))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise CircuitError(
                f"JSON that holds no circuit: {error}",
                '{"roles": {"name mover": ["a9.9@END"]}, "edges": []}',
            ) from error


def _in_graph(name: str, node: Any) -> bool:
    """As EAP-IG says it of a node, or MIB, plainly; CircuitError where it says it of a part of its
    neurons."""
    if not isinstance(node, Mapping):
        return bool(node)
    neurons = node.get("neurons")
    if node["in_graph"] and neurons is not None and not all(neurons):
        raise CircuitError(
            f"{name} with {sum(map(bool, neurons))} of its {len(neurons)} neurons in the graph",
            "nodes that are in it as a whole, or not",
            "the graph without 'neurons'",
        )
    return bool(node["in_graph"])


def _eap(config: Config) -> list[str]:
    """The nodes of EAP-IG's graph: the input, heads and MLPs, the output."""
    writers = [site for site in every_node(config) if site.kind in ("attn", "mlp")]
    return ["input", *map(str, writers), "out"]


def _node(text: str) -> Address:
    address = parse(text)
    if len(address.sites) > 1 or address.site.role != "node":
        raise CircuitError(
            f"'{text}' in a role", "nodes, at positions where they have one: a9.9@END"
        )
    return address


def _edge(text: str) -> Address:
    address = parse(text)
    if len(address.sites) != 2:
        raise CircuitError(f"'{text}' among the edges", "edges: a5.5>a8.6.v")
    return address


def _nodes(words: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(str(_node(word)) for word in (words.split() if isinstance(words, str) else words))
