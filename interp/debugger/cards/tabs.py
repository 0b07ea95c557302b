"""The views of an answer, one in front; which one is in the address bar."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.session import Runs

TITLES = {
    "nodes": ("Nodes", "Every node at every position, and what it did"),
    "trace": ("Trace", "Why a head looks there, why a neuron is on: step by step upstream"),
    "graph": ("Graph", "Chosen nodes, and every edge between them"),
    "paths": ("Paths", "Path patching from every head, from a second prompt"),
    "lens": ("Lens", "What each layer would say at each position"),
}


class Tabs:
    """A row of buttons."""

    def __init__(self, view: View) -> None:
        self.view = view
        with ui.element("div").classes("tabs").props("role=tablist aria-label=Views") as self.place:
            self.tabs = {name: self._tab(name) for name in TITLES}

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Mark the one in front."""
        self.place.set_visibility(runs is not None)
        for name, tab in self.tabs.items():
            front = name == question.front
            tab.classes(add="front" if front else "", remove="" if front else "front")
            tab.props(f"aria-selected={'true' if front else 'false'}")

    async def afterwards(self) -> None:
        """Nothing takes long."""

    def _tab(self, name: str) -> ui.button:
        title, hint = TITLES[name]
        tab = ui.button(title, on_click=partial(self.view.propose, tab=name))
        tab.props(f"flat no-caps role=tab data-testid=tab-{name}").tooltip(hint)
        return tab
