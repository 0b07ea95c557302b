"""The form: a prompt, the tokens in question, a second prompt if there is one. It asks only when
told to, and never loses its text."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from interp.debugger.cards import tokens, widgets
from interp.debugger.cards.view import View
from interp.debugger.question import METRICS, Question
from interp.debugger.session import Runs
from minigpt.errors import MiniGPTError

WORD = (
    "A word stands for the token with a space before it, as inside a sentence. Several: with "
    "commas between them. "
    'In "double quotes" a token is exactly what it says.'
)
EXAMPLE = "When Mary and John went to the store, John gave a drink to"
METRIC_NAMES = {
    "logits": "logit difference",
    "probability": "probability",
    "loss": "loss",
    "rank": "tokens put before it",
}
TOKENS = ("answers", "distractors", "other_answers", "other_distractors")
assert set(METRIC_NAMES) == set(METRICS)


class Form:
    """Two rows of fields; the second, of the other prompt, is there when asked for."""

    def __init__(self, view: View) -> None:
        self.view = view
        with ui.element("div").classes("asked-line").props("data-testid=asked") as self.line:
            self.asked = ui.label().classes("question small").props("role=heading aria-level=1")
            widgets.button("Edit", self.edit, "edit", look="flat", hint="Change it (/)")
        with (
            ui.element("form")
            .classes("form")
            .props("id=form aria-label='The question'")
            .on("submit", js_handler="e => e.preventDefault()") as self.place
        ):
            with ui.element("div").classes("fields"):
                self._first()
            with ui.element("div").classes("fields") as self.second:
                self._second()
            with ui.element("div").classes("under"):
                self._under(view)
        words = [getattr(self, name) for name in TOKENS]
        for field in (self.prompt, self.other, *words):
            field.on("keydown.enter.exact.prevent", self.submit)
        for field in (self.prompt, self.other, self.metric, self.model, *words):
            field.on_value_change(self._compare)
        for field in words:
            field.on_value_change(self._complete)
        self.say("")
        self._open(False)

    def fold(self, folded: bool) -> None:
        """One line that says the question, or the fields that ask it."""
        self.place.set_visibility(not folded)
        self.line.set_visibility(folded)

    def say(self, problem: str) -> None:
        """What is wrong with what was asked."""
        self.trouble.set_text(problem)
        self.trouble.set_visibility(bool(problem))

    def edit(self) -> None:
        """The fields, the prompt ready to be typed."""
        self.fold(False)
        ui.run_javascript("debuggerPage.ready('prompt')")

    async def submit(self) -> None:
        """Ask what the fields say. What cannot be asked dims what stands below, which answers
        another question."""
        self.ask.props("loading")
        try:
            asked = self._fields()
            self.say(await self.view.propose(**asked, **following(self.view.question, asked)))
        except MiniGPTError as error:
            self.say(str(error))
        finally:
            self.ask.props(remove="loading")
        self.view.dim(bool(self.trouble.text))

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show the question's own text in the fields."""
        self.say(self.view.trouble)
        for name in ("prompt", "other", "metric"):
            getattr(self, name).value = getattr(question, name)
        models = self.view.session.models
        self.model.value = question.model if question.model in models else next(iter(models))
        for name in TOKENS:
            getattr(self, name).value = tokens.write(getattr(question, name))
        self._open(bool(question.other))
        self._compare()
        self.asked.set_text(_words(question, runs) if runs else "")
        self.fold(runs is not None)

    async def _complete(self, event: Any) -> None:
        """Offer tokens that begin as what is typed."""
        known = self.view.session.completions(self.model.value)
        found = await self.view.workers.run(lambda: known.of(event.value or ""))
        event.sender.set_autocomplete(found)

    def _compare(self) -> None:
        """Ask stands out where the fields say something else than what is shown."""
        try:
            asked = self._fields()
        except MiniGPTError:
            asked = {}
        same = all(getattr(self.view.question, name) == value for name, value in asked.items())
        begun = bool(self.view.question.prompt or self.prompt.value)
        changed = begun and not (asked and same)
        self.ask.classes(add="changed" if changed else "", remove="" if changed else "changed")

    async def afterwards(self) -> None:
        """Nothing takes long."""

    def swap(self) -> None:
        """The answers for the distractors."""
        pairs = ((self.answers, self.distractors), (self.other_answers, self.other_distractors))
        for a, b in pairs:
            a.value, b.value = b.value, a.value

    def more(self) -> None:
        """Room for a second prompt, which begins as a copy of the first."""
        self.other.value = self.other.value or self.prompt.value
        self._open(True)
        ui.run_javascript("debuggerPage.ready('other')")

    async def remove(self) -> None:
        """No second prompt any more."""
        self.other.value = self.other_answers.value = self.other_distractors.value = ""
        self._open(False)
        if self.view.question.other:
            await self.submit()

    def _first(self) -> None:
        self.prompt = _area(
            "Prompt",
            "prompt",
            EXAMPLE,
            "The text that the model continues; end it without a space.",
        )
        self.answers = widgets.field(
            "Why this token", "answers", "Mary", f"Left empty: the model's own top token. {WORD}"
        )
        self.distractors = widgets.field(
            "rather than",
            "distractors",
            "John",
            f"Left empty: the answer's logit alone is asked about. {WORD}",
        )
        self.metric = widgets.choice(METRIC_NAMES, "measured by", "metric")
        self.ask = (
            ui.button("Ask", on_click=self.submit)
            .props("unelevated no-caps data-testid=ask")
            .classes("ask")
        )

    def _second(self) -> None:
        self.other = _area(
            "Second prompt",
            "other",
            "the same with one thing changed",
            "To compare with, and to take values from.",
        )
        self.other_answers = widgets.field(
            "Why this token",
            "other-answers",
            "as above",
            f"Left empty: those of the first prompt. {WORD}",
        )
        self.other_distractors = widgets.field(
            "rather than",
            "other-distractors",
            "as above",
            f"Left empty: those of the first prompt. {WORD}",
        )
        widgets.button("Remove", self.remove, "remove-other", look="flat")

    def _under(self, view: View) -> None:
        """What can be done with the fields, which model is asked, and what is wrong."""
        self.add = widgets.button(
            "Add a second prompt", self.more, "add-other", icon="add", look="flat"
        )
        widgets.button("Swap the tokens", self.swap, "swap", icon="swap_horiz", look="flat")
        names = {name: name for name in view.session.models}
        self.model = widgets.choice(names, "model", "model").classes("k")
        self.model.set_visibility(len(names) > 1)
        self.trouble = ui.label().classes("trouble").props("role=alert data-testid=form-trouble")

    def _fields(self) -> dict[str, object]:
        listed = {name: tokens.read(getattr(self, name).value or "") for name in TOKENS}
        return {
            "model": self.model.value,
            "prompt": self.prompt.value or "",
            "other": self.other.value or "",
            "metric": self.metric.value,
            **listed,
        }

    def _open(self, second: bool) -> None:
        self.second.set_visibility(second)
        self.add.set_visibility(not second)


def following(before: Question, asked: dict[str, object]) -> dict[str, object]:
    """What else changes with a form's fields: a node, a trail or a graph of another prompt means
    nothing; only logits have direct effects."""
    changed = any(getattr(before, name) != value for name, value in asked.items())
    follows: dict[str, object] = {"node": "", "trail": (), "graph": ()} if changed else {}
    if asked["metric"] != "logits" and before.sort.startswith(("direct", "change")):
        follows["sort"] = ""
    return follows


def _words(question: Question, runs: Runs) -> str:
    """The question on one line."""
    answers, others = (
        " or ".join(repr(runs.tokenizer.text(i)) for i in ids)
        for ids in (runs.answers, runs.distractors)
    )
    asked = f"Why {answers}{f' rather than {others}' if others else ''}?"
    return asked if question.metric == "logits" else f"{asked} ({METRIC_NAMES[question.metric]})"


def _area(label: str, name: str, example: str, hint: str) -> ui.textarea:
    area = (
        ui.textarea(label, placeholder=example)
        .props(f"outlined dense autogrow rows=1 spellcheck=false data-testid={name}")
        .classes("wide mono")
    )
    return area.tooltip(hint)
