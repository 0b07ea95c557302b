"""The keys: everything that is often done has one. They are silent while a text is typed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import events, ui

Act = Callable[[], Awaitable[object] | None]


def keys(acts: dict[str, tuple[str, Act]]) -> ui.dialog:
    """Listen for single keys, and the dialog that lists them. acts: key -> (what it does, how)."""
    with ui.dialog() as help_, ui.element("div").classes("card"):
        ui.label("Keys").classes("title")
        rows = {
            **{key: words for key, (words, _) in acts.items()},
            "?": "this list",
            "↑ ↓ Enter": "in a table: move, select",
            "Tab": "from part to part",
        }
        ui.html(
            "<table class=keys>"
            + "".join(f"<tr><td><kbd>{key}</kbd><td>{words}" for key, words in rows.items())
            + "</table>"
        )

    async def pressed(event: events.KeyEventArguments) -> None:
        if (
            event.action.keydown
            and not event.action.repeat
            and not (event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt)
        ):
            if event.key == "?":
                help_.open()
            elif str(event.key) in acts and (doing := acts[str(event.key)][1]()) is not None:
                await doing

    ui.keyboard(pressed)
    return help_
