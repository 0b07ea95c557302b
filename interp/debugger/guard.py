"""Who may speak to the server: requests for its own name, from its own pages, of a bounded size.

A page of another site that a browser has open can make it send requests here, under a foreign Host
(DNS rebinding) or a foreign Origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
# Bytes of one request's body.
MAX_BODY = 2**20


class Guard:
    """An ASGI application around another. names: hosts that this server answers to besides the
    loopback's.

    A server bound to every interface also answers to its addresses as numbers: a rebound name is
    never one.
    """

    def __init__(self, app: App, names: Iterable[str] = ()) -> None:
        given = frozenset(names)
        self.app, self.numbers, self.names = app, bool(given & EVERYWHERE), LOOPBACK | given

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with the reason."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif reason := self.refusal(dict(scope["headers"])):
            await _refuse(scope, send, 403, reason)
        elif _length(scope) > MAX_BODY:
            await _refuse(
                scope, send, 413, f"a body of {_length(scope):,} bytes; up to {MAX_BODY:,} are read"
            )
        else:
            await self.app(scope, _bounded(receive), send)

    def refusal(self, headers: dict[bytes, bytes]) -> str:
        """Why a request is refused, or nothing."""
        host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
        if not self._known(_name(f"//{host}")):
            return (
                f"the Host {host!r} is not this server's; it answers to "
                f"{', '.join(sorted(self.names))}"
            )
        if origin and _location(origin) != host:
            return (
                f"the Origin {origin!r} is another site's; requests may come from "
                f"http://{host} only"
            )
        return ""

    def _known(self, name: str) -> bool:
        return name in self.names - EVERYWHERE or (self.numbers and _is_number(name))


def _bounded(receive: Receive) -> Receive:
    """The same, but ended where the body is longer than its header said it may be."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        return {"type": "http.disconnect"} if read > MAX_BODY else message

    return bounded


def _location(url: str) -> str:
    """A URL's host and port; nothing where it is no URL."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _name(url: str) -> str:
    """The host that a URL names, without its port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _length(scope: Message) -> int:
    text = dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1")
    return int(text) if text.isascii() and text.isdigit() else 0


async def _refuse(scope: Message, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
        return
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain; charset=utf-8")],
        }
    )
    await send({"type": "http.response.body", "body": f"refused: {reason}\n".encode()})
