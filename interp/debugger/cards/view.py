"""One tab's question. A card proposes the next one; where it can be asked, the address bar follows,
and then every card."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Protocol

from nicegui import background_tasks, ui
from nicegui.client import Client

from interp.debugger.effort import seconds
from interp.debugger.question import HELPS, Question
from interp.debugger.session import Runs, Session
from interp.debugger.workers import Own, Workers
from minigpt.errors import MiniGPTError


class Follower(Protocol):
    """What stands on the page and shows something of a question. runs: None where there is none, or
    it cannot be asked."""

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show this question."""

    async def afterwards(self) -> None:
        """What takes long, once everything is shown."""


class View:
    """Data flows one way: propose -> question -> address bar -> followers, one after the other, the
    first ones first."""

    def __init__(self, session: Session, workers: Workers, client: Client) -> None:
        self.session, self.client, self.question = session, client, session.blank
        self.workers = Own(
            workers,
            client.id,
            lambda: seconds(session.models, self.question, "nodes"),
            lambda: client.is_deleted,
        )
        self.followers: list[Follower] = []
        self.trouble = ""
        self.runs: Runs | None = None
        self._work: asyncio.Task[None] | None = None
        client.on_disconnect(self.stop)

    async def propose(self, **changes: Any) -> str:
        """Ask the question with some of its fields changed; what is wrong with it, and nothing
        changes, where it cannot be asked."""
        try:
            return await self.ask(replace(self.question, **changes))
        except MiniGPTError as error:
            return str(error)

    async def ask(self, question: Question) -> str:
        """Ask another question; what is wrong with it, and nothing changes, where it cannot be
        asked."""
        try:
            runs = await self._runs(question)
        except MiniGPTError as error:
            return str(error)
        if question != self.question:
            # Of the page, not of the button that was pressed: that one may have been replaced while
            # the runs were made.
            with self.client:
                ui.navigate.history.push(f"/?{question.to_url()}")
        self._follow(question, runs)
        return ""

    async def open(self, url: str) -> None:
        """Show the question of a link, of a reload, or of a step back."""
        question, runs = self.session.blank, None
        self.trouble = ""
        try:
            asked = Question.from_url(url)
            if asked.prompt or asked.model in self.session.models:
                question = asked
            runs = await self._runs(question)
        except MiniGPTError as error:
            self.trouble = str(error)
        self._follow(question, runs)

    @property
    def helps(self) -> int:
        """1 where a larger number helps the answer, -1 where a smaller one does."""
        return HELPS[self.question.metric]

    def dim(self, stale: bool) -> None:
        """Show that what stands on the page answers another question than was asked."""
        with self.client:
            ui.run_javascript(f"document.body.classList.toggle('stale', {str(stale).lower()})")

    def resume(self) -> None:
        """Go on where a lost connection stopped it."""
        self._follow(self.question, self.runs)

    def stop(self) -> None:
        """Nothing more is computed for this tab, until it asks again."""
        if self._work is not None:
            self._work.cancel()

    async def _runs(self, question: Question) -> Runs | None:
        return (
            await self.workers.run(lambda: self.session.runs(question)) if question.prompt else None
        )

    def _follow(self, question: Question, runs: Runs | None) -> None:
        """What is shown of it while nobody is there waits until the page is back, see `resume`."""
        self.stop()
        self.question, self.runs = question, runs
        if not self.client.has_socket_connection:
            return
        self.dim(False)
        self._work = background_tasks.create(self._each(question, runs), name="follow a question")

    async def _each(self, question: Question, runs: Runs | None) -> None:
        with self.client:
            for follower in self.followers:
                await follower.follow(question, runs)
            for follower in self.followers:
                await follower.afterwards()
