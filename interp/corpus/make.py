"""A store made of a corpus, or gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp import provenance
from interp.corpus import dense, writing
from interp.corpus.collate import STATE, collate
from interp.corpus.documents import HUB, CorpusError, Document, documents, files
from interp.corpus.groups import groups
from interp.corpus.measure import Settings
from interp.corpus.memory import at_once
from interp.corpus.store import FORMAT, Store
from interp.corpus.windows import Windows, cut, opened
from interp.executor import Where
from minigpt import GPT2

USUAL = Settings()
# What may stand in a folder whose store was hardly begun.
BEGUN = ("tokens", "windows", "documents", "manifest")


def make(
    model: GPT2,
    corpus: Sequence[str | Path] | Sequence[Document],
    out: str | Path,
    settings: Settings = USUAL,
    *,
    where: Where | None = None,
    memory: float | None = None,
    progress: bool = True,
) -> Store:
    """The store of a corpus: files and folders, or documents. What an interrupted call left in the
    folder is gone on with. memory: bytes that all processes may take;
    None: 2 GiB each, or what a larger model needs.

    Raises CorpusError where the folder holds something else, and where memory is too little.
    """
    where = where or Where()
    batch = at_once(model, settings, memory, where.workers)  # said before any work
    folder = Path(out)
    said = _said(model, corpus, settings)
    _check(folder, said)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "records.parquet").is_file():
        return Store(folder, model.words)
    windows = _windows(model, corpus, settings, folder, said)
    dense.prepare(model, windows, settings.dense)
    found = collate(model, windows, settings, folder, where, batch, progress=progress)
    addresses = [address for group in groups(model) for address in group.addresses]
    kept = writing.kept(found)
    writing.write(found.moments, found.attends, addresses, kept, windows, folder)
    (folder / STATE).unlink(missing_ok=True)
    writing.finished(folder)
    return Store(folder, model.words)


def _said(
    model: GPT2, corpus: Sequence[str | Path] | Sequence[Document], settings: Settings
) -> dict[str, Any]:
    """What a store is of."""
    return {
        "format": FORMAT,
        "model": model.name,
        "parameters": provenance.fingerprint(model),
        "dictionaries": {name: d.hash for name, d in model.params.dictionaries.items()},
        "settings": {**asdict(settings), "dense": [*settings.dense]},
        "corpus": dict(_hashes(corpus)),
    }


def _hashes(corpus: Sequence[str | Path] | Sequence[Document]) -> Iterator[tuple[str, str]]:
    """What was read, by its checksum."""
    for each in corpus:
        if isinstance(each, Document):
            yield each.name, hashlib.sha256(each.text.encode("utf-8", "surrogatepass")).hexdigest()
            continue
        if str(each).startswith(HUB):
            yield str(each), "of the hub"
            continue
        for path in files([each]):
            with path.open("rb") as file:
                yield str(path.name), hashlib.file_digest(file, "sha256").hexdigest()


def _check(folder: Path, said: dict[str, Any]) -> None:
    """CorpusError where another store, or something else, is in the folder."""
    path = folder / "manifest.json"
    if not path.is_file():
        others = [each for each in folder.glob("*") if each.stem not in BEGUN]
        if others:
            raise CorpusError(f"{folder} is not empty, and no store", "a new folder")
        return
    known = json.loads(path.read_text("utf-8"))
    if "settings" not in known:
        raise CorpusError(f"{folder} is not empty, and no store", "a new folder")
    for name, value in said.items():
        if known.get(name) != value:
            raise CorpusError(
                f"{folder} holds a store with another {name}", "a new folder, or the same corpus"
            )


def _windows(
    model: GPT2,
    corpus: Sequence[str | Path] | Sequence[Document],
    settings: Settings,
    folder: Path,
    said: dict[str, Any],
) -> Windows:
    """The corpus in windows, cut once."""
    if (folder / "manifest.json").is_file():
        return opened(folder)
    given = (each for each in corpus for each in _documents(each))
    windows = cut(given, model.words, settings.size, folder)
    made = provenance.record([], {})
    tokens = int(windows.table["length"].sum())
    counts = {"windows": len(windows), "tokens": tokens, "documents": len(windows.names)}
    writing.manifest(folder, {**said, **counts, "versions": made["versions"]})
    return windows


def _documents(each: str | Path | Document) -> Iterator[Document]:
    return iter([each]) if isinstance(each, Document) else documents([each])
