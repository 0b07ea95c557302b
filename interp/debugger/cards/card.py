"""A place on the page with a heading, what it means, a way to take its result along, and room for
the result or for what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from nicegui import ui

from interp.debugger import export
from interp.debugger.cards import widgets
from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.session import Runs
from minigpt.errors import MiniGPTError

# What of a question is one card's own affair; the rest concerns every card.
OWN = (
    *("split", "sort", "find", "k", "instead", "node", "trail"),
    *("graph", "receivers", "at", "tab"),
)
COMMON = tuple(field.name for field in fields(Question) if field.name not in OWN)


class Card:
    """Shows what `compute` makes of the runs, anew when one of the fields in `depends` has changed;
    `draw` fills its empty body.

    The old result stays until the new one is there, so that nothing jumps.
    """

    # tab: the view to which the card belongs; "": it is always there.
    # bare: a part of another place, without a heading of its own.
    name = title = hint = tab = ""
    bare = False
    depends: tuple[str, ...] = ()
    runs: Runs
    result: Any
    shown: tuple[object, ...] | None

    def __init__(self, view: View) -> None:
        self.view, self.result, self.shown = view, None, None
        with (
            ui.element("section")
            .classes("card")
            .props(f"data-testid={self.name} aria-label='{self.title}'") as self.place
        ):
            if self.bare:
                self.place.classes(add="bare", remove="card")
                self.heading = ui.element("div").classes("heading")
            else:
                self._head()
            self.controls = ui.element("div")
            self.trouble = ui.label().classes("trouble").props("role=alert")
            self.body = ui.element("div").classes("body")
        self.say("")

    def _head(self) -> None:
        """The title, what it means, and the menu of exports."""
        with ui.element("header"):
            ui.label(self.title).classes("title").props("role=heading aria-level=2")
            ui.icon("help_outline").classes("hint").tooltip(self.hint)
            self.heading = ui.element("div").classes("heading")
            if self.name in export.RESULTS:
                exports(self)

    def wanted(self, question: Question) -> bool:
        """Whether there is anything to show."""
        return self.tab in ("", question.front)

    def compute(self, runs: Runs) -> Any:
        """The result, made in a worker's thread."""
        raise NotImplementedError

    def draw(self, result: Any) -> None:
        """Fill the body."""
        raise NotImplementedError

    def say(self, problem: str) -> None:
        """Show what is wrong, in place; nothing, if nothing is."""
        self.trouble.set_text(problem)
        self.trouble.set_visibility(bool(problem))

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show this question."""
        key = tuple(getattr(question, name) for name in COMMON + self.depends)
        self.place.set_visibility(runs is not None and self.wanted(question))
        if runs is None or not self.wanted(question):
            self.shown = None
        elif key != self.shown:
            await self._renew(runs)
            self.shown = key

    async def propose(self, **changes: Any) -> None:
        """Ask a changed question; what is wrong with it is said here."""
        self.say(await self.view.propose(**changes))

    async def afterwards(self) -> None:
        """What takes long, once every card shows something."""

    def exported(self) -> Any:
        """The result that the card's menu saves: what the script gives, which may be more than is
        shown."""
        return export.result(self.runs, self.name)

    def file(self, kind: str) -> str:
        """The same, with where it comes from, as "json" or "csv"."""
        return export.as_file(self.runs, self.name, self.exported(), kind)

    def script(self) -> str:
        """The Python lines that compute it again."""
        return export.as_python(self.view.question, self.name)

    async def _renew(self, runs: Runs) -> None:
        self.shown, self.runs = None, runs
        self.place.classes(add="busy")
        try:
            result = await self.view.workers.run(lambda: self.compute(runs))
        except MiniGPTError as error:
            self.result = None
            self.say(str(error))
            self.body.set_visibility(False)
        else:
            self.result = result
            self.say("")
            self.body.set_visibility(True)
            self.fill(result)
        finally:
            self.place.classes(remove="busy")

    def fill(self, result: Any) -> None:
        """Put the result in the place of the old one."""
        self.body.clear()
        with self.body:
            self.draw(result)


def exports(card: Card) -> None:
    """The menu by which a result leaves the page."""
    with (
        widgets.symbol("download", None, f"export-{card.name}", f"Export: {card.title}"),
        ui.menu(),
    ):
        for kind, (ending, make) in {
            "JSON": ("json", lambda: card.file("json")),
            "CSV": ("csv", lambda: card.file("csv")),
            "Python": ("py", card.script),
        }.items():
            ui.menu_item(
                kind, lambda ending=ending, make=make: _download(card, ending, make)
            ).props(f"data-testid=export-{card.name}-{ending}")


async def _download(card: Card, ending: str, make: Callable[[], str]) -> None:
    if card.result is None:
        card.say("There is no result to export yet.")
        return
    text = await card.view.workers.run(make)
    with card.view.client:
        ui.download.content(text, f"{card.name}.{ending}")
