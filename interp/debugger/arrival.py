"""How a request comes in: whole, within a size and a time. What does not is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from interp.debugger.refusal import refusal

# Bytes of one request's body; seconds for its headers, and for its body.
MAX_BODY, SECONDS = 2**20, 10.0
CLOSE = {"connection": "close"}


class Arrival:
    """An ASGI application around another, which sees a request once its body is there."""

    def __init__(self, app: ASGIApp, seconds: float = SECONDS) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; where its client goes meanwhile, neither."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await self._whole(scope, receive)
        if isinstance(body, bytes):
            await self.app(scope, _once(body, receive), send)
        elif body is not None:
            await body(scope, receive, send)

    async def _whole(self, scope: Scope, receive: Receive) -> bytes | JSONResponse | None:
        """The body; or 413 where it is too large, 408 where it takes too long."""
        length, body = _length(scope), None
        if length <= MAX_BODY:
            with anyio.move_on_after(self.seconds) as waiting:
                body = await _body(receive)
            if waiting.cancelled_caught:
                return refusal(408, f"a body not here after {self.seconds:g} seconds", CLOSE)
            length = len(body or b"")
        if length > MAX_BODY:
            said = f"a body of {length:,} bytes or more\n  legal: up to {MAX_BODY:,}"
            return refusal(413, said, CLOSE)
        return body


async def _body(receive: Receive) -> bytes | None:
    """The body, or as much of it as is too much; None where the client goes."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _once(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what comes after it."""
    waiting = [body]

    async def once() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return once


def _length(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


class Punctual(HttpToolsProtocol):
    """uvicorn's protocol, but that a request's headers have to be there in time: it has a limit
    only for a connection on which nothing comes at all."""

    seconds = SECONDS
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._wind()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the headers, if they are not complete."""
        super().data_received(data)
        self._wind()

    def _wind(self) -> None:
        """Run the clock while headers are on their way."""
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting and self._clock is not None:
            self._clock.cancel()
            self._clock = None
        elif waiting and self._clock is None:
            self._clock = self.loop.call_later(self.seconds, self._late)

    def _late(self) -> None:
        # One that became a websocket is no longer among the connections.
        if self in self.connections and not self.transport.is_closing():
            answer = refusal(
                408, f"headers that are not here after {self.seconds:g} seconds", CLOSE
            )
            fields = b"".join(b"%s: %s\r\n" % field for field in answer.raw_headers)
            self.transport.write(STATUS_LINE[408] + fields + b"\r\n" + bytes(answer.body))
            self.transport.close()
