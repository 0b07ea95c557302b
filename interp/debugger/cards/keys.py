"""The keys: everything that is often done has one. They are silent while a text is typed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

Act = Callable[[], Awaitable[object] | None]


def keys(acts: dict[str, tuple[str, Act]]) -> ui.dialog:
    """Listen for single keys, and the dialog that lists them. acts: key -> (what it does, how)."""
    listed = _listed({key: words for key, (words, _) in acts.items()})

    async def pressed(event: events.KeyEventArguments) -> None:
        if not _is_plain(event):
            return
        if event.key == "?":
            listed.open()
        elif str(event.key) in acts and (doing := acts[str(event.key)][1]()) is not None:
            await doing

    ui.keyboard(pressed)
    return listed


def _listed(words: dict[str, str]) -> ui.dialog:
    """The dialog: these keys, and those that the page itself has."""
    rows = {
        **words,
        "?": "this list",
        "↑ ↓ Enter": "in a table: move, select",
        "Tab": "from part to part",
    }
    cells = "".join(f"<tr><td><kbd>{key}</kbd><td>{does}" for key, does in rows.items())
    with ui.dialog() as dialog, ui.element("div").classes("card"):
        ui.label("Keys").classes("title")
        ui.html(f"<table class=keys>{cells}</table>")
    return dialog


def _is_plain(event: events.KeyEventArguments) -> bool:
    """Whether a key went down, by itself and for the first time."""
    held = event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt
    return event.action.keydown and not event.action.repeat and not held
