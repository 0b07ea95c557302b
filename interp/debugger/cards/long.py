"""A card whose result comes in parts: the first at once, the rest when every card shows something;
Cancel keeps what is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interp.debugger.cards.card import Card
from interp.debugger.cards.progress import Progress, paced
from interp.debugger.cards.view import View
from interp.debugger.session import Runs
from minigpt.errors import MiniGPTError


class LongCard(Card):
    """Each part has `done` and `of`, and holds all the parts before it."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.place:
            self.progress = Progress(self.name, self.stop)

    def begin(self, runs: Runs) -> Iterator[Any]:
        """The parts."""
        raise NotImplementedError

    def compute(self, runs: Runs) -> Any:
        """The first of them."""
        return next(self.begin(runs))

    def fill(self, result: Any) -> None:
        """Show a part, and how far it is."""
        self._say(running=result.done < result.of)

    async def afterwards(self) -> None:
        """The other parts; the picture changes once they are all there."""
        if self.shown is None or self.result is None or self.result.done >= self.result.of:
            return
        runs = self.runs
        try:
            # From the start again: a part that was interrupted may still be on its way in the
            # iterator before.
            async for parts in paced(
                self.view.workers.stream(await self.view.workers.run(lambda: self.begin(runs)))
            ):
                self.result = (parts or [self.result])[-1]
                self._say(running=True)
        except MiniGPTError as error:
            self.say(str(error))
        self.fill(self.result)

    def exported(self) -> Any:
        """What is computed so far."""
        return self.result

    def stop(self) -> None:
        """No more parts; show what is there."""
        self.view.stop()
        self.fill(self.result)
        self._say(running=False)

    def _say(self, running: bool) -> None:
        self.progress.say("Computed", self.result.done, self.result.of, running)
