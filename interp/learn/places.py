"""Where in the debugger each lesson goes on: its own question, asked and answered in the browser.

Knows links only; what they show is the debugger's.
"""

from __future__ import annotations

from dataclasses import replace

from interp.debugger.links import link
from interp.debugger.question import Question
from interp.learn.exercises import MODEL, PROMPT, TASKS, TWIN

WHO = Question(model=MODEL, prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
TWO = replace(WHO, other=TWIN, other_answers=(" John",), other_distractors=(" Mary",))
AGAIN = Question(model=MODEL, prompt=" dog red store key Monday dog red store", answers=(" key",))
YEARS = Question(
    model=TASKS,
    prompt="The war lasted from the year 1732 to the year 17",
    answers=("40", "60", "80"),
    distractors=("10", "20", "30"),
)
PLACES = {
    1: replace(WHO, node="a2.6@13"),
    2: replace(WHO, sort="direct"),
    3: replace(AGAIN, node="a2.3@7<4"),
    4: replace(TWO, sort="total", instead="other"),
    5: replace(TWO, receivers=("a3.4.q",), tab="paths"),
    6: replace(WHO, model=TASKS, graph=("emb@9", "a2.4@13", "a3.4@13", "a3.5@13")),
    7: replace(WHO, patches=("a2.6@13 = x0.5",)),
    8: replace(WHO, split=("latents",)),
    11: replace(YEARS, split=("keys",)),
}


def model(number: int) -> str:
    """The model that a lesson asks."""
    return PLACES[number].model if number in PLACES else MODEL


def place(number: int) -> str:
    """What stands behind the debugger's own address: a lesson's question; the page of a component
    for the lesson on those; nothing where a lesson asks of a model that is not there yet.

    >>> place(9)
    '/component/a2.6?model=ioi-mini'
    """
    if number == 9:
        return link(MODEL, "a2.6")
    return f"/?{PLACES[number].to_url()}" if number in PLACES else "/"
