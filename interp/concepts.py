"""Which concepts of a text, whose truth is known token by token, have a latent of their own.

A latent tells a concept by being on above a threshold: how well is its F1, the harmonic mean of how
many of the tokens that it tells are of the concept, and how many of those it tells. Latent and
threshold are chosen on one half of the prompts, F1 is that of the other half; beside it stands what
the same search finds where the labels are dealt out anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minigpt import Trace
from minigpt.shown import Shown

# Thresholds that are tried, as shares of the most that a latent was on.
SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
# From here on a latent is said to know a concept.
KNOWN = 0.9


@dataclass(frozen=True)
class Concept(Shown):
    """A concept and the latent that tells it best. share: its threshold; f1 of prompts that did not
    choose it; shuffled: the best f1 where labels say nothing; tokens: of the concept, among those
    prompts."""

    concept: str
    latent: str
    share: float
    f1: float
    shuffled: float
    tokens: int


def labels(
    trace: Trace, places: Sequence[Mapping[str, Sequence[int]]]
) -> dict[str, Bool[Tensor, "batch pos"]]:
    """By concept, which tokens of a run are of it; places: each prompt's positions by concept."""
    names = sorted({name for each in places for name in each})
    found = {name: torch.zeros(trace.tokens.shape, dtype=torch.bool) for name in names}
    for prompt, each in enumerate(places):
        for name, positions in each.items():
            found[name][prompt, list(positions)] = True
    return found


def told(
    trace: Trace, whole: str, truth: Mapping[str, Bool[Tensor, "batch pos"]], seed: int = 0
) -> tuple[Concept, ...]:
    """Each concept with the latent of the dictionary of `whole`, "m3", that tells it best."""
    act, inside = trace.act(f"{whole}.l"), trace.batch.mask
    even = (torch.arange(len(inside)) % 2 == 0)[:, None] & inside
    odd = inside & ~even
    draws = torch.Generator().manual_seed(seed)
    found = []
    for concept, label in truth.items():
        f1, latent, share = _best(act[even], label[even], act[odd], label[odd])
        dealt = (
            label[half][torch.randperm(int(half.sum()), generator=draws)] for half in (even, odd)
        )
        shuffled, *_ = _best(act[even], next(dealt), act[odd], next(dealt))
        tokens = int(label[odd].sum())
        found.append(Concept(concept, f"{whole}.l{latent}", share, f1, shuffled, tokens))
    return tuple(found)


def known(found: Sequence[Concept]) -> dict[str, Concept]:
    """For each concept the best of all latents, of whatever dictionary, where that tells it."""
    best: dict[str, Concept] = {}
    for each in sorted(found, key=lambda one: -one.f1):
        best.setdefault(each.concept, each)
    return {name: each for name, each in best.items() if each.f1 >= KNOWN}


def _best(
    act: Float[Tensor, "tokens n"],
    label: Bool[Tensor, "tokens"],
    other: Float[Tensor, "others n"],
    others: Bool[Tensor, "others"],
) -> tuple[float, int, float]:
    """F1 on the other tokens, the latent and the threshold that are best on these."""
    most = act.amax(0)
    scores = torch.stack([_f1(_on(act, most * share), label) for share in SHARES])
    which = int(scores.argmax())
    row, latent = divmod(which, scores.shape[1])
    on = _on(other[:, latent : latent + 1], most[latent : latent + 1] * SHARES[row])
    return float(_f1(on, others)[0]), latent, SHARES[row]


def _on(act: Float[Tensor, "tokens n"], least: Float[Tensor, "n"]) -> Bool[Tensor, "tokens n"]:
    return (act > 0) & (act > least)


def _f1(on: Bool[Tensor, "tokens n"], label: Bool[Tensor, "tokens"]) -> Float[Tensor, "n"]:
    """0 where nothing is told and nothing is there to tell."""
    hits = (on & label[:, None]).sum(0).double()
    return 2 * hits / (on.sum(0) + label.sum()).clamp(min=1)
