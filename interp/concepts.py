"""Which concepts of a text, whose truth is known token by token, have a latent of their own.

A latent tells a concept by being on above a threshold: how well is its F1, the harmonic mean of how
many of the tokens that it tells are of the concept, and how many of those it tells. Latent and
threshold are chosen on one half of the prompts, F1 is that of the other half; beside it stands what
the same search finds where the labels are dealt out anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minigpt import GPT2, Trace
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
    halves = even, inside & ~even
    draws = torch.Generator().manual_seed(seed)
    said = [torch.stack([label[half] for label in truth.values()], 1) for half in halves]
    dealt = [x[torch.randperm(len(x), generator=draws)] for x in said]
    (one, other), most = (act[half] for half in halves), act[even].amax(0)
    best = _best(one, most, torch.cat([said[0], dealt[0]], 1))
    f1 = torch.stack(
        [_f1(_on(other, most * share), torch.cat([said[1], dealt[1]], 1)) for share in SHARES]
    )
    found = []
    for i, concept in enumerate(truth):
        (row, latent), shuffled = best[i], best[len(truth) + i]
        found.append(
            Concept(
                concept,
                f"{whole}.l{latent}",
                SHARES[row],
                float(f1[row, latent, i]),
                float(f1[(*shuffled, len(truth) + i)]),
                int(said[1][:, i].sum()),
            )
        )
    return tuple(found)


def of_texts(model: GPT2, lines: Sequence[Mapping[str, Any]]) -> dict[str, Concept]:
    """Each concept that a latent of the model's dictionaries tells. lines: {"text", "concepts":
    positions by concept}."""
    trace = model.run([line["text"] for line in lines])
    truth = labels(trace, [line["concepts"] for line in lines])
    found = (told(trace, whole, truth) for whole in model.params.dictionaries)
    return known([each for some in found for each in some])


def known(found: Sequence[Concept]) -> dict[str, Concept]:
    """For each concept the best of all latents, of whatever dictionary, where that tells it."""
    best: dict[str, Concept] = {}
    for each in sorted(found, key=lambda one: -one.f1):
        best.setdefault(each.concept, each)
    return {name: each for name, each in best.items() if each.f1 >= KNOWN}


def _best(
    act: Float[Tensor, "tokens n"], most: Float[Tensor, "n"], labels: Bool[Tensor, "tokens labels"]
) -> list[tuple[int, int]]:
    """For each label the threshold's number and the latent that tell it best."""
    scores = torch.stack([_f1(_on(act, most * share), labels) for share in SHARES])
    return [divmod(i, scores.shape[1]) for i in scores.flatten(0, 1).argmax(0).tolist()]


def _on(act: Float[Tensor, "tokens n"], least: Float[Tensor, "n"]) -> Bool[Tensor, "tokens n"]:
    return (act > 0) & (act > least)


def _f1(
    on: Bool[Tensor, "tokens n"], labels: Bool[Tensor, "tokens labels"]
) -> Float[Tensor, "n labels"]:
    """0 where nothing is told and nothing is there to tell."""
    hits = on.double().T @ labels.double()
    return 2 * hits / (on.sum(0)[:, None] + labels.sum(0)).clamp(min=1)
