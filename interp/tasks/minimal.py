"""Minimal pairs: one sentence twice, in which a single word decides what comes next.

Knows how a pair becomes prompts; what the sentences are is for the tasks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from interp.tasks.prompts import Prompts
from interp.tasks.vocabulary import single
from minigpt import Tokenizer
from minigpt.shown import Shown

SLOT = re.compile(r"\[(\w+)\]")


@dataclass(frozen=True, repr=False)
class Side(Shown):
    """The word that decides, and the token that it leads to (with its space, if it has one)."""

    word: str
    answer: str


@dataclass(frozen=True, repr=False)
class Pair(Shown):
    """A sentence up to its answer, with one slot left open ("The capital of [COUNTRY] is"); what
    fills it in the clean prompt and in the corrupt one; the number of its template."""

    sentence: str
    clean: Side
    corrupt: Side
    group: int

    def text(self, side: Side) -> str:
        """The sentence with this side's word."""
        return SLOT.sub(lambda _: side.word, self.sentence)

    @property
    def opening(self) -> str:
        """What stands before the slot and its space."""
        return SLOT.split(self.sentence)[0].removesuffix(" ")


Draw = Callable[[random.Random], Pair]


def prompts(tokenizer: Tokenizer, draw: Draw, n: int, seed: int, position: str) -> Prompts:
    """n pairs, each drawn by a seed of its own, so that none depends on how many there are.
    `position` names the place of the word that decides; a group for each template."""
    pairs = [draw(random.Random(f"{seed}.{i}")) for i in range(n)]
    at = [len(tokenizer.encode(pair.opening)) for pair in pairs]
    return Prompts.from_texts(
        tokenizer,
        [pair.text(pair.clean) for pair in pairs],
        [pair.text(pair.corrupt) for pair in pairs],
        [pair.clean.answer for pair in pairs],
        [pair.corrupt.answer for pair in pairs],
        {position: torch.tensor(at, dtype=torch.long)},
        torch.tensor([pair.group for pair in pairs], dtype=torch.long),
    )


def known(tokenizer: Tokenizer, words: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of each kind the words that are one token with a space before them, the others left out with
    a warning."""
    return {kind: single(tokenizer, of, kind.lower()) for kind, of in words.items()}


def filled(template: str, rng: random.Random, words: Mapping[str, Sequence[str]]) -> str:
    """A template whose slots of these kinds are filled by chance, each on its own; others stay
    open."""

    def chosen(slot: re.Match[str]) -> str:
        return rng.choice(words[slot[1]]) if slot[1] in words else slot[0]

    return SLOT.sub(chosen, template)
