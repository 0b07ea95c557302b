"""What the debugger's tests ask: a question of the embedded model, and of a model in float64 in
which sums hold to 1e-10."""

from __future__ import annotations

from dataclasses import replace

import torch

import weights
from interp import metrics
from interp.debugger import session as sessions
from interp.debugger.question import Question
from interp.debugger.session import runs
from interp.tasks import Prompts
from tests.conftest import LETTERS, tiny

PROMPT = "When Mary and John went to the store, John gave a drink to"
OTHER = PROMPT.replace("John gave", "Mary gave")
LONGER = "Then, " + PROMPT
ASKED = Question(prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
LAST = 13
MODEL = weights.load("ioi-mini")
TO = MODEL.tokenizer.single
METRIC = metrics.logit_diff(answers=TO(" Mary"), distractors=TO(" John"))
PAIRS = Prompts.from_texts(MODEL.tokenizer, [PROMPT], [OTHER], [" Mary"], [" John"])
# A model in float64 whose tokens are letters: in it sums hold to 1e-10.
EXACT = replace(tiny(n_layer=3, dtype=torch.float64), tokenizer=LETTERS)
LETTER = Question(model="tiny", prompt="ABCADBC", answers=("D",), distractors=("E",))


def asked(**changes: object) -> sessions.Runs:
    return runs(MODEL, replace(ASKED, **changes))


def exact(**changes: object) -> sessions.Runs:
    return runs(EXACT, replace(LETTER, **changes))


def metric_of(question: Question) -> metrics.Metric:
    return runs(EXACT, question).left.metric


def everything() -> Question:
    return replace(
        ASKED,
        other=OTHER,
        node="a3.4@13",
        trail=("a3.4.q@13<1",),
        graph=("a3.4@13", "a2.6@13"),
        instead="other",
    )
