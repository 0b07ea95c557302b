"""One pool of threads for everything that computes, with a bounded and fair queue: whoever comes
when it is full is told so at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import TypeVar

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

T = TypeVar("T")
THREADS, QUEUE = 2, 128
# How torch says that there is no memory, on a CPU and on a GPU, and Python that it has none for a
# thread.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
)


class Busy(MiniGPTError):
    """More work is waiting than will be accepted."""


class Exhausted(MiniGPTError):
    """The memory is used up."""


class Workers:
    """Calls of one event loop, a few at a time. A stream takes its place in the queue anew for each
    item, so that none blocks the others.

    Of those that wait, the one goes first whose arrival, with the seconds that it may take added
    once for itself and once for each other call of its client, is the earliest: a short one
    overtakes long ones, a client's calls take turns with others', and none waits for ever.
    """

    def __init__(self, threads: int = THREADS, queue: int = QUEUE) -> None:
        self._pool, self.queue, self.pending = ThreadPoolExecutor(threads, "debugger"), queue, 0
        self._free, self._waiting = threads, list[tuple[float, int, asyncio.Future[None]]]()
        self._count, self._of = count(), Counter[Hashable]()

    async def run(
        self, call: Callable[[], T], *, seconds: float = 0.0, client: Hashable = None
    ) -> T:
        """The call's result; Busy where too much is waiting. A call that has not begun when its
        task is cancelled never does. seconds: what it may take; client: whose it is."""
        if self.pending >= self.queue:
            raise Busy(
                f"{self.pending} requests are waiting",
                "a little patience",
                "the same again in a few seconds",
            )
        self.pending += 1
        self._of[client] += 1
        try:
            await self._turn(time.monotonic() + seconds * self._of[client])
            return await self._begun(call)
        except Exception as error:
            if is_memory(error):
                raise exhausted() from error
            raise
        finally:
            self.pending -= 1
            self._of[client] -= 1
            self._of += Counter()  # forget clients that have none

    async def _turn(self, due: float) -> None:
        """Wait for a thread."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (due, next(self._count), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # it came at the very moment
            raise

    def _next(self) -> None:
        """Give a thread that is free to the first of those that still wait."""
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def _begun(self, call: Callable[[], T]) -> T:
        """The call on a thread, which is free when the call ends, whether or not anybody waits for
        it by then."""
        loop = asyncio.get_running_loop()
        try:
            running = self._pool.submit(call)
        except BaseException:
            self._next()
            raise
        running.add_done_callback(lambda _: _soon(loop, self._next))
        return await asyncio.wrap_future(running)

    async def stream(
        self, items: Iterator[T], *, seconds: float = 0.0, client: Hashable = None
    ) -> AsyncIterator[T]:
        """The items one by one. Nothing more is computed once nobody asks for the next. seconds:
        what one may take."""
        done = object()
        asked = partial(self.run, lambda: next(items, done), seconds=seconds, client=client)
        while (item := await asked()) is not done:
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, repr=False)
class Own(Shown):
    """The workers as one client has them; seconds: what its question may take now; gone: whether
    nobody is there to be shown anything."""

    workers: Workers
    client: Hashable
    seconds: Callable[[], float]
    gone: Callable[[], bool]

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result. Whoever waits for it is cancelled if its page is closed by then."""
        try:
            return await self.workers.run(call, seconds=self.seconds(), client=self.client)
        finally:
            if self.gone():
                raise asyncio.CancelledError

    def stream(self, items: Iterator[T]) -> AsyncIterator[T]:
        """The items one by one."""
        return self.workers.stream(items, seconds=self.seconds(), client=self.client)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call it on the loop; of one that is closed nobody waits any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def is_memory(error: Exception) -> bool:
    """Whether an error says that memory is used up, as Python or as torch says it."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)
    )


def exhausted() -> Exhausted:
    """What is said then, and what helps."""
    return Exhausted(
        "more memory than there is",
        "a question that fits: fewer tokens, fewer columns split, one at a time",
        "the same with a shorter prompt, or without split=neurons and split=keys",
    )
