"""The feature graph of a question about one prompt: the latents and heads that matter by exact
total effect, what dictionaries leave over, the tokens, and the edges between them.

An edge's weight is what its receiver loses without its sender: of a latent its score, the number
before its activation; of "out" the metric; of a head what the metric loses by way of it. What MLPs
and the heads that are nodes write in between is held, so that the edge is direct; other heads and
LayerNorms are computed again (exact), or frozen (linear).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.features import exact, linear
from interp.features.influence import Scores, kind, scores
from interp.metrics import Metric
from minigpt import GPT2, Patch, Site, Trace, parse
from minigpt.errors import AddressError, PromptError
from minigpt.shown import Row, Shown

OUT = "out"


@dataclass(frozen=True, repr=False)
class Node(Shown):
    """A latent "m3.l127@5", a head "a2.6@5", an error "m3.e@5" (a whole write, "m3@5", where there
    is no dictionary of it), a token "emb@5" or "out". total: what the metric loses without it, all
    else computed again."""

    address: str
    token: str
    activation: float | None = None
    total: float | None = None

    @property
    def kind(self) -> str:
        """ "latent", "head", "error", "token" or "out"."""
        return "out" if self.address == OUT else kind(self.address)


@dataclass(frozen=True, repr=False)
class Edge(Shown):
    """What the receiver loses without the sender: exactly, and by the linear convention (either is
    None in a graph from a file that lacks it)."""

    sender: str
    receiver: str
    exact: float | None
    linear: float | None

    @property
    def weight(self) -> float:
        """The exact one where there is one."""
        return _first(self.exact, self.linear)


@dataclass(frozen=True, repr=False)
class FeatureGraph(Shown):
    """Nodes in order of layers, the output last, and the edges whose weight is not zero. measured
    of active: how many of the latents that are on were taken out one by one, the largest writes
    first. exact, linear: replacement and completeness by either weight."""

    prompt: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    asked: str
    value: float | None
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    measured: int
    active: int
    exact: Scores | None
    linear: Scores | None

    @property
    def disagreement(self) -> tuple[Edge, ...]:
        """The edges that have both weights, those first on which they differ most."""
        both = [e for e in self.edges if e.exact is not None and e.linear is not None]
        return tuple(sorted(both, key=_apart, reverse=True))

    def weights(
        self, senders: Sequence[str], receivers: Sequence[str], which: str = "linear"
    ) -> Float[Tensor, "receivers senders"]:
        """The edges' weights ("linear" or "exact") as a matrix, 0 where there is none. float64."""
        known = {(edge.receiver, edge.sender): edge for edge in self.edges}
        found = [
            [_first(getattr(known.get((receiver, sender)), which, None)) for sender in senders]
            for receiver in receivers
        ]
        return torch.tensor(found, dtype=torch.float64)

    def _table(self) -> Iterator[Row]:
        yield "sender", "receiver", ">exact", ">linear"
        order = sorted(self.edges, key=lambda edge: -abs(edge.weight))
        for edge in order[:20]:
            yield edge.sender, edge.receiver, _text(edge.exact), _text(edge.linear)


def graph(
    model: GPT2,
    prompt: object,
    metric: Metric,
    *,
    latents: int = 24,
    heads: int = 8,
    among: int = 1000,
    progress: bool = False,
) -> FeatureGraph:
    """The graph of a metric on one prompt: its strongest `latents` and `heads`, each out of the
    `among` that write most, every error and token, and all edges between them.

    Raises PromptError for several prompts, AddressError where the model has no dictionary of an
    MLP.
    """
    trace = model.run(prompt)
    if len(trace.tokens) != 1:
        raise PromptError(f"{len(trace.tokens)} prompts", "one", "a call for each")
    every = _active(trace)
    tried = every[:among]
    total = _totals(model, trace, metric, tried, latents, progress)
    if heads:
        total |= _totals(model, trace, metric, _heads(trace)[:among], heads, progress)
    chosen = sorted(total, key=_place)
    senders = [*chosen, *_errors(trace), *_tokens(trace)]
    weights = exact.weights(model, trace, metric, senders, chosen, progress=progress)
    frozen = linear.weights(trace, metric, senders, chosen)
    words = model.words.pieces(trace.tokens[0].tolist())
    nodes = [_node(trace, words, name, total.get(name)) for name in sorted(senders, key=_place)]
    return FeatureGraph(
        prompt if isinstance(prompt, str) else "".join(words),
        tuple(words),
        tuple(trace.tokens[0].tolist()),
        metric.name,
        float(metric(trace)[0]),
        (*nodes, Node(OUT, "")),
        tuple(_edges(senders, [*chosen, OUT], weights, frozen)),
        len(tried),
        len(every),
        *(scores(senders, [*chosen, OUT], w) for w in (weights, frozen)),
    )


