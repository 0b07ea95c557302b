"""One pool of threads for everything that computes, with a bounded queue: whoever comes when it is
full is told so at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from minigpt.errors import MiniGPTError

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
    item, so that none blocks the others."""

    def __init__(self, threads: int = THREADS, queue: int = QUEUE) -> None:
        self._pool, self.queue, self.pending = ThreadPoolExecutor(threads, "debugger"), queue, 0

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result; Busy where too much is waiting. A call that has not begun when its
        task is cancelled never does."""
        if self.pending >= self.queue:
            raise Busy(
                f"{self.pending} requests are waiting",
                "a little patience",
                "the same again in a few seconds",
            )
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except Exception as error:
            if is_memory(error):
                raise exhausted() from error
            raise
        finally:
            self.pending -= 1

    async def stream(self, items: Iterator[T]) -> AsyncIterator[T]:
        """The items one by one. Nothing more is computed once nobody asks for the next."""
        done = object()
        while (item := await self.run(lambda: next(items, done))) is not done:
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


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
