"""What a step upstream asks about: one number of a run, and how it reads the residual stream
through ports.

A reading: a port at a position, and u with number = (LayerNorm of the stream there) . u + constant.
With the LayerNorm's scale frozen a write w at that position adds w . g to the number, g = (w_ln u -
mean(w_ln u)) / sigma, and its bias b adds b . u; so with the constant the parts of every reading
sum to the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, rounding
from interp.debugger.place import Place
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from interp.numerics import bounds
from interp.parts import before_norm
from minigpt import Site, Trace, ops
from minigpt.params import Block
from minigpt.shown import Shown

STATED = (
    "Direct: the LayerNorm's scale at the score's input is the run's own; everything else is "
    "exact, and the parts sum to the score."
)
THROUGH = {
    "q": "through its query",
    "k": "through its key",
    "attn": "through its query and its key",
}


@dataclass(frozen=True, eq=False, repr=False)
class Reading(Shown):
    """A port at a position, what it is multiplied by, and the constant. projection: what rounding
    may do to the product of the two; share: of its parts, what counts (a half, where two readings
    make one product).
    """

    port: Site
    at: int
    toward: Float[Tensor, "d_model"]
    constant: Float[Tensor, ""]
    projection: Float[Tensor, ""]
    share: float = 1.0

    def seen(self, trace: Trace) -> Float[Tensor, "d_model"]:
        """The stream that the port reads."""
        return trace.stream(self.port)[0, self.at]

    def gradient(self, trace: Trace) -> Float[Tensor, "d_model"]:
        """g: what a unit of each direction of the stream adds, the LayerNorm's scale being the
        run's. float64."""
        sigma = ops.scale(self.seen(trace).double(), trace.config.eps)
        return before_norm(self.toward, norm(trace, self.port)[0], sigma)

    def bias(self, trace: Trace) -> Float[Tensor, ""]:
        """What the LayerNorm's bias adds."""
        return norm(trace, self.port)[1].double() @ self.toward

    def change(
        self, trace: Trace, differ: Float[Tensor, "edges d_model"]
    ) -> Float[Tensor, "edges"]:
        """How the number changes when the stream there is another by so much, LayerNorm computed
        again. float64."""
        w, b = norm(trace, self.port)
        seen = self.seen(trace)
        before, after = (
            ops.layer_norm(x, w, b, trace.config.eps).double() @ self.toward
            for x in (seen, seen + differ)
        )
        return after - before


@dataclass(frozen=True, eq=False, repr=False)
class Score(Shown):
    """The number of one step on one side, and its readings. float64."""

    value: Float[Tensor, ""]
    readings: tuple[Reading, ...]


def bound(trace: Trace, readings: Sequence[Reading]) -> Float[Tensor, ""]:
    """How far the parts may be from the number: what rounding may do to the stream, to its
    LayerNorm and to the product (interp.rounding). The readings' ports are of one head, or one
    MLP's."""
    port, at = readings[0].port, torch.tensor([r.at for r in readings])
    g = torch.stack([r.gradient(trace).abs() for r in readings])
    toward = torch.stack([r.toward.abs() for r in readings])
    projection = torch.stack([r.projection for r in readings])
    share = torch.tensor([r.share for r in readings], dtype=torch.float64)
    seen = torch.stack([r.seen(trace) for r in readings])
    normed = rounding.normed(seen, *norm(trace, port), trace.config.eps) * toward
    stream = rounding.stream(trace, port, lambda x: x[0, at]) * g
    return (share * (stream.sum(-1) + normed.sum(-1) + projection)).sum()


def norm(trace: Trace, port: Site) -> tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"]]:
    """The weight and bias of the LayerNorm through which a port reads."""
    if port.kind == "out":
        return trace.params.ln_w, trace.params.ln_b
    block = _block(trace, port)
    return (block.ln2_w, block.ln2_b) if port.kind == "in" else (block.ln1_w, block.ln1_b)


def places(runs: Runs) -> tuple[Place, ...]:
    """The steps of the question's trail on the left; QuestionError for one that is no step."""
    trail = tuple(Place.parse(text, runs.left.trace) for text in runs.question.trail)
    for text, place in zip(runs.question.trail, trail, strict=True):
        if not _is_step(place):
            raise QuestionError(
                f"'{text}' is no step upstream",
                "a head's score 'a3.1.q@13<9' (.k, .v, or none for query and key), "
                "what it takes 'a3.1.v@13', a neuron 'm2.n17@5'",
            )
    return trail


def _is_step(place: Place) -> bool:
    """Whether it is a neuron, or a head's: a score has a key, what is taken may be from all."""
    if place.site.part is None or place.site.kind == "mlp":
        return place.site.part is not None
    return place.site.kind == "v" or (
        place.key is not None and place.site.kind in ("attn", "q", "k")
    )


