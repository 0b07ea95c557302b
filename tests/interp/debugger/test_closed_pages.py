"""A page that closes while it waits is shown nothing more; one that was away, what it missed."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("nicegui", reason="needs nicegui: pip install '.[debugger]'")

from nicegui import core
from nicegui.client import Client

from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.session import Session
from interp.debugger.workers import Workers
from tests.interp.debugger.questions import ASKED, MODEL


class Page(Client):
    """A client without a browser, which follows its own view."""

    has_socket_connection, is_deleted = True, False

    def __init__(self) -> None:
        self.id, self.followed = "page", list[str]()

    def on_disconnect(self, _: object) -> None:
        """It never calls."""

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was prepared."""

    async def follow(self, question: Question, _: object) -> None:
        self.followed.append(question.prompt)

    async def afterwards(self) -> None:
        """Nothing takes long."""


async def opened(page: Page, end: str) -> None:
    """A question opened on a page that stays, is closed, is away, or is back when its runs are
    made."""
    workers, gate = Workers(1), threading.Event()
    view = View(Session({"ioi-mini": MODEL}), workers, page)
    view.followers = [page]
    before = asyncio.create_task(workers.run(gate.wait))
    opening = asyncio.create_task(view.open(ASKED.to_url()))
    await asyncio.sleep(0.01)
    page.is_deleted, page.has_socket_connection = end == "closed", end == "stays"
    gate.set()
    await asyncio.wait([before, opening])
    if end == "back":
        page.has_socket_connection = True
        view.resume()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("end", "shown"), [("stays", True), ("closed", False), ("away", False), ("back", True)]
)
def test_a_question_is_shown_to_who_is_there(end, shown, monkeypatch):
    async def go() -> list[str]:
        page = Page()
        monkeypatch.setattr(core, "loop", asyncio.get_running_loop())
        monkeypatch.setattr(View, "dim", lambda *_: None)
        await opened(page, end)
        return page.followed

    assert asyncio.run(go()) == [ASKED.prompt] * shown
