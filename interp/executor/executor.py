"""One way to have pieces of work done: each(job, pieces, where) gives a result a piece, in the
order of the pieces, wherever they were done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

Piece = TypeVar("Piece")
Result = TypeVar("Result")
# How often a piece is begun again after whoever did it was gone, and how many pieces wait at a
# worker beside the one that it does.
TRIES, AHEAD = 3, 1


class ExecutorError(MiniGPTError):
    """Work that cannot be done where it was asked to be."""


@dataclass(frozen=True)
class Where(Shown):
    """workers: processes, 1 being this one; ray: a Ray cluster's address instead, "local" for one
    that is begun here."""

    workers: int = 1
    ray: str = ""


@runtime_checkable
class Pool(Protocol):
    """Workers that have a job: what `each` needs of them."""

    def submit(self, piece: Any) -> Any:
        """Begin a piece; what stands for its result."""

    def result(self, waiting: Any) -> Any:
        """The result. Gone where the worker went before it was there."""


class Gone(Exception):
    """A worker ended in the middle of its work."""


def each(
    job: Callable[[Piece], Result], pieces: Iterable[Piece], where: Where | None = None
) -> Iterator[Result]:
    """The pieces' results in their order. The job is sent to a worker once, as bytes; a piece done
    twice gives the same. A piece is taken only when it is its turn to be begun, so
    that it may depend on what came out before.

    A worker that is killed is replaced, and what it had is done again. Raises ExecutorError where
    that happens to a piece too often.
    """
    given = where or Where()
    if given.workers == 1 and not given.ray:
        yield from map(job, pieces)
        return
    with _pool(job, given) as begin:
        yield from _windowed(begin, pieces, given.workers + AHEAD)


def _pool(job: Any, where: Where) -> AbstractContextManager[Callable[[], Pool]]:
    if where.ray:
        from interp.executor.cluster import cluster  # its library is an extra

        return cluster(job, where)
    from interp.executor.processes import processes

    return processes(job, where.workers)


def _windowed(begin: Callable[[], Pool], pieces: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Results in order, with so many pieces under way. begin: workers, new ones where some are
    gone."""
    pool, tries, left = begin(), 0, iter(pieces)
    running: deque[tuple[Any, Any]] = deque()
    while True:
        while len(running) < ahead and (piece := next(left, running)) is not running:
            running.append((piece, pool.submit(piece)))
        if not running:
            return
        try:
            found = pool.result(running[0][1])
        except Gone as error:
            tries += 1
            if tries > TRIES:
                raise ExecutorError(
                    f"a worker ended {tries} times in one piece of work",
                    "workers that have the memory for it",
                    "fewer of them: --workers 1",
                ) from error
            pool = begin()
            running = deque((piece, pool.submit(piece)) for piece, _ in running)
            continue
        tries = 0
        running.popleft()
        yield found


def alone() -> None:
    """One thread a worker: more would wait for one another."""
    torch.set_num_threads(1)