def words(trail: Sequence[Place], tokens: Sequence[str], metric: str) -> str:
    """The question that the last step asks."""
    place = trail[-1]
    here = f"{place.at} {tokens[place.at]!r}"
    if place.site.kind == "mlp":
        return f"Why is neuron {place.site} on at {here}? (its activation before the GELU)"
    head = Site("attn", place.site.layer, place.site.part)
    if place.site.kind == "v":
        by = f"the {metric}" if len(trail) == 1 else f"the step before it, {trail[-2]}"
        there = "" if place.key is None else f" from {place.key} {tokens[place.key]!r}"
        taken = f"what {head} takes{there} to {here}"
        return f"What is in {taken}, as measured by {by}? (the pattern frozen)"
    looked = f"{place.key} {tokens[place.key or 0]!r}, {THROUGH[place.site.kind]}"
    return f"Why does {head} at {here} look at {looked}? (the score before the softmax)"


def score(side: Side, trail: Sequence[Place]) -> Score:
    """The number that the last step of a trail asks about, on one side."""
    place, trace = trail[-1], side.trace
    if place.site.kind == "mlp":
        return _neuron(trace, place)
    return _values(side, trail) if place.site.kind == "v" else _attention(trace, place)


def _neuron(trace: Trace, place: Place) -> Score:
    """The activation before the GELU: what the MLP reads times the neuron's column of W_in, plus
    its bias."""
    block = _block(trace, place.site)
    toward, constant = block.w_in[:, place.site.part].double(), block.b_in[place.site.part].double()
    port = Site("in", place.site.layer)
    exactly = torch.zeros((), dtype=torch.float64)
    return Score(
        trace[f"{port}@{place.at}"][0].double() @ toward + constant,
        (Reading(port, place.at, toward, constant, exactly),),
    )


def _attention(trace: Trace, place: Place) -> Score:
    """Query times key over the root of d_head. Through both: half of each (the product's Shapley
    values), so that the parts sum to it."""
    layer, head = place.site.layer, place.site.part
    sides = {"q": (place.at, "k", place.key), "k": (place.key, "q", place.at)}
    kinds = "qk" if place.site.kind == "attn" else place.site.kind
    readings = []
    for kind in kinds:
        at, fixed, where = sides[kind]
        against = trace[f"a{layer}.{head}.{fixed}@{where}"][0].double() * trace.config.d_head**-0.5
        readings.append(_reading(trace, Site(kind, layer, head), at or 0, against, 1 / len(kinds)))
    q, k = (trace[f"a{layer}.{head}.{kind}@{sides[kind][0]}"][0].double() for kind in "qk")
    return Score(q @ k * trace.config.d_head**-0.5, tuple(readings))


def _values(side: Side, trail: Sequence[Place]) -> Score:
    """The weighted values of some keys, measured by what their write adds to the metric or to the
    step before."""
    place, trace = trail[-1], side.trace
    head = Site("attn", place.site.layer, place.site.part)
    own = trace.config.head_columns(head.part or 0)
    toward = _block(trace, head).w_o[own].double() @ _downstream(side, trail, head)
    row = trace[f"{head}.pattern@{place.at}"][0].double()
    keys = range(place.at + 1) if place.key is None else [place.key]
    readings = tuple(_reading(trace, place.site, u, row[u] * toward) for u in keys)
    value = torch.stack(
        [row[u] * (trace[f"{place.site}@{u}"][0].double() @ toward) for u in keys]
    ).sum()
    return Score(value, readings)


def _downstream(side: Side, trail: Sequence[Place], head: Site) -> Float[Tensor, "d_model"]:
    """What a unit of each direction that the head writes adds to the metric, or to the score of the
    step before."""
    place, trace = trail[-1], side.trace
    if len(trail) == 1:
        _check_last(side, place)
        return attribution.gradient(trace, side.metric)[0]
    before = score(side, trail[:-1]).readings
    readings = [r for r in before if r.at == place.at and head.stage < r.port.stage]
    if not readings:
        raise QuestionError(
            f"'{place}' after '{trail[-2]}', which does not read what {head} writes at {place.at}",
            "an earlier head, at a position that the step before reads",
        )
    return torch.stack([r.share * r.gradient(trace) for r in readings]).sum(0)


def _check_last(side: Side, place: Place) -> None:
    """QuestionError unless the place is where the metric reads."""
    last = len(side.tokens) - 1
    if place.at != last:
        raise QuestionError(
            f"'{place}' measured by the {side.metric.name}, which is read at the last position",
            "a head at the last position, or a step before this one that reads there",
            f"'{replace(place, at=last, key=None)}'",
        )


def _reading(
    trace: Trace, port: Site, at: int, against: Float[Tensor, "d_head"], share: float = 1.0
) -> Reading:
    """A head's query, key or value times a vector, as a reading of the stream."""
    block, own = _block(trace, port), trace.config.qkv_columns(port.kind, port.part)
    normed = ops.layer_norm(trace.stream(port)[0, at], block.ln1_w, block.ln1_b, trace.config.eps)
    w, b = block.w_qkv[:, own], block.b_qkv[own]
    rounding = bounds.product(normed, w, trace.params.wte.dtype, b) @ against.abs()
    return Reading(port, at, w.double() @ against, b.double() @ against, rounding, share)


def _block(trace: Trace, site: Site) -> Block:
    return trace.params.blocks[site.depth]
