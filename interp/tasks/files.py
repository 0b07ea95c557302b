"""Files of prompts as people have them: JSON lines, a JSON list, CSV, AutoCircuit's JSON, EAP-IG's
CSV. A record a prompt; what a record means is for prompts.py."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt.errors import PromptError

Record = dict[str, Any]
KNOWN = ("clean", "corrupt", "answers", "distractors", "positions", "group", "text")
LEGAL = "JSON lines, a JSON list, CSV with a header, or AutoCircuit's JSON ('prompts': [...])"
# What others call a field. Of columns that end in idx the numbers are token ids.
NAMES = {
    "corrupted": "corrupt",
    "answer": "answers",
    "correct_idx": "answers",
    "clean_answer_idx": "answers",
    "distractor": "distractors",
    "wrong_answers": "distractors",
    "wrong_answer": "distractors",
    "incorrect_idx": "distractors",
    "corrupted_answer_idx": "distractors",
}


class PromptsWarning(UserWarning):
    """Something in a file was not read, or was read in one of two possible ways."""


def records(path: Path) -> list[Record]:
    """The records of a file, by its ending; PromptError where it holds none."""
    text = _text(path)
    try:
        if path.suffix == ".csv":
            found = _csv(path, text)
        elif path.suffix == ".json":
            data = json.loads(text)
            found = data if isinstance(data, list) else autocircuit(data)
        else:
            found = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (json.JSONDecodeError, csv.Error, KeyError, TypeError, RecursionError) as error:
        raise PromptError(f"{path} holds no prompts: {error}", LEGAL) from error
    return [_named(path, record, i) for i, record in enumerate(found)]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PromptError(
            f"the prompts {path}: {error.strerror}", "a file that can be read"
        ) from error
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{path}: byte {raw[error.start]:#04x} at {error.start} is no {error.encoding}",
            "UTF-8, or UTF-16 with its mark",
            f"iconv -f latin1 -t utf-8 {path}",
        ) from error


def _csv(path: Path, text: str) -> list[Record]:
    """A record a row; a column that holds whole numbers only is read as token ids."""
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval=None)
    rows: list[Record] = []
    for row in reader:
        if "" in row or None in row.values():
            raise PromptError(
                f"{path}, line {reader.line_num}: {'more' if '' in row else 'fewer'} cells than "
                f"the header's {len(reader.fieldnames or ())}",
                "as many cells as the header has; a text with a comma in quotes",
            )
        rows.append({str(name): value for name, value in row.items() if value})
    return _with_ids(path, _with_years(path, rows))


def _with_years(path: Path, rows: list[Record]) -> list[Record]:
    """EAP-IG's greater-than: where there are no answers, and `label` is the last two digits of a
    year, the years after it are the answers, those up to it the distractors."""
    labels = [row.get("label", "") for row in rows]
    answered = any(NAMES.get(name, name) == "answers" for row in rows for name in row)
    if not rows or answered or not all(re.fullmatch("[0-9]{1,2}", label) for label in labels):
        return rows
    said = f"{path}: label read as a year: the answers are the years after it"
    warnings.warn(PromptsWarning(said), stacklevel=5)
    years = [f"{year:02d}" for year in range(100)]
    return [
        {
            **{name: x for name, x in row.items() if name != "label"},
            "answers": years[int(label) + 1 :],
            "distractors": years[: int(label) + 1],
        }
        for row, label in zip(rows, labels, strict=True)
    ]


def _with_ids(path: Path, rows: list[Record]) -> list[Record]:
    for name in {name for row in rows for name in row}:
        numbers = all(str(row.get(name, "0")).isdecimal() for row in rows)
        if not numbers:
            continue
        if name.endswith("idx") or name == "group":
            pass
        elif NAMES.get(name, name) in ("answers", "distractors"):
            said = f"{path}: {name} holds whole numbers only, read as token ids"
            warnings.warn(PromptsWarning(said), stacklevel=5)
        else:
            continue
        for row in (row for row in rows if name in row):
            row[name] = int(row[name]) if name == "group" else [int(row[name])]
    return rows


def autocircuit(data: Mapping[str, Any]) -> list[Record]:
    """AutoCircuit's dataset: its prompts, with its word_idxs (one index for all prompts) as named
    positions; "end", which says how long the prompts are, beside them."""
    words = dict(data.get("word_idxs") or {})
    end = next((words.pop(name) for name in list(words) if name.lower() == "end"), None)
    lengths = {"length": end + 1} if end is not None else {}
    if labels := data.get("seq_labels"):
        lengths["labels"] = len(labels)
    keys = ("clean", "corrupt", "answers", "wrong_answers")
    return [
        {**{key: prompt[key] for key in keys if key in prompt}, "positions": words, **lengths}
        for prompt in data["prompts"]
    ]


def _named(path: Path, record: Any, i: int) -> Record:
    """With our names for its fields; PromptError for what is no record."""
    if not isinstance(record, Mapping):
        raise PromptError(f"{path}: prompt {i} is {record!r}"[:200], "a record of named fields")
    named = {NAMES.get(str(name), str(name)): value for name, value in record.items()}
    unread = [name for name in named if name not in (*KNOWN, "length", "labels")]
    if unread and i == 0:
        said = f"{path}: {', '.join(unread)} not read; fields: {', '.join(KNOWN)}"
        warnings.warn(PromptsWarning(said), stacklevel=4)
    return named


def check(records: Sequence[Mapping[str, Any]]) -> None:
    """PromptError unless there are some, each with a prompt, its answers and the fields that the
    others have."""
    if not records:
        raise PromptError("a file without prompts", "one record or more")
    every = {name for record in records for name in record} & set(KNOWN[:6])
    for i, record in enumerate(records):
        if missing := ({"clean", "answers"} | every) - set(record):
            has = f"it has {', '.join(record)}"
            raise PromptError(
                f"prompt {i} has no {' and no '.join(sorted(missing))}: {has}",
                f"the same fields in every record, of {', '.join(KNOWN[:6])}",
            )


def aligned(
    records: Sequence[Mapping[str, Any]], lengths: Sequence[int]
) -> Mapping[str, Sequence[int]]:
    """The named positions of each prompt, held against what the file says of lengths: where every
    length is one more than the prompt's, a beginning token is counted that is not there, and all
    positions are one less. PromptError where that does not explain it."""
    for i, (record, n) in enumerate(zip(records, lengths, strict=True)):
        if record.get("labels", n) not in (n, n + 1):
            raise PromptError(
                f"prompt {i} has {n} tokens and {record['labels']} seq_labels", "a label a token"
            )
    over = {
        record["length"] - n
        for record, n in zip(records, lengths, strict=True)
        if "length" in record
    }
    if over - {0} and over != {1}:
        raise PromptError(
            f"'end' in a file whose prompts have {sorted(set(lengths))} tokens: off by "
            f"{sorted(over)}",
            "'end' at the last token of every prompt (or one later in all, where a beginning "
            "token is counted)",
        )
    shift = 1 if over == {1} else 0
    if shift:
        said = "positions count a beginning token that the prompts do not have: all are one less"
        warnings.warn(PromptsWarning(said), stacklevel=4)
    names = records[0].get("positions") or {}
    return {
        name: [_place(record, name, i) - shift for i, record in enumerate(records)]
        for name in names
    }


def _place(record: Mapping[str, Any], name: str, i: int) -> int:
    place = (record.get("positions") or {}).get(name)
    if not isinstance(place, int):
        raise PromptError(f"position '{name}' of prompt {i}: {place!r}", "a number from 0 up")
    return place
