"""What a page's socket says to NiceGUI, checked: whoever speaks it wrongly is refused without a
word in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isawaitable
from typing import Any

from nicegui import core

# What a message without a field, or with another type in it, raises in NiceGUI's handlers. The
# page's own handlers never do: what fails in them is told by NiceGUI itself.
WRONG = (LookupError, TypeError, ValueError, AttributeError)
MESSAGES = ("connect", "handshake", "event", "javascript_response", "ack", "log")


def check() -> None:
    """Let NiceGUI hear only messages that it understands."""
    for message in MESSAGES:
        core.sio.on(message, _checked(core.sio.handlers["/"][message]))


def _checked(handler: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(handler)
    async def checked(*said: Any) -> Any:
        try:
            answer = handler(*said)
            return await answer if isawaitable(answer) else answer
        except WRONG:
            return False

    return checked
