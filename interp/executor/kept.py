"""Pieces of work whose results are numbers, kept in a folder as soon as they are there: what is
interrupted goes on, and what is done is not done again."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from interp.executor.where import HERE, place
from minigpt.shown import Shown

Piece = TypeVar("Piece")
Job = Callable[[Piece], np.ndarray]


@dataclass(eq=False, repr=False)
class Kept(Shown):
    """Where results are kept, if anywhere; of: what they depend on beside the piece. apart: by
    machine, how far a piece that was done there is from the same one done here."""

    folder: Path | None = None
    of: str = ""
    apart: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def compare(self, where: str, found: np.ndarray, again: Callable[[], np.ndarray]) -> None:
        """Note how far a result is from the same done here, if it is the one that chance takes of
        those from there: the nth of those seen takes the place with the chance 1/n."""
        self.seen[where] = self.seen.get(where, 0) + 1
        if where != HERE and self.chance.random() < 1 / self.seen[where] ** 2:
            far = float(np.abs(again() - found).max(initial=0.0))
            self.apart[where] = max(far, self.apart.get(where, 0.0))

    def path(self, piece: Any) -> Path | None:
        """A piece's file, named by all that its numbers depend on."""
        if self.folder is None:
            return None
        name = hashlib.sha256(f"{self.of} {piece!r}".encode()).hexdigest()
        return self.folder / f"{name[:24]}.parquet"


@dataclass(eq=False, repr=False)
class Told(Shown):
    """A job that also says where it was done."""

    job: Job[Any]

    def __call__(self, piece: Any) -> tuple[str, np.ndarray]:
        """Where, and the result."""
        return place(), self.job(piece)


Done = Callable[[Iterable[Any]], Iterator[tuple[str, np.ndarray]]]


def kept(
    done: Done, job: Job[Piece], pieces: Sequence[Piece], into: Kept | None = None
) -> Iterator[np.ndarray]:
    """The pieces' results [rows, columns] in their order: those that are kept are read, the others
    done, by workers that have Told(job), and kept. Of each other process's pieces one, by chance,
    is done here again and compared."""
    given = into or Kept()
    files = [given.path(piece) for piece in pieces]
    missing = [file is None or not file.is_file() for file in files]
    results = done(piece for piece, lacks in zip(pieces, missing, strict=True) if lacks)
    for piece, file, lacks in zip(pieces, files, missing, strict=True):
        if not lacks and file is not None:
            yield _read(file)
            continue
        where, found = next(results)
        given.compare(where, found, partial(job, piece))
        if file is not None:
            _write(file, found)
        yield found


def replaced(path: Path, made: Callable[[Path], Any]) -> None:
    """A file that is whole, or not there."""
    new = path.with_name(path.name + ".new")
    made(new)
    new.replace(path)


def _write(file: Path, found: np.ndarray) -> None:
    import pandas as pd  # an extra, and only where something is kept

    table = pd.DataFrame(found, columns=[f"prompt {i}" for i in range(found.shape[1])])
    replaced(file, table.to_parquet)


def _read(file: Path) -> np.ndarray:
    import pandas as pd

    return pd.read_parquet(file).to_numpy(copy=True)
