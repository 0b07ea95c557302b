"""How far long work is, and the button that ends it. It keeps its room when there is nothing to
say, so that nothing jumps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from nicegui import ui

from interp.debugger.cards import widgets

T = TypeVar("T")


class Progress:
    """A line of words, a button, a thin bar."""

    def __init__(self, name: str, cancel: Callable[[], Any]) -> None:
        with ui.element("div").classes("under"):
            self.words = widgets.note("", f"{name}-state")
            self.cancel = widgets.button("Cancel", cancel, f"{name}-cancel").classes("cancel")
        self.bar = ui.linear_progress(0, show_value=False, size="3px").props(
            f"data-testid={name}-progress instant-feedback aria-label='How much is computed'"
        )

        self.say("", 0, 0, False)

    def say(self, words: str, done: int, of: int, running: bool) -> None:
        """How much of what is done."""
        self.words.set_text(
            f"{words}: {'' if running or done >= of else 'cancelled at '}{done:,} of {of:,}"
            if of
            else ""
        )
        self.cancel.set_visibility(running and done < of)
        self.bar.set_visibility(of > 0)
        self.bar.value = done / of if of else 0.0
        self.bar.classes(add="" if running else "idle", remove="idle" if running else "")


async def paced(items: AsyncIterator[T], seconds: float = 0.15) -> AsyncIterator[list[T]]:
    """What arrives, in lists of what came within so many seconds: a page that changes more often
    only makes a browser slow."""
    waiting, last = list[T](), time.monotonic()
    async for item in items:
        waiting.append(item)
        if time.monotonic() - last > seconds:
            yield waiting
            waiting, last = [], time.monotonic()
    yield waiting
