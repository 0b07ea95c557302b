"""What a head does in a task, by where it looks and what it writes: the classes of Wang et al.
2022, told from tokens, not from names.

    induction            looks at what came after the same token before
    duplicate token      looks at the same token before
    previous token       looks at the token before
    name mover           looks from the end at the answer, and copies it
    negative name mover  the same, its write turned round
    S-inhibition         looks from the end at the distractor, and acts through the queries of
                         movers
    backup name mover    stands out on the logits only once the movers are knocked out
    unclassed            none of these: its scores say what it does

A head that looks at several of them alike is what comes first. Knows nothing of how heads are
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp import heads
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Trace, parse
from minigpt.shown import Shown

# What a head is classed by gets a fifth of its attention or more; copying counts from half of the
# prompts up.
LOOKS, COPIES = 0.2, 0.5
NAME_MOVER, NEGATIVE, INHIBITION, BACKUP, UNCLASSED = (
    "name mover",
    "negative name mover",
    "S-inhibition",
    "backup name mover",
    "unclassed",
)
BY_TARGET = {
    "after the same": "induction",
    "the same": "duplicate token",
    "before": "previous token",
}
ROLES = (NAME_MOVER, NEGATIVE, BACKUP, INHIBITION, *BY_TARGET.values(), UNCLASSED)


@dataclass(frozen=True, repr=False)
class Scores(Shown):
    """A head's mean attention from one position to each kind of target and each named place, its
    copy scores, its scores on random tokens."""

    attention: Mapping[str, float]
    places: Mapping[str, float]
    copies: float
    denies: float
    random: Mapping[str, float]

    @property
    def target(self) -> str:
        """Where it looks most, "" where nowhere in particular; of equals the first."""
        best = max(self.attention, key=lambda name: self.attention[name])
        return best if self.attention[best] >= LOOKS else ""


@dataclass(frozen=True, eq=False, repr=False)
class Judge(Shown):
    """Everything that classing needs, computed once: the clean run, all heads' copy scores and
    scores on random tokens [layer, head]."""

    trace: Trace
    pairs: Prompts
    end: int | str
    copies: Float[Tensor, "layer head"]
    denies: Float[Tensor, "layer head"]
    random: Mapping[str, Float[Tensor, "layer head"]]

    def scores(self, node: str) -> Scores:
        """The scores of a head at a position, "a2.6@END"."""
        address = parse(node)
        assert address.at is not None
        own = address.site.layer, address.site.part
        weights = self.trace[f"{address.site}.pattern@{address.at}"]
        return Scores(
            self._attention(weights, address.at),
            self._places(weights),
            float(self.copies[own]),
            float(self.denies[own]),
            {name: float(table[own]) for name, table in self.random.items()},
        )

    def role(self, node: str, through_movers: bool = False) -> str:
        """The class of a head at a position. through_movers: whether it was found to act through
        the queries of movers."""
        scores = self.scores(node)
        if scores.target == "answer":
            copies, denies = scores.copies >= COPIES, scores.denies >= COPIES
            return NAME_MOVER if copies else NEGATIVE if denies else UNCLASSED
        if scores.target == "distractor":
            return INHIBITION if through_movers else UNCLASSED
        return BY_TARGET.get(scores.target, UNCLASSED)

    def _attention(self, weights: Float[Tensor, "prompts pos"], at: int | str) -> dict[str, float]:
        """Mean attention to each kind of target; to answers and distractors only from where the
        metric reads."""
        batch = self.trace.batch
        reads = bool((batch.index(at) == batch.index(self.end)).all())
        return {
            name: float((weights * mask.to(weights)).sum(-1).mean())
            for name, mask in targets(self.pairs, at).items()
            if reads or name in BY_TARGET
        }

    def _places(self, weights: Float[Tensor, "prompts pos"]) -> dict[str, float]:
        """Mean attention to each named position."""
        return {
            name: float(weights.gather(1, rows[:, None].to(weights.device)).mean())
            for name, rows in self.trace.batch.positions.items()
        }


def judge(model: GPT2, pairs: Prompts, end: int | str) -> Judge:
    """The judge of a task's heads. end: where the metric reads.

    Copy scores are taken where the answer first stands in the prompt; 0 where some prompt does not
    hold it.
    """
    trace = model.run(pairs)
    hits = _holds(pairs, pairs.answers)
    named = replace(
        trace, batch=Batch(trace.tokens, trace.batch.lengths, {"answer": hits.int().argmax(1)})
    )
    silent = torch.zeros(model.config.n_layer, model.config.n_head, dtype=torch.float64)
    copies, denies = (
        heads.copying(named, "answer", sign=sign) if bool(hits.any(1).all()) else silent
        for sign in (1, -1)
    )
    return Judge(trace, pairs, end, copies, denies, _random(model))


def targets(pairs: Prompts, at: int | str) -> dict[str, Bool[Tensor, "prompts pos"]]:
    """Which positions, seen from `at` in each prompt, are of each kind."""
    tokens, rows = pairs.batch.tokens, pairs.batch.index(at)[:, None]
    places = torch.arange(tokens.shape[1])[None]
    same = (tokens == tokens.gather(1, rows)) & (places < rows)
    masks = {
        "after the same": same.roll(1, 1) & (places > 0),
        "the same": same,
        "before": places == rows - 1,
        "answer": _holds(pairs, pairs.answers) & (places <= rows),
    }
    if pairs.distractors is not None:
        masks["distractor"] = _holds(pairs, pairs.distractors) & (places <= rows)
    return masks


def _holds(pairs: Prompts, ids: Any) -> Bool[Tensor, "prompts pos"]:
    """Where each prompt has one of its own tokens."""
    return (pairs.batch.tokens[:, :, None] == torch.as_tensor(ids)[:, None]).any(
        -1
    ) & pairs.batch.mask


def _random(model: GPT2) -> dict[str, Float[Tensor, "layer head"]]:
    """Scores on repeated random tokens; words, where there is a tokenizer to tell them."""
    among = None if model.tokenizer is None else heads.words(model.tokenizer)
    n = min(25, model.config.n_ctx // 2)
    return {
        score.__name__: score(model, n, among=among)
        for score in (heads.induction, heads.duplicate, heads.previous)
    }
