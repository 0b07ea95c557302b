"""Buttons, fields and lines of text as this page has them, each with the name by which tests and
keys find it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.value_element import ValueElement


def button(
    label: str,
    act: Callable[[], Any],
    name: str,
    *,
    icon: str | None = None,
    look: str = "outline",
    hint: str = "",
) -> ui.button:
    """A button with words on it. look: "outline", "flat" or "unelevated"."""
    control = ui.button(label, icon=icon, on_click=act).props(
        f'{look} dense no-caps data-testid="{name}"'
    )
    return control.tooltip(hint) if hint else control


def symbol(
    icon: str, act: Callable[[], Any] | None, name: str, words: str, *, size: str = "sm"
) -> ui.button:
    """A button with a symbol on it, and what it does in words for a reader and as a tooltip."""
    control = ui.button(icon=icon, on_click=act).props(
        f'flat dense round size={size} data-testid="{name}"'
    )
    control.props["aria-label"] = words
    return control.tooltip(words)


def field(label: str, name: str, example: str = "", hint: str = "") -> ui.input:
    """A line to type an address or tokens into."""
    control = (
        ui.input(label or None, placeholder=example)
        .props(f"outlined dense spellcheck=false data-testid={name}")
        .classes("mono")
    )
    return control.tooltip(hint) if hint else control


def choice(options: dict[str, str], label: str, name: str) -> ui.select:
    """One of a few."""
    return ui.select(options, label=label, value=next(iter(options))).props(
        f"outlined dense options-dense data-testid={name}"
    )


class Typed:
    """What a person puts into a control goes to `act`, once the control holds it; what the page
    puts there does not. While an act is under way, the page leaves the control alone: the person
    may be typing on."""

    def __init__(self, control: ValueElement[Any], act: Callable[[Any], Awaitable[None]]) -> None:
        self.control, self.act, self.waiting, self.is_page = control, act, 0, False
        control.on_value_change(self._changed)

    def put(self, value: Any) -> None:
        """The page's own value."""
        if self.waiting or self.control.value == value:
            return
        self.is_page = True
        self.control.set_value(value)
        self.is_page = False

    def _changed(self, event: Any) -> Awaitable[None] | None:
        return None if self.is_page else self._act(event.value)

    async def _act(self, value: Any) -> None:
        self.waiting += 1
        try:
            await self.act(value)
        finally:
            self.waiting -= 1


def note(text: str, name: str = "note") -> ui.label:
    """A line of small print."""
    return ui.label(text).classes("note").props(f"data-testid={name}")


def sentence(name: str) -> ui.label:
    """A place for what a view says in one sentence."""
    return ui.label().classes("verdict").props(f"data-testid={name}")


def heading(text: str) -> ui.label:
    """A small heading inside a card."""
    return ui.label(text).classes("small-title")
