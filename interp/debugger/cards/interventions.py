"""What is changed in the run: a list of lines that can be undone, redone, and removed one by one.
Each line is the text of a Patch."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from interp.debugger import summary
from interp.debugger.cards import widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.session import Runs
from interp.debugger.summary import Receipt

LINE = (
    "ADDRESS = SOURCE. Addresses: {0} (everywhere), {0}@3, {0}@3<1 (what it takes from there), "
    "m0, m0.n7@3, resid1@3, emb>{0}.q (one edge), {0}.pattern. "
    "Sources: 0, mean(reference), other, this (the clean run's), x0.5 (a factor)."
)

REFERENCE = (
    "Each of as many tokens as the prompt. Left empty: 32 shuffles of the prompt's own tokens."
)


class InterventionsCard(Card):
    """Lines, and what they did (the receipt). Before, after and difference then stand in every
    table."""

    name, title, bare = "interventions", "Interventions", True
    hint = (
        "Nothing is changed for good: a run with interventions stands beside the run without. "
        "Everything that follows from them is computed again, exactly."
    )
    depends = ("instead",)

    def __init__(self, view: View) -> None:
        self.past: list[tuple[str, ...]] = []
        self.future: list[tuple[str, ...]] = []
        self.lines: tuple[str, ...] = ()
        super().__init__(view)
        with self.heading:
            ui.label("Interventions").classes("small-title")
            self.undone = widgets.symbol("undo", self.undo, "undo", "Undo (u)")
            self.redone = widgets.symbol("redo", self.redo, "redo", "Redo (r)")

    def compute(self, runs: Runs) -> Receipt | None:
        """What the interventions did."""
        return summary.receipt(runs)

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show the lines; a change of them that is neither undone nor redone ends what could be
        redone."""
        if question.patches != self.lines:
            self.past, self.future, self.lines = [*self.past, self.lines], [], question.patches
        await super().follow(question, runs)
        self.undone.set_enabled(bool(self.past))
        self.redone.set_enabled(bool(self.future))

    def draw(self, result: Receipt | None) -> None:
        """A chip a line, a field for the next one, the receipt, and what stands beside what."""
        with ui.element("div").classes("lines"):
            for line in self.lines:
                self._chip(line)
            head = f"a{self.runs.model.config.n_layer // 2}.0"
            example, hint = f"{head}@3 = 0", LINE.format(head)
            self.next = widgets.field("", "new-line", example, hint).classes("add")
            self.next.props('aria-label="An intervention: ADDRESS = SOURCE"')
            self.next.on("keydown.enter", self.add)
            widgets.button("Add", self.add, "add-line")
            if self.view.question.other and self.lines:
                self._compare()
        if any("mean(reference)" in text for text in (*self.lines, self.view.question.instead)):
            self._reference()
        if result is not None:
            said = "" if result.effective else "Nothing changed. "
            with ui.element("details"):
                with ui.element("summary"):
                    ui.label("what they did")
                widgets.note(f"{said}{result.words}", "receipt")
        elif not self.lines:
            widgets.note("none yet: select a node and ablate it, or type a line")

    def _chip(self, line: str) -> None:
        with ui.element("span").classes("line mono").props("data-testid=line"):
            ui.label(line)
            remove = partial(self.remove, line)
            widgets.symbol("close", remove, "remove-line", f"Remove {line}", size="xs")

    async def add(self) -> None:
        """One more line; its text stays where it cannot be understood."""
        if line := (self.next.value or "").strip():
            await self.propose(patches=(*self.view.question.patches, line))

    async def remove(self, line: str) -> None:
        """One line less."""
        lines = self.view.question.patches
        await self.propose(patches=tuple(other for other in lines if other != line))

    async def undo(self) -> None:
        """The lines as they were before."""
        await self._move(self.past, self.future)

    async def redo(self) -> None:
        """The lines as they were before they were undone."""
        await self._move(self.future, self.past)

    async def _move(self, source: list[tuple[str, ...]], target: list[tuple[str, ...]]) -> None:
        if source:
            target.append(self.lines)
            self.lines = source.pop()
            await self.propose(patches=self.lines)

    def _reference(self) -> None:
        """The prompts over which means are taken."""
        lines = (
            ui.textarea(
                "Means are over these prompts, one a line",
                value="\n".join(self.view.question.reference),
            )
            .props("outlined dense autogrow rows=1 spellcheck=false data-testid=reference")
            .classes("mono")
            .tooltip(REFERENCE)
        )
        lines.on(
            "blur",
            lambda: self.propose(
                reference=tuple(line for line in (lines.value or "").splitlines() if line.strip())
            ),
        )

    def _compare(self) -> None:
        choice = ui.toggle(
            {"": "before and after", "other": "after and second prompt"},
            value="other" if self.view.question.compare == "other" else "",
        )
        choice.props("dense no-caps unelevated size=sm data-testid=compare")
        choice.on("update:model-value", lambda: self.propose(compare=choice.value))
