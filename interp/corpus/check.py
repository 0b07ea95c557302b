"""Whether a store is what was written: its files by their checksums, and some of its records by
running their windows again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from interp.corpus import writing
from interp.corpus.component import Component, Example
from interp.corpus.groups import Group, groups
from interp.corpus.store import Store
from minigpt import GPT2
from minigpt.shown import Shown

# Components of which records are computed again.
SOME = 24


@dataclass(frozen=True, repr=False)
class Checked(Shown):
    """What was looked at, whether it is as it should be, and what was found."""

    what: str
    holds: bool
    found: str


def check(store: Store, model: GPT2 | None = None, n: int = SOME) -> tuple[Checked, ...]:
    """Every file; where all are right, and with the store's own model, the records of n components,
    evenly from all."""
    files = tuple(_files(store))
    if model is None or not all(each.holds for each in files):
        return files
    return (*files, *_records(store, model, n))


def _files(store: Store) -> Iterator[Checked]:
    known = store.manifest.get("files", {})
    for name in sorted({*known, *writing.names(store.folder)}):
        path = store.folder / name
        if not path.is_file():
            yield Checked(name, False, "it is not there")
        elif name not in known:
            yield Checked(name, False, "the manifest does not know it")
        else:
            same = writing.checksum(path) == known[name]
            yield Checked(name, same, "as it was written" if same else "another checksum")


def _records(store: Store, model: GPT2, n: int) -> Iterator[Checked]:
    every = groups(model)
    of = [(group, part) for group in every for part in range(group.n)]
    for number in np.linspace(0, len(of) - 1, min(n, len(of)), dtype=int).tolist():
        group, part = of[number]
        (found,) = store.between(number, number + 1)
        wrong = [each for each in _some(found) if not _again(store, model, group, part, each)]
        said = f"{len(wrong)} of {len(_some(found))} windows differ" if wrong else "the same bits"
        yield Checked(found.address, not wrong, said)


def _some(found: Component) -> list[Example]:
    """The first and the last of each kind."""
    kinds = (found.of(kind) for kind in ("top", "bottom", "sample"))
    return [each for kind in kinds if kind for each in (kind[0], kind[-1])]


@torch.inference_mode()
def _again(store: Store, model: GPT2, group: Group, part: int, example: Example) -> bool:
    """Whether the window gives the record's number, and the place that a head took it from."""
    did = group.read(model.run(store.windows[example.window][None]))
    same = float(did.values[0, example.at, part].float()) == example.value
    if did.source is None:
        return same
    return same and int(did.source[0, example.at, part]) == example.source
