"""The views that were saved under names: a dialog that opens, saves and drops them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nicegui import ui

from interp.debugger.cards import widgets
from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.saved import Saved
from minigpt.errors import MiniGPTError


class SavedViews:
    """A dialog over a file of views."""

    def __init__(self, view: View, saved: Saved) -> None:
        self.view, self.saved = view, saved
        with ui.dialog() as self.dialog, ui.element("div").classes("card"):
            ui.label("Saved views").classes("title").props("role=heading aria-level=2")
            self.list = ui.element("div").classes("lines")
            with ui.element("div").classes("acts"):
                self.name = widgets.field("name of this view", "view-name", "backup heads")
                widgets.button("Save this view", self._save, "save-view", icon="bookmark_add")
            self.trouble = ui.label().classes("trouble").props("role=alert data-testid=view-error")
            widgets.note(f"Kept in {saved.file.name}.")

    def open(self) -> None:
        """What is in the file now."""
        self.name.set_value("")
        self._show()
        self.dialog.open()

    def _show(self, problem: str = "") -> None:
        self.list.clear()
        try:
            views = self.saved.all()
        except MiniGPTError as error:
            views, problem = {}, str(error)
        self.trouble.set_text(problem)
        with self.list:
            for name, link in views.items():
                self._line(name, link)
            if not views and not problem:
                widgets.note("None yet.")

    def _line(self, name: str, link: str) -> None:
        with ui.element("span").classes("line").props("data-testid=view"):
            widgets.button(name, partial(self._open, link), f"view {name}", look="flat")
            drop = partial(self._drop, name)
            widgets.symbol("close", drop, f"drop view {name}", f"Drop {name}", size="xs")

    async def _open(self, link: str) -> None:
        self.dialog.close()
        try:
            await self.view.ask(Question.from_url(link))
        except MiniGPTError as error:
            self._show(str(error))
            self.dialog.open()

    def _save(self) -> None:
        self._change(lambda: self.saved.save(self.name.value or "", self.view.question))
        if not self.trouble.text:
            self.name.set_value("")

    def _drop(self, name: str) -> None:
        self._change(lambda: self.saved.drop(name))

    def _change(self, act: Callable[[], None]) -> None:
        try:
            act()
        except MiniGPTError as error:
            self._show(str(error))
        else:
            self._show()
