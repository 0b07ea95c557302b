"""Workers that are processes of this machine."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from interp.executor.where import Gone, alone

# In a worker: its job, which came once.
_jobs: list[Callable[[Any], Any]] = []


class Processes:
    """A pool of processes that have a job."""

    def __init__(self, job: bytes, workers: int) -> None:
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (job,))

    def submit(self, piece: Any) -> Future[bytes]:
        """Begin a piece."""
        try:
            # As bytes, not as memory that processes share, of which a container may have little.
            return self.pool.submit(_do, pickle.dumps(piece))
        except BrokenProcessPool as error:
            gone: Future[bytes] = Future()
            gone.set_exception(error)
            return gone

    def result(self, waiting: Future[bytes]) -> Any:
        """Its result."""
        try:
            return pickle.loads(waiting.result())
        except BrokenProcessPool as error:
            raise Gone from error


@contextmanager
def processes(job: Any, workers: int) -> Iterator[Callable[[], Processes]]:
    """A way to have a pool; of two that were had, the later one works."""
    sent, had = pickle.dumps(job), list[Processes]()

    def begin() -> Processes:
        had.append(Processes(sent, workers))
        return had[-1]

    try:
        yield begin
    finally:
        for each in had:
            each.pool.shutdown(wait=True, cancel_futures=True)


def _begin(job: bytes) -> None:
    alone()
    _jobs[:] = [pickle.loads(job)]


def _do(piece: bytes) -> bytes:
    return pickle.dumps(_jobs[0](pickle.loads(piece)))
