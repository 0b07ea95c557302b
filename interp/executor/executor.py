"""One way to have pieces of work done: each(job, pieces, where) gives a result a piece, in the
order of the pieces, wherever they were done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
    with workers(job, where) as done:
        yield from done(pieces)


@contextmanager
def workers(
    job: Callable[[Piece], Result], where: Where | None = None
) -> Iterator[Callable[[Iterable[Piece]], Iterator[Result]]]:
    """The same for several lots of pieces, one after the other, by the same workers."""
    given = where or Where()
    if given == Where():
        yield lambda pieces: map(job, pieces)
        return
    with _pool(job, given) as begin:
        yield Workers(begin, given.workers + AHEAD).each


def _pool(job: Any, where: Where) -> AbstractContextManager[Callable[[], Pool]]:
    if where.ray:
        from interp.executor.cluster import cluster  # its library is an extra

        return cluster(job, where)
    from interp.executor.processes import processes

    return processes(job, where.workers)


class Workers:
    """Those who do the pieces, so many of which are under way. begin: workers, new ones where some
    are gone."""

    def __init__(self, begin: Callable[[], Pool], ahead: int) -> None:
        self.begin, self.ahead, self.pool = begin, ahead, begin()

    def each(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Results in order."""
        tries, left = 0, iter(pieces)
        running: deque[tuple[Any, Any]] = deque()
        while True:
            while len(running) < self.ahead and (piece := next(left, running)) is not running:
                running.append((piece, self.pool.submit(piece)))
            if not running:
                return
            try:
                found = self.pool.result(running[0][1])
            except Gone as error:
                tries += 1
                if tries > TRIES:
                    raise _ended(tries) from error
                self.pool = self.begin()
                running = deque((piece, self.pool.submit(piece)) for piece, _ in running)
                continue
            tries = 0
            running.popleft()
            yield found


def _ended(tries: int) -> ExecutorError:
    return ExecutorError(
        f"a worker ended {tries} times in one piece of work",
        "workers that have the memory for it",
        "fewer of them: --workers 1",
    )
