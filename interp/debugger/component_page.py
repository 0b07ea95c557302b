"""The pages of components, /component/a2.6 and /components, and the same as JSON below /api."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from interp.corpus.component import Component
from interp.debugger import components
from interp.debugger.components import Found
from interp.debugger.links import link
from interp.debugger.session import Session
from interp.debugger.workers import Workers
from interp.show import page
from interp.show.document import Document
from minigpt.errors import MiniGPTError

STYLE = """<style>
.bar { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center; margin: 0 0 1.2rem }
.bar input {
  font: inherit; padding: .25rem .5rem; border: 1px solid var(--line); border-radius: 4px;
  background: var(--paper); color: var(--ink); max-width: 100%; box-sizing: border-box;
}
.bar button { font: inherit }
</style>"""


def build(app: FastAPI, session: Session, workers: Workers) -> None:
    """Put the pages and their JSON onto an application."""
    first = next(iter(session.models))

    @app.get("/component/{address}", include_in_schema=False)
    async def component(address: str, model: str = first, text: str = "") -> HTMLResponse:
        made = await _shown(workers, lambda: components.page(session, model, address, text))
        return _page(made, _bar(session, model, address, text))

    @app.get("/components", include_in_schema=False)
    async def found(
        model: str = first, find: str = "", where: str = "", words: str = ""
    ) -> HTMLResponse:
        made = await _shown(workers, lambda: components.found(session, model, find, where, words))
        return _page(made, _bar(session, model, "", ""))

    @app.get("/api/component/{address}")
    async def component_json(address: str, model: str = first) -> Component:
        return await workers.run(lambda: components.component(session, model, address))

    @app.get("/api/explanation/{address}")
    async def explanation_json(address: str, model: str = first) -> dict[str, Any]:
        made = await workers.run(lambda: components.explanation(session, model, address))
        return {name: _plain(value) for name, value in made.to_dict().items()}

    @app.get("/api/components")
    async def found_json(
        model: str = first, find: str = "", where: str = "", words: str = ""
    ) -> list[Found]:
        return [*await workers.run(lambda: components.search(session, model, find, where, words))]


def _plain(value: Any) -> Any:
    """Without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if value != value else value


async def _shown(workers: Workers, made: Callable[[], Document]) -> Document | MiniGPTError:
    try:
        return await workers.run(made)
    except MiniGPTError as error:
        return error


def _page(made: Document | MiniGPTError, bar: str) -> HTMLResponse:
    """A document, or what to do instead."""
    if isinstance(made, MiniGPTError):
        words = f"<p style='white-space:pre-wrap'>{escape(str(made))}"
        return HTMLResponse(page.plain("Not to be shown", bar + words), status_code=400)
    return HTMLResponse(page.document(made, STYLE + bar))


def _bar(session: Session, model: str, address: str, text: str) -> str:
    """Where else to go, what to search for, and the reader's own text."""
    name = escape(model, quote=True)
    hidden = f"<input type=hidden name=model value='{name}'>"
    typed = escape(text, quote=True)
    own = (
        f"<form class=bar>{hidden}<input name=text size=60 aria-label='Your text' "
        f"placeholder='your own text' value='{typed}'><button>Try</button></form>"
    )
    return (
        "<nav class=bar aria-label=Components><a href=/>debugger</a>"
        f"{_steps(session, model, address)}<form action=/components>{hidden}"
        "<input name=find placeholder=\"a token, ' Mary'\" aria-label='largest at the token'> "
        "<input name=words placeholder='words: number' aria-label='whose explanation has'> "
        "<input name=where placeholder='kurtosis &gt; 50' aria-label='whose statistics say'> "
        f"<button>Search</button></form></nav>{own if address else ''}"
    )


def _steps(session: Session, model: str, address: str) -> str:
    """The components beside it."""
    try:
        ends = [components.beside(session.model(model), address, step) for step in (-1, 1)]
    except (MiniGPTError, StopIteration):
        return f"<a href='/components?{urlencode({'model': model})}'>components</a>"
    return " ".join(
        f"<a rel={rel} href='{escape(link(model, other), quote=True)}'>{words}</a>"
        for rel, words, other in (
            ("prev", f"← {ends[0]}", ends[0]),
            ("next", f"{ends[1]} →", ends[1]),
        )
    )
