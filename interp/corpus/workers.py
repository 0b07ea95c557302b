"""Shards measured in this process or in several others; what comes out is the same bytes, in the
same order."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from interp.corpus.measure import Found, Least, Settings, measure
from interp.corpus.windows import Windows, opened
from minigpt import GPT2
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Job(Shown):
    """What every shard is measured with."""

    model: GPT2
    windows: Windows
    settings: Settings

    def measure(self, shard: slice, least: Least) -> Found:
        """What is found in one shard."""
        return measure(self.model, self.windows, self.settings, shard, least)

    def put(self, shard: slice, found: Found) -> Found:
        """The same, what is to be kept put into what is known already."""
        given = self.model, self.windows, self.settings, shard
        return measure(*given, best=found.best)


def each(
    job: Job, shards: Sequence[slice], known: Callable[[], Found], workers: int
) -> Iterator[Found]:
    """What is found in each shard. known: what is known when its work begins."""
    if workers == 1:
        yield from (job.put(shard, known()) for shard in shards)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, _sent(job)) as running:
        waiting: deque[Future[bytes]] = deque()
        try:
            for shard in shards:
                waiting.append(running.submit(_measure, shard, pickle.dumps(known().least)))
                if len(waiting) > workers:
                    yield pickle.loads(waiting.popleft().result())
            while waiting:
                yield pickle.loads(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()


# In a worker process: its job, which is sent once.
_jobs: list[Job] = []


def _sent(job: Job) -> tuple[bytes, Path]:
    """As bytes, not as memory that processes share, of which a container may have little."""
    return pickle.dumps((replace(job.model, tokenizer=None), job.settings)), job.windows.folder


def _begin(sent: bytes, folder: Path) -> None:
    """One thread a worker: more would wait for one another."""
    torch.set_num_threads(1)
    model, settings = pickle.loads(sent)
    _jobs[:] = [Job(model, opened(folder), settings)]


def _measure(shard: slice, least: bytes) -> bytes:
    return pickle.dumps(_jobs[0].measure(shard, pickle.loads(least)))
