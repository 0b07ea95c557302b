"""The runs that a question needs, each made once and kept while there is room: Session.runs(question) -> Runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from interp.debugger.question import Question
from interp.metrics import Metric
from minigpt import GPT2, Trace
from minigpt.patch import Patch

# Bytes of traces that a session keeps.
MEMORY = 2**30


@dataclass(frozen=True, eq=False)
class Side:
    """One column of every table: a run after its patch (the empty one, mostly), and the metric read off it."""

    name: str
    base: Trace
    patch: Patch
    trace: Trace
    metric: Metric
    tokens: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Runs:
    """A question made concrete. left: the prompt; right: after the interventions, or the other prompt, or None."""

    question: Question
    model: GPT2
    left: Side
    right: Side | None
    other: Side | None
    patch: Patch


class Session:
    """Models by name, and the runs made so far. Safe under threads; traces of up to `memory` bytes are kept."""

    def __init__(self, models: Mapping[str, GPT2], memory: int = MEMORY) -> None:
        self.models, self.memory = dict(models), memory

    def runs(self, question: Question) -> Runs:
        """The runs of a question; QuestionError, PromptError, PatchError with what to type where it cannot be asked."""
        raise NotImplementedError


def runs(model: GPT2, question: Question) -> Runs:
    """The same for one model, by itself."""
    return Session({question.model: model}).runs(question)
