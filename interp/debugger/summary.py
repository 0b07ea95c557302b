"""The question in words, the metric on each side, and what the model says next."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.both import Both
from interp.debugger.session import Runs


@dataclass(frozen=True)
class Next:
    """A row of the next-token table, read off all logits of each side. role: "answer", "distractor" or ""."""

    token: str
    id: int
    role: str
    logit: Both
    probability: Both
    rank: Both


@dataclass(frozen=True)
class Piece:
    """A position: the token on the left and on the right ("" where that side has none there), and whether they differ."""

    position: int
    left: str
    right: str
    differs: bool


@dataclass(frozen=True)
class Receipt:
    """What the interventions did: see minigpt.rows.Receipt. words: the same as one line; effective: whether anything changed."""

    written: int
    changed: int
    recomputed: int
    flops: int
    full_flops: int
    words: str
    effective: bool


@dataclass(frozen=True)
class Summary:
    """What stands on top of the page. sides: the names of left and right. notes: what was assumed, and what to mind."""

    question: str
    model: str
    url: str
    sides: tuple[str, ...]
    metric_name: str
    metric: Both
    answers: tuple[str, ...]
    distractors: tuple[str, ...]
    next: tuple[Next, ...]
    tokens: tuple[Piece, ...]
    patch: tuple[str, ...]
    receipt: Receipt | None
    notes: tuple[str, ...]


def summary(runs: Runs, k: int = 10) -> Summary:
    """The summary; the next-token table has the answers, the distractors, and the k most probable tokens of each side."""
    raise NotImplementedError
