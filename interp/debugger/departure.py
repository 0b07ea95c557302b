"""What is done for a client that is gone: nothing more.

An application that is told so in the middle of an answer ends without one, which some that stand
around it take for a fault. So none is told. What computes is cancelled; what only renders a page
ends by itself, and nobody hears it.
"""

from __future__ import annotations

import asyncio

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Departure:
    """An ASGI application around another that takes the whole body from its first message."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one of the API until its answer is complete or its client gone."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        once = _once(await receive())
        if not scope["path"].startswith("/api"):
            await self.app(scope, once, send)
            return
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            answered |= message["type"].endswith("body") and not message.get("more_body", False)
            await send(message)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not answered:
                work.cancel()

        with anyio.CancelScope() as work:
            watcher = asyncio.create_task(watch())
            try:
                await self.app(scope, once, answer)
            finally:
                watcher.cancel()


def _once(message: Message) -> Receive:
    """The body, and then never anything."""
    waiting = [message]

    async def once() -> Message:
        while not waiting:
            await anyio.sleep_forever()
        return waiting.pop()

    return once
