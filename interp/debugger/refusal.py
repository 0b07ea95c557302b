"""Every refusal and every failure of the API as JSON: {"detail": what was given, what is legal,
what to type}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from interp.debugger.question import MAX_PROMPTS, MAX_TOKENS
from interp.debugger.workers import Busy, Exhausted, exhausted, is_memory
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Refusal(Shown):
    """Why a request was refused: what was given, what is legal, what to type."""

    detail: str


def refusal(status: int, said: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as an answer."""
    text = said.encode("utf-8", "replace").decode()
    return JSONResponse(asdict(Refusal(text)), status, headers)


def install(app: FastAPI) -> None:
    """Answer every error so, and whatever path under /api there is nothing at."""
    app.add_exception_handler(MiniGPTError, _refused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _spoken)
    app.add_exception_handler(MemoryError, _failed)
    app.add_exception_handler(RuntimeError, _failed)
    app.add_exception_handler(Exception, _broken)
    app.router.routes.append(Route("/api{rest:path}", Elsewhere(app), include_in_schema=False))


class Elsewhere:
    """Where no operation is: the paths that there are, or the methods of this one."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """405 where a path has other methods, 404 where there is no such path."""
        path, methods = scope["path"], self._methods(scope)
        if methods:
            said, allowed = f"{scope['method']} {path}", ", ".join(sorted(methods))
            answer = refusal(405, f"{said}\n  legal: {allowed}", {"allow": allowed})
        else:
            legal = ", ".join(self.app.openapi()["paths"])
            answer = refusal(404, f"the path {path!r}\n  legal: {legal}\n  try:   /api/docs")
        await answer(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """The methods of the operations at this path."""
        return {
            method
            for route in self.app.routes
            if isinstance(route, Route) and route.matches(scope)[0] is Match.PARTIAL
            for method in route.methods or ()
        }


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return refusal(503 if isinstance(error, Busy | Exhausted) else 400, str(error))


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    """What does not fit the schema: where, and why; never what was sent, which may be no text at
    all."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:8]]
    legal = (
        f"a question as /api/docs has it: up to {MAX_TOKENS:,} tokens a prompt, {MAX_PROMPTS} "
        "prompts"
    )
    return refusal(422, f"{'; '.join(found)}\n  legal: {legal}")


async def _spoken(_: Request, error: Exception) -> JSONResponse:
    """An error that already is an answer."""
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Memory that is used up is no fault of the program; anything else is, and goes on as one."""
    if is_memory(error):
        return await _refused(request, exhausted())
    raise error


async def _broken(_: Request, error: Exception) -> JSONResponse:
    """A fault of the program, which the server's terminal shows."""
    return refusal(
        500,
        f"a fault of this program: {type(error).__name__}\n  legal: every question that /api/docs "
        "allows\n  try:   the same again; if it stays, report it with what the server printed",
    )
