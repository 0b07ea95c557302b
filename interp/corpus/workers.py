"""Shards measured here or by workers; what comes out is the same bytes, in the same order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interp.corpus.measure import BLOCK, Found, Least, Settings, measure
from interp.corpus.windows import Windows, opened
from interp.executor import Where, each
from interp.executor.lend import Lent, lent
from minigpt import GPT2
from minigpt.shown import Shown


@dataclass(eq=False, repr=False)
class Measure(Shown):
    """A worker's job: what is found in a shard, of windows to be kept only what is above a
    rank."""

    of: Lent
    folder: Path
    settings: Settings
    batch: int = BLOCK
    _opened: list[tuple[GPT2, Windows]] = field(default_factory=list)

    def __call__(self, piece: tuple[slice, Least]) -> bytes:
        """What is found, as bytes."""
        if not self._opened:
            self._opened.append((self.of.model(), opened(self.folder)))
        model, windows = self._opened[0]
        # Since it may wait for others a while: tensors would hold memory that processes share.
        return pickle.dumps(measure(model, windows, self.settings, *piece, self.batch))


def measured(
    model: GPT2,
    windows: Windows,
    settings: Settings,
    shards: Sequence[slice],
    known: Callable[[], Found],
    where: Where,
    batch: int = BLOCK,
) -> Iterator[Found]:
    """What is found in each shard. known: what is known when its work begins; batch: windows that
    are run together. Workers, on whatever machine, must see the windows' folder."""
    if where == Where():
        for shard in shards:
            # What is to be kept is put into what is known already.
            yield measure(model, windows, settings, shard, batch=batch, best=known().best)
        return
    with lent(model, windows.folder) as of:
        job = Measure(of, windows.folder, settings, batch)
        pieces = ((shard, known().least) for shard in shards)
        yield from map(pickle.loads, each(job, pieces, where))