def _active(trace: Trace) -> list[str]:
    """Every latent of an MLP that is on somewhere, the largest writes first."""
    sized = []
    for name, known in trace.params.dictionaries.items():
        whole = parse(name).site
        if whole.kind != "mlp":
            continue
        split = trace.split(Site("mlp.ls", whole.layer))
        lengths = known.decoder if split.through is None else known.decoder @ split.through
        norms = split.act[0] * lengths.norm(dim=-1) / known.scale * known.prepared(split.x).s[0]
        for at, n in split.act[0].nonzero().tolist():
            sized.append((-float(norms[at, n]), f"{name}.l{n}@{at}"))
    if not any(parse(name).site.kind == "mlp" for name in trace.params.dictionaries):
        raise AddressError(
            "a feature graph without a dictionary of an MLP",
            "a model with dictionaries",
            "model.with_dictionaries(weights.load_dictionary(...)), or --latents FOLDER",
        )
    return [name for _, name in sorted(sized)]


def _heads(trace: Trace) -> list[str]:
    """Every head at every position, the largest writes first."""
    layers, (_, width) = range(trace.config.n_layer), trace.tokens.shape
    sized = [
        (-float(write[t].norm()), f"a{layer}.{head}@{t}")
        for layer in layers
        for head in range(trace.config.n_head)
        for write in trace[f"a{layer}.{head}"]
        for t in range(width)
    ]
    return [name for _, name in sorted(sized)]


def _totals(
    model: GPT2, trace: Trace, metric: Metric, names: Sequence[str], k: int, progress: bool
) -> dict[str, float]:
    """The k of these without which the metric loses most, and how much."""
    patches = [Patch.zero(name) for name in names]
    after, _ = metric.after(model, trace, patches, progress=progress)
    totals = metric(trace)[0] - after[:, 0]
    order = totals.abs().argsort(descending=True, stable=True)[:k].tolist()
    return {names[i]: float(totals[i]) for i in order}


def _errors(trace: Trace) -> list[str]:
    """What dictionaries leave over, and MLPs without one, at every position."""
    known = trace.params.dictionaries
    wholes = (f"m{layer}" for layer in range(trace.config.n_layer))
    names = [f"{whole}.e" if whole in known else whole for whole in wholes]
    return [f"{name}@{t}" for name in names for t in range(trace.tokens.shape[1])]


def _tokens(trace: Trace) -> list[str]:
    return [f"emb@{t}" for t in range(trace.tokens.shape[1])]


def _node(trace: Trace, words: Sequence[str], name: str, total: float | None) -> Node:
    address = parse(name)
    assert isinstance(address.at, int)
    on = float(trace.act(name)[0]) if kind(name) == "latent" else None
    return Node(name, words[address.at], on, total)


def _edges(
    senders: Sequence[str],
    receivers: Sequence[str],
    exactly: Float[Tensor, "receivers senders"],
    linearly: Float[Tensor, "receivers senders"],
) -> Iterator[Edge]:
    for i, receiver in enumerate(receivers):
        for j, sender in enumerate(senders):
            a, b = float(exactly[i, j]), float(linearly[i, j])
            if a or b:
                yield Edge(sender, receiver, a, b)


def _place(name: str) -> tuple[int, int, int]:
    """By layer, tokens first; then by position, latents before the error."""
    address = parse(name)
    site = address.site
    assert isinstance(address.at, int)
    return site.stage, address.at, 10**9 if site.part is None else site.part


def _apart(edge: Edge) -> float:
    return abs(_first(edge.exact) - _first(edge.linear))


def _first(*weights: float | None) -> float:
    return next((w for w in weights if w is not None), 0.0)


def _text(weight: float | None) -> str:
    return "" if weight is None else f"{weight:+.3f}"
