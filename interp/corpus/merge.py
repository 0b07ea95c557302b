"""Stores of several corpora made one, as if all of them had been read in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.corpus import reading, writing
from interp.corpus.best import FREE, Best
from interp.corpus.documents import CorpusError
from interp.corpus.store import Store
from interp.corpus.windows import Windows, opened

# What stores that are made one must have in common.
ALIKE = ("format", "model", "parameters", "dictionaries", "settings")
COUNTS = ("windows", "tokens", "documents")


def merge(stores: Sequence[Store], out: str | Path) -> Store:
    """The store of all their corpora. A window that is in several keeps its records once; the
    statistics count it as often as it is there, and the manifest says how many are.

    Raises CorpusError where they are of different models or settings, or the folder is not empty.
    """
    folder, first = Path(out), stores[0]
    _check(stores, folder)
    folder.mkdir(parents=True, exist_ok=True)
    windows = _windows(stores, folder)
    again = torch.tensor(windows.table["mark"].duplicated().to_numpy())
    writing.manifest(folder, _said(stores, int(again.sum())))
    writing.write(
        reduce(or_, map(reading.moments, stores)),
        reduce(or_, map(reading.attends, stores)),
        first.addresses,
        _records(stores, again),
        windows,
        folder,
    )
    writing.finished(folder)
    return Store(folder, first.words)


def _check(stores: Sequence[Store], folder: Path) -> None:
    """CorpusError where they cannot be made one, or not there."""
    first = stores[0]
    for store in stores[1:]:
        for name in ALIKE:
            if store.manifest[name] != first.manifest[name]:
                raise CorpusError(
                    f"{store.folder} is of another {name} than {first.folder}",
                    "stores of one model, made with the same settings",
                )
    if len(stores) < 2 or first.manifest["settings"]["dense"]:
        raise CorpusError(
            f"{len(stores)} stores, {len(first.manifest['settings']['dense'])} nodes kept whole",
            "two stores or more, without --dense",
        )
    if folder.exists() and any(folder.iterdir()):
        raise CorpusError(f"{folder} is not empty", "a new folder")


def _windows(stores: Sequence[Store], folder: Path) -> Windows:
    """The corpora, one after the other."""
    every = [store.windows for store in stores]
    kind = every[0].tokens.dtype
    tables, names, tokens = [], list[str](), 0
    with (folder / f"tokens.{kind.name}").open("wb") as out:
        for each in every:
            table = each.table.copy()
            table["document"] += len(names)
            table["start"] += tokens
            tables.append(table)
            names += each.names
            tokens += len(each.tokens)
            out.write(each.tokens.tobytes())
    pd.concat(tables, ignore_index=True).to_parquet(folder / "windows.parquet", index=False)
    pd.DataFrame({"name": names}).to_parquet(folder / "documents.parquet", index=False)
    return opened(folder)


def _records(stores: Sequence[Store], again: torch.Tensor) -> Iterator[writing.Records]:
    """What is kept of all, part by part."""
    offsets = np.cumsum([0, *(len(store.windows) for store in stores)])
    for part in writing.parts(len(stores[0])):
        each = [
            {kind: _moved(best, int(by), again) for kind, best in reading.best(store, part).items()}
            for store, by in zip(stores, offsets[:-1], strict=True)
        ]
        yield part.start, {kind: reduce(or_, (best[kind] for best in each)) for kind in each[0]}


def _moved(best: Best, by: int, again: torch.Tensor) -> Best:
    """Windows by their number among all; those that were there before are free places."""
    known = best.rank != FREE
    twice = again[torch.where(known, best.window + by, 0)]
    best.rank.copy_(torch.where(known & ~twice, best.rank - by, FREE))
    return best


def _said(stores: Sequence[Store], twice: int) -> dict[str, Any]:
    """What the store is of."""
    said = [store.manifest for store in stores]
    corpus = {name: digest for each in said for name, digest in each["corpus"].items()}
    counts = {name: sum(each[name] for each in said) for name in COUNTS}
    of = [store.folder.name for store in stores]
    kept = {name: said[0][name] for name in (*ALIKE, "versions")}
    return {**kept, "corpus": corpus, **counts, "merged": of, "windows twice": twice}
