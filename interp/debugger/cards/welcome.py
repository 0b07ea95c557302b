"""What someone sees who asks nothing yet: five questions with what to look at, each a link to the
view that answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nicegui import ui

from interp.debugger.question import Question
from interp.debugger.session import Runs, Session

MODEL, TASKS = "ioi-mini", "tasks-mini"
PROMPT, OTHER = (
    "When Mary and John went to the store, John gave a drink to",
    "When Mary and John went to the store, Mary gave a drink to",
)
ABOUT = (
    "A language model continues a text. Ask why it says one word rather than another: every head "
    "and neuron is taken apart exactly, can be switched off, and followed upstream."
)


@dataclass(frozen=True)
class Worked:
    """A question with its answer's place."""

    asked: str
    look: str
    question: Question


def worked(model: str = MODEL) -> tuple[Worked, ...]:
    """Five questions to an embedded model; none to another."""
    known = {MODEL: _of_names, TASKS: _of_tasks}
    return known[model]() if model in known else ()


def _of_names() -> tuple[Worked, ...]:
    why = Question(model=MODEL, prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
    return (
        Worked(
            "Why does it say Mary rather than John?",
            "Which heads push for Mary, where they look, and what they write.",
            replace(why, node="a3.4@13"),
        ),
        Worked(
            "Why does head 2.6 look at Mary?",
            "Its score for Mary, taken apart into every earlier write: who tells it that John "
            "came twice?",
            replace(why, node="a2.6@13<1", trail=("a2.6.q@13<1",)),
        ),
        Worked(
            "What if head 2.6 were gone?",
            "Before, after, and whose writes changed: which head takes over?",
            replace(why, patches=("a2.6@13 = 0",)),
        ),
        Worked(
            "What changes when Mary, not John, comes twice?",
            "Two prompts side by side; path patching shows through which heads the difference "
            "travels.",
            replace(
                why,
                other=OTHER,
                other_answers=(" John",),
                other_distractors=(" Mary",),
                tab="paths",
            ),
        ),
        Worked(
            "Which heads make up the circuit?",
            "Nodes by position and layer, with every edge between them measured exactly.",
            replace(why, graph=("emb@9", "a0.6@9", "a1.2@9", "m1@13", "a2.6@13", "a3.4@13")),
        ),
    )


def _of_tasks() -> tuple[Worked, ...]:
    why = Question(model=TASKS, prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
    many, one = "The pictures near the car", "The picture near the car"
    return (
        Worked(
            "Why does it say Mary rather than John?",
            "A name mover of the last layer looks at Mary, and copies her.",
            replace(why, node="a3.4@13"),
        ),
        Worked(
            "What if head 2.4 were gone, which looks at John's second time?",
            "Before, after, and whose writes changed: name movers no longer know whom to leave "
            "out.",
            replace(why, patches=("a2.4@13 = 0",)),
        ),
        Worked(
            "Why are the pictures, and is the picture?",
            "The verb agrees with the first noun, whatever stands between.",
            replace(
                _asked(many, " are", " is"),
                other=one,
                other_answers=(" is",),
                other_distractors=(" are",),
            ),
        ),
        Worked(
            "Why she rather than he?",
            "Which head brings a name's gender to where the pronoun is due.",
            _asked("Then Mary went to the store because", " she", " he"),
        ),
        Worked(
            "Why does a round bracket close, and no square one?",
            "What was opened is looked up: by whom?",
            _asked("The man (a friend of the king", ")", "]"),
        ),
    )


def _asked(prompt: str, answer: str, other: str) -> Question:
    return Question(model=TASKS, prompt=prompt, answers=(answer,), distractors=(other,))


class Welcome:
    """Five links, where a model is there that they ask; gone once there is a question."""

    def __init__(self, session: Session) -> None:
        found = next(filter(None, map(worked, session.models)), ())
        begin = ", or begin with one of these." if found else "."
        with ui.element("div").classes("welcome").props("data-testid=welcome") as self.place:
            ui.html("<h1>Ask a model why</h1>")
            ui.html(f"<p>{ABOUT} Type a question above{begin}</p>")
            for number, example in enumerate(found, 1):
                _link(number, example)

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Shown where nothing is asked."""
        self.place.set_visibility(not question.prompt and runs is None)

    async def afterwards(self) -> None:
        """Nothing takes long."""


def _link(number: int, example: Worked) -> None:
    link = ui.link(target=f"/?{example.question.to_url()}").classes("worked")
    with link.props(f'data-testid="worked-{number}"'):
        ui.label(str(number)).classes("number")
        with ui.element("div"):
            ui.label(example.asked).classes("asked")
            ui.label(example.look)
