"""Buttons, fields and lines of text as this page has them, each with the name by which tests and
keys find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui


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


def choice(
    options: dict[str, str], label: str, name: str, act: Callable[[], Any] | None = None
) -> ui.select:
    """One of a few. act: when a person chooses; not when the page sets it."""
    control = ui.select(options, label=label, value=next(iter(options))).props(
        f"outlined dense options-dense data-testid={name}"
    )
    return control.on("update:model-value", act) if act else control


def note(text: str, name: str = "note") -> ui.label:
    """A line of small print."""
    return ui.label(text).classes("note").props(f"data-testid={name}")


def heading(text: str) -> ui.label:
    """A small heading inside a card."""
    return ui.label(text).classes("small-title")
