"""Any text as documents: files of text, JSON lines, CSV, parquet, Arrow, folders of them, and
datasets of the Hugging Face hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import MiniGPTError

TABLES = (".jsonl", ".ndjson", ".csv", ".parquet", ".arrow")
HUB = "hf://"
PLAIN = (".txt", ".text", ".md")
# The column that holds the text, where a table has several.
COLUMNS = ("text", "content", "body", "document", "prompt")
LEGAL = "files or folders of .txt, .md, .jsonl, .csv, .parquet or .arrow, or hf://org/dataset"


class CorpusError(MiniGPTError):
    """Text that cannot be read, or a store that is none."""


class Document(NamedTuple):
    """A text and where it is from: a file, or a row of one."""

    name: str
    text: str


def documents(paths: Sequence[str | Path]) -> Iterator[Document]:
    """The documents of files and folders, folders in the order of their names, and of datasets:
    "hf://org/name", "hf://org/name:split". What holds no text, an empty file or row, is none.
    Raises CorpusError."""
    for name in map(str, paths):
        if name.startswith(HUB):
            yield from (each for each in _hub(name) if each.text.strip())
    here = [path for path in paths if not str(path).startswith(HUB)]
    for path in files(here) if here or not paths else ():
        for name, text in _READERS.get(path.suffix.lower(), _plain)(path):
            if text.strip():
                yield Document(name, text)


def files(paths: Sequence[str | Path]) -> list[Path]:
    """The files that these stand for. CorpusError where there are none."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            known = (*PLAIN, *TABLES)
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in known)
        elif path.is_file():
            found.append(path)
        else:
            raise CorpusError(f"{path}: no such file or folder", LEGAL)
    if not found:
        raise CorpusError(f"no text in {', '.join(map(str, paths)) or 'nothing'}", LEGAL)
    return found


def _plain(path: Path) -> Iterator[Document]:
    try:
        yield Document(path.name, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: {error}", "text in UTF-8") from error
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}", LEGAL) from error


def _lines(path: Path) -> Iterator[Document]:
    """A document a line: an object with a text, or a text."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(
                    f"{path}, line {number}: {error}", "a JSON value a line"
                ) from error
            text = (
                row if isinstance(row, str) else _text(path, row) if isinstance(row, dict) else ""
            )
            yield Document(f"{path.name}:{number}", str(text or ""))


def _rows(path: Path) -> Iterator[Document]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 1):
            yield Document(f"{path.name}:{number}", _text(path, row) or "")


def _parquet(path: Path) -> Iterator[Document]:
    from pyarrow import parquet

    opened = parquet.ParquetFile(path)
    column = _column(path, opened.schema_arrow.names)
    number = 0
    for batch in opened.iter_batches(columns=[column]):
        for text in batch.column(0).to_pylist():
            number += 1
            yield Document(f"{path.name}:{number}", str(text or ""))


def _arrow(path: Path) -> Iterator[Document]:
    """A table as `datasets` saves it: an Arrow stream, or an Arrow file."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            opened = pyarrow.ipc.open_stream(source)
            column, number = _column(path, opened.schema.names), 0
            for batch in opened:
                for text in batch.column(column).to_pylist():
                    number += 1
                    yield Document(f"{path.name}:{number}", str(text or ""))
    except pyarrow.ArrowInvalid as error:
        raise CorpusError(f"{path}: {error}", "an Arrow stream, as `datasets` saves it") from error


def _hub(name: str) -> Iterator[Document]:
    """The rows of a dataset, one after the other, as they come."""
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise CorpusError(
            f"{name} without the library datasets", "it installed", "pip install datasets"
        ) from error
    of, _, split = name.removeprefix(HUB).partition(":")
    for number, row in enumerate(load_dataset(of, split=split or "train", streaming=True), 1):
        yield Document(f"{of}:{number}", str(_text(name, row) or ""))


def _text(path: str | Path, row: dict[str, str]) -> str:
    return row[_column(path, [*row])]


def _column(path: str | Path, names: Sequence[str]) -> str:
    """The column of the text: by name, or the only one."""
    found = [name for name in COLUMNS if name in names] or list(names)
    if len(names) > 1 and found == list(names):
        raise CorpusError(
            f"{path}: which of {', '.join(map(str, names))} is the text?",
            f"a column named {', '.join(COLUMNS)}, or one alone",
        )
    return found[0]


_READERS = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".csv": _rows,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
