"""One way to have pieces of work done: each(job, pieces, where) gives a result a piece, in the
order of the pieces, wherever they were done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from interp.executor.where import TRIES, ExecutorError, Gone, Where

Piece = TypeVar("Piece")
Result = TypeVar("Result")
# How many pieces wait at a worker beside the one that it does.
AHEAD = 1


@runtime_checkable
class Pool(Protocol):
    """Workers that have a job: what `each` needs of them."""

    def submit(self, piece: Any) -> Any:
        """Begin a piece; what stands for its result."""

    def result(self, waiting: Any) -> Any:
        """The result. Gone where the worker went before it was there."""


def each(
    job: Callable[[Piece], Result], pieces: Iterable[Piece], where: Where | None = None
) -> Iterator[Result]:
    """The pieces' results in their order. The job is sent to a worker once, as bytes; a piece done
    twice gives the same. A piece is taken only when it is its turn to be begun, so that it may
    depend on what came out before.

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
