"""Who may speak to the server: requests for its own name, from its own pages.

A page of another site that a browser has open can make it send requests here, under a foreign Host
(DNS rebinding) or a foreign Origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from interp.debugger.refusal import refusal

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
# A page's scheme by a request's, and the port that is meant where none is said.
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
PORTS = {"http": 80, "https": 443}


class Guard:
    """An ASGI application around another. names: hosts that this server answers to besides the
    loopback's.

    A server bound to every interface also answers to its addresses as numbers: a rebound name is
    never one.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        given = frozenset(names)
        self.app, self.numbers, self.names = app, bool(given & EVERYWHERE), LOOPBACK | given

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with the reason."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif reason := self.refused(Headers(scope=scope), SCHEMES[scope["scheme"]]):
            await refuse(scope, receive, send, *reason)
        else:
            await self.app(scope, receive, send)

    def refused(self, headers: Headers, scheme: str) -> tuple[int, str] | None:
        """A status, and why a request is refused; None where it is not."""
        for name in ("host", "origin"):
            if len(said := headers.getlist(name)) > 1:
                return 400, f"{len(said)} {name.title()} headers: {', '.join(said)}\n  legal: one"
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not self._known(_place(f"{scheme}://{host}")[1]):
            legal = ", ".join(sorted(self.names))
            return 403, f"the Host {host!r} is not this server's\n  legal: {legal}"
        own = f"{scheme}://{host}"
        if origin and _place(origin) != _place(own):
            return 403, f"the Origin {origin!r} is another site's\n  legal: {own}"
        return None

    def _known(self, name: str) -> bool:
        return name in self.names - EVERYWHERE or (self.numbers and _is_number(name))


def _place(url: str) -> tuple[str, str, int | None]:
    """A URL's scheme, host and port; nothing where it is no URL of these three alone."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None
    bare = "@" not in parts.netloc and not (parts.path or parts.query or parts.fragment)
    return (parts.scheme, name, port) if bare else ("", "", None)


def _is_number(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    """Refuse a request, or a websocket before it is open."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
    else:
        await refusal(status, reason)(scope, receive, send)
