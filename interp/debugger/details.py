"""One node at one position: where it looked, what that gave, and which tokens its write promotes
and suppresses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp import latents, score
from interp.debugger.columns import norms
from interp.debugger.place import Place, kind
from interp.debugger.session import Runs, Side
from interp.debugger.upstream import steps
from minigpt import Tokenizer, Trace
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Promoted(Shown):
    """A token, and what the write adds to its logit over what it adds to the mean token."""

    token: str
    effect: float


@dataclass(frozen=True, repr=False)
class Looked(Shown):
    """A position that a head attends to: the weight, and the length of what it took from there."""

    position: int
    token: str
    weight: float
    norm: float


@dataclass(frozen=True, repr=False)
class SideDetails(Shown):
    """The details on one side. looked: heads, by weight; inputs: neurons and latents, the tokens
    whose embedding alone would switch it on most. activations: latents, at every position; made_of:
    the earlier writes that its score is the sum of, the largest."""

    side: str
    promotes: tuple[Promoted, ...]
    suppresses: tuple[Promoted, ...]
    looked: tuple[Looked, ...]
    inputs: tuple[Promoted, ...]
    activations: tuple[float, ...] = ()
    made_of: tuple[Promoted, ...] = ()


@dataclass(frozen=True, repr=False)
class Details(Shown):
    """Both sides' details. steps: the steps upstream that can be taken from here, by their
    words."""

    address: str
    kind: str
    position: int
    token: str
    sides: tuple[SideDetails, ...]
    steps: dict[str, str]


def details(runs: Runs, address: str, k: int = 10) -> Details:
    """The details of a row's address: "a2.6@13", "a2.6@13<3", "m1.n7@9", "m1.l7@9", "m1@9",
    "emb@3"."""
    place = Place.parse(address, runs.left.trace)
    sides = []
    for side in runs.sides:
        there = place if side is runs.left else place.under(runs.twins)
        if there is not None:
            sides.append(_side(side, there, runs.tokenizer, k))
    what, token = "pair" if place.key is not None else kind(place.site), runs.left.tokens[place.at]
    return Details(str(place), what, place.at, token, tuple(sides), steps(runs, str(place)))


def _side(side: Side, place: Place, tokenizer: Tokenizer, k: int) -> SideDetails:
    logits = _promotes(side.trace, place.wrote(side.trace), place.at)
    return SideDetails(
        side.name,
        _top(tokenizer, logits, k),
        _top(tokenizer, -logits, k, -1),
        _looked(side, place),
        _inputs(side.trace, place, tokenizer, k),
        *(_lit(side.trace, place, k) if kind(place.site) == "latent" else ()),
    )


def _promotes(trace: Trace, write: Float[Tensor, "d_model"], at: int) -> Float[Tensor, "vocab"]:
    """What a write adds to every logit directly, over what it adds to the mean logit, the final
    LayerNorm's scale being the run's there."""
    centred = (write - write.mean()) * trace.params.ln_w / trace.scale(f"out@{at}")[0]
    logits = F.linear(centred, trace.params.unembed)
    return logits - logits.mean()


def _top(
    tokenizer: Tokenizer, x: Float[Tensor, "vocab"], k: int, sign: int = 1
) -> tuple[Promoted, ...]:
    named = x.index_fill(0, x.new_tensor(tokenizer.lacking(len(x)), dtype=torch.long), -torch.inf)
    best = named.topk(min(k, len(x)))
    return tuple(
        Promoted(tokenizer.text(i), sign * value)
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _looked(side: Side, place: Place) -> tuple[Looked, ...]:
    """A head's whole pattern row, the largest weight first."""
    if place.site.kind != "attn" or place.site.part is None:
        return ()
    row = side.trace[f"{place.site}.pattern@{place.at}"][0][: place.at + 1]
    norm = row * norms(side.trace, place.site)[: place.at + 1]
    return tuple(
        Looked(u, side.tokens[u], float(row[u]), float(norm[u]))
        for u in row.argsort(descending=True, stable=True).tolist()
    )


def _lit(trace: Trace, place: Place, k: int) -> tuple[tuple[float, ...], tuple[Promoted, ...]]:
    """Where a latent is on, and what its score is made of."""
    on = latents.activations(trace, str(place.site)).tolist()
    made = score.direct(trace, str(place)).top(k)
    return tuple(on), tuple(Promoted(name, value) for name, value in made)


def _inputs(trace: Trace, place: Place, tokenizer: Tokenizer, k: int) -> tuple[Promoted, ...]:
    """The tokens whose embedding adds most to a neuron's activation before the GELU, or to a
    latent's score, its LayerNorm's scale being the run's."""
    if kind(place.site) == "latent" and place.site.whole.kind != "attn":
        return _top(tokenizer, latents.reads(trace, str(place)), k)
    if place.site.kind != "mlp" or place.site.part is None:
        return ()
    block = trace.params.blocks[place.site.depth]
    toward = block.ln2_w * block.w_in[:, place.site.part]
    return _top(
        tokenizer,
        trace.params.wte
        @ ((toward - toward.mean()) / trace.scale(f"m{place.site.layer}.in@{place.at}")[0]),
        k,
    )
