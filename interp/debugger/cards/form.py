"""The form: a prompt, the tokens in question, a second prompt if there is one. It asks only when told to, and never loses its text."""

from __future__ import annotations

from nicegui import ui

from interp.debugger.cards import tokens
from interp.debugger.cards.view import View
from interp.debugger.question import METRICS, Question
from interp.debugger.session import Runs
from minigpt.errors import MiniGPTError

WORD = 'A word stands for the token with a space before it, as inside a sentence. Several: commas between them. In "double quotes" a token is exactly what it says.'
METRIC_NAMES = {"logits": "logit difference", "probability": "probability", "loss": "loss", "rank": "rank"}
assert set(METRIC_NAMES) == set(METRICS)


class Form:
    """Two rows of fields; the second, of the other prompt, is there when asked for."""

    def __init__(self, view: View) -> None:
        self.view = view
        with ui.element("form").classes("card form").props("id=form aria-label='The question'").on("submit", js_handler="e => e.preventDefault()"):
            with ui.element("div").classes("fields"):
                self.prompt = _area("Prompt", "When Mary and John went to the store, John gave a drink to", "prompt", "The text that the model continues; end it without a space.")
                self.answers = _line("Why this token", "Mary", "answers", f"Left empty: the model's own top token. {WORD}")
                self.distractors = _line("rather than", "John", "distractors", f"Left empty: the answers' logit alone is asked about. {WORD}")
                self.metric = ui.select(METRIC_NAMES, value="logits", label="measured by").props("outlined dense").props("data-testid=metric")
                self.ask = ui.button("Ask", on_click=self.submit).props("unelevated no-caps").classes("ask").props("data-testid=ask")
            with ui.element("div").classes("fields") as self.second:
                self.other = _area("Second prompt", "the same with one thing changed", "other", "To compare with, and to take values from.")
                self.other_answers = _line("its answers", "the same", "other-answers", f"Left empty: those of the first prompt. {WORD}")
                self.other_distractors = _line("rather than", "the same", "other-distractors", f"Left empty: those of the first prompt. {WORD}")
                ui.button("Remove", on_click=self.remove).props("flat no-caps").classes("wide").props("data-testid=remove-other")
            with ui.element("div").classes("under"):
                self.add = ui.button("Add a second prompt", icon="add", on_click=self.more).props("flat dense no-caps").props("data-testid=add-other")
                ui.button("Swap the tokens", icon="swap_horiz", on_click=self.swap).props("flat dense no-caps").props("data-testid=swap")
                self.trouble = ui.label().classes("trouble").props("role=alert").props("data-testid=form-trouble")
        for field in (self.prompt, self.answers, self.distractors, self.other, self.other_answers, self.other_distractors):
            field.on("keydown.enter.exact.prevent", self.submit)
        self.say("")
        self._open(False)

    def say(self, problem: str) -> None:
        """What is wrong with what was asked."""
        self.trouble.set_text(problem)
        self.trouble.set_visibility(bool(problem))

    async def submit(self) -> None:
        """Ask what the fields say."""
        self.ask.props("loading")
        try:
            self.say(await self.view.propose(**self._fields(), node="", trail=(), graph=()) if self._changed() else "")
        except MiniGPTError as error:
            self.say(str(error))
        finally:
            self.ask.props(remove="loading")

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show the question's own text in the fields."""
        self.say(self.view.trouble)
        self.prompt.value, self.other.value, self.metric.value = question.prompt, question.other, question.metric
        for name in ("answers", "distractors", "other_answers", "other_distractors"):
            getattr(self, name).value = tokens.write(getattr(question, name))
        self._open(bool(question.other))

    async def afterwards(self) -> None:
        """Nothing takes long."""

    def swap(self) -> None:
        """The answers for the distractors."""
        for a, b in ((self.answers, self.distractors), (self.other_answers, self.other_distractors)):
            a.value, b.value = b.value, a.value

    def more(self) -> None:
        """Room for a second prompt, which begins as a copy of the first."""
        self.other.value = self.other.value or self.prompt.value
        self._open(True)
        self.other.run_method("focus")

    async def remove(self) -> None:
        """No second prompt any more."""
        self.other.value = self.other_answers.value = self.other_distractors.value = ""
        self._open(False)
        if self.view.question.other:
            await self.submit()

    def _fields(self) -> dict[str, object]:
        listed = {name: tokens.read(getattr(self, name).value or "") for name in ("answers", "distractors", "other_answers", "other_distractors")}
        return {"prompt": self.prompt.value or "", "other": self.other.value or "", "metric": self.metric.value, **listed}

    def _changed(self) -> bool:
        """Whether anything is asked anew: a selected node of an old prompt means nothing on a new one."""
        return any(getattr(self.view.question, name) != value for name, value in self._fields().items())

    def _open(self, second: bool) -> None:
        self.second.set_visibility(second)
        self.add.set_visibility(not second)


def _area(label: str, example: str, mark: str, hint: str) -> ui.textarea:
    area = ui.textarea(label, placeholder=example).props("outlined dense autogrow rows=1 spellcheck=false").classes("wide mono").props(f"data-testid={mark}")
    area.tooltip(hint).props("delay=600")
    return area


def _line(label: str, example: str, mark: str, hint: str) -> ui.input:
    line = ui.input(label, placeholder=example).props("outlined dense spellcheck=false").classes("mono").props(f"data-testid={mark}")
    line.tooltip(hint)
    return line
