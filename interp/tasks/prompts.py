"""Pairs of prompts that differ in one respect, with answers and named positions: what every
experiment is about.

Knows how pairs must be aligned; files.py knows files. Makes up no prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from interp.metrics import ABSENT
from interp.tasks import files
from minigpt import Batch, Tokenizer
from minigpt.errors import PositionError, PromptError
from minigpt.shown import LINE, ROWS, Row, Shown, cut, short
from minigpt.vocabulary import Ids

Rows = Tensor | Sequence[Sequence[int] | Tensor]
Choices = Tensor | Sequence[Any]
SIDES = ("clean", "corrupt")


@dataclass(frozen=True, eq=False, init=False)
class Prompts(Shown):
    """Clean and corrupt prompts [prompts, pos] of the same lengths, position by position; answers
    and distractors [prompts, choices].

    positions: a name -> each prompt's index; END (the last token) is always there. groups: a number
    for each prompt, by which means are taken (the template, say). Shorter prompts are padded at
    their end; lengths [prompts] says where they end.
    """

    clean: Int[Tensor, "prompts pos"]
    corrupt: Int[Tensor, "prompts pos"] | None
    answers: Int[Tensor, "prompts choices"]
    distractors: Int[Tensor, "prompts choices"] | None
    positions: Mapping[str, Int[Tensor, "prompts"]]
    groups: Int[Tensor, "prompts"] | None
    tokenizer: Tokenizer | None
    lengths: Int[Tensor, "prompts"] = field(init=False)

    def __init__(
        self,
        clean: Rows,
        corrupt: Rows | None,
        answers: Choices,
        distractors: Choices | None = None,
        positions: Mapping[str, Any] = MappingProxyType({}),
        groups: Int[Tensor, "prompts"] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        put = partial(object.__setattr__, self)
        put("tokenizer", tokenizer)
        put("groups", groups)
        rows, others = _rows(clean), None if corrupt is None else _rows(corrupt)
        self._check_alignment(rows, others)
        put("lengths", torch.tensor([len(row) for row in rows]))
        for name, side in (("clean", rows), ("corrupt", others)):
            put(name, None if side is None else pad_sequence(side, batch_first=True))
        named = {name: torch.as_tensor(index) for name, index in positions.items()}
        put("positions", {"END": self.lengths - 1, **named})
        for name, choices in (("answers", answers), ("distractors", distractors)):
            put(name, None if choices is None else _choices(choices, len(rows), name))
        self._check_positions(self.lengths)

    @classmethod
    def from_texts(
        cls,
        tokenizer: Tokenizer,
        clean: Sequence[str],
        corrupt: Sequence[str] | None,
        answers: Sequence[str | Sequence[str]],
        distractors: Sequence[str | Sequence[str]] | None = None,
        positions: Mapping[str, Any] | None = None,
        groups: Tensor | None = None,
    ) -> Prompts:
        """The same from texts; answers are single tokens, with their space: " Mary"."""
        return cls(
            [tokenizer.encode(text) for text in clean],
            None if corrupt is None else [tokenizer.encode(text) for text in corrupt],
            _singles(tokenizer, answers, "answers"),
            None if distractors is None else _singles(tokenizer, distractors, "distractors"),
            positions or {},
            groups,
            tokenizer,
        )

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        kind = "prompts" if self.corrupt is None else "pairs"
        lengths = sorted(set(self.lengths.tolist()))
        size = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        groups = "" if self.groups is None else f", {len(self.groups.unique())} groups"
        lines = [f"{len(self)} {kind} of {size} tokens, at {', '.join(self.positions)}{groups}"]
        for i in range(min(3, len(self))):
            answers = self.text(self._ids("answers", i)[:4])
            lines.append(cut(f"  {self.text(self._ids('clean', i))}  ->  {answers}", LINE))
        return "\n".join([*lines, *(["  ..."] if len(self) > 3 else [])])

    def _table(self) -> Iterator[Row]:
        yield self._given
        for i in range(min(ROWS, len(self))):
            yield [self.text(self._ids(name, i)) for name in self._given]

    @property
    def _given(self) -> list[str]:
        """The sides and ids that there are."""
        names = (*SIDES, "answers", "distractors")
        return [name for name in names if getattr(self, name) is not None]

    def rows(self, which: Sequence[int]) -> Prompts:
        """Some of the prompts, in this order."""
        at = torch.tensor(list(which), dtype=torch.long)
        clean, corrupt = ([self._ids(side, i) for i in at.tolist()] for side in SIDES)
        return Prompts(
            clean,
            None if self.corrupt is None else corrupt,
            self.answers[at],
            None if self.distractors is None else self.distractors[at],
            {name: index[at] for name, index in self.positions.items() if name != "END"},
            None if self.groups is None else self.groups[at],
            self.tokenizer,
        )

    @property
    def batch(self) -> Batch:
        """The clean prompts, for model.run(prompts)."""
        return Batch(self.clean, self.lengths, self.positions)

    @property
    def corrupted(self) -> Batch:
        """The corrupt prompts, for model.run(prompts.corrupted)."""
        if self.corrupt is None:
            raise PromptError(
                "these prompts have no corrupt side",
                "pairs",
                "give corrupt prompts, or ablate by zero or mean",
            )
        return Batch(self.corrupt, self.lengths, self.positions)

    def text(self, row: Sequence[int] | Tensor) -> str:
        """A row of tokens as a person reads it."""
        return "|".join(self.pieces(row)) if self.tokenizer else "".join(self.pieces(row))

    def pieces(self, row: Sequence[int] | Tensor) -> list[str]:
        """A row of tokens, each as a person reads it."""
        ids = [int(token) for token in row]
        return (self.tokenizer or Tokenizer(Ids(max(ids, default=0) + 1))).pieces(ids)

    def save(self, path: Path) -> None:
        """JSON lines: token ids and, with a tokenizer, texts."""
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in self.records())
        Path(path).write_text("".join(lines), encoding="utf-8")

    def records(self) -> list[dict[str, Any]]:
        """A record a prompt, as from_records reads it."""
        return [self._record(i) for i in range(len(self))]

    def _ids(self, name: str, i: int) -> list[int]:
        """The ids of a prompt's side, or of its answers."""
        side = getattr(self, name)
        row: list[int] = [] if side is None else side[i].tolist()
        return row[: int(self.lengths[i])] if name in SIDES else [x for x in row if x != ABSENT]

    def _record(self, i: int) -> dict[str, Any]:
        record: dict[str, Any] = {name: self._ids(name, i) for name in self._given}
        if self.tokenizer is not None:
            sides = [name for name in self._given if name in SIDES]
            record["text"] = {name: self.tokenizer.decode(record[name]) for name in sides}
        record["positions"] = {name: int(index[i]) for name, index in self.positions.items()}
        return {**record, **({} if self.groups is None else {"group": int(self.groups[i])})}

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer | None = None) -> Prompts:
        """JSON lines (ids or texts), a JSON list, CSV with the same columns, or AutoCircuit's JSON,
        by the file's ending (interp.tasks.files)."""
        return cls.from_records(files.records(Path(path)), tokenizer)

    @classmethod
    def from_records(
        cls, records: Sequence[Mapping[str, Any]], tokenizer: Tokenizer | None = None
    ) -> Prompts:
        """A record a prompt: clean, corrupt, answers, distractors (texts or ids), positions,
        group."""
        files.check(records)
        first = records[0]
        sides = {
            name: _column([record[name] for record in records], tokenizer, name)
            for name in ("clean", "corrupt", "answers", "distractors")
            if name in first
        }
        positions = files.aligned(records, [len(tokens) for tokens in sides["clean"]])
        groups = [record["group"] for record in records] if "group" in first else None
        return cls(
            sides["clean"],
            sides.get("corrupt"),
            sides["answers"],
            sides.get("distractors"),
            positions,
            None if groups is None else torch.tensor(groups),
            tokenizer,
        )

    def _check_alignment(self, clean: list[Tensor], corrupt: list[Tensor] | None) -> None:
        if not clean:
            raise PromptError("no prompts", "one pair or more")
        if corrupt is None:
            return
        if len(corrupt) != len(clean):
            raise PromptError(
                f"{len(clean)} clean prompts and {len(corrupt)} corrupt ones", "as many of both"
            )
        faults = [
            f"pair {i} is not aligned: {len(a)} and {len(b)} tokens\n    clean    {self.text(a)}"
            f"\n    corrupt  {self.text(b)}"
            for i, (a, b) in enumerate(zip(clean, corrupt, strict=True))
            if len(a) != len(b)
        ]
        if faults:
            raise PromptError(
                some(faults),
                "pairs of the same number of tokens",
                "names and words that are single tokens on both sides",
            )

    def _check_positions(self, lengths: Tensor) -> None:
        for name, index in self.positions.items():
            if index.shape != lengths.shape or bool(((index < 0) | (index >= lengths)).any()):
                raise PositionError(
                    f"position '{name}': {index.tolist() if index.ndim else int(index)} for "
                    f"prompts of lengths {lengths.tolist()}",
                    "an index from 0 up for each prompt, within it",
                )


def some(faults: Sequence[str], most: int = 10) -> str:
    """What is wrong in each row, a line each; of many the first."""
    more = len(faults) - most
    return "\n  ".join([*faults[:most], *([f"and {more} more"] if more > 0 else [])])


def _singles(
    tokenizer: Tokenizer, texts: Sequence[str | Sequence[str]], name: str
) -> list[list[int]]:
    """The single tokens of each prompt's one text or several; PromptError that tells every row
    that has another."""
    found, faults = [], []
    for i, several in enumerate(texts):
        row = []
        for text in [several] if isinstance(several, str) else several:
            try:
                row.append(tokenizer.single(text))
            except PromptError as error:
                faults.append(f"{name} of prompt {i}: {error.given}{_instead(tokenizer, text)}")
        found.append(row)
    if faults:
        raise PromptError(some(faults), "answers and distractors that are one token each")
    return found


def _instead(tokenizer: Tokenizer, text: str) -> str:
    """Tokens that are nearest to a text: with another space before it, or its beginning."""
    other = text[1:] if text.startswith(" ") else " " + text
    near = [
        x for x in (other, *(text[:n] for n in range(len(text) - 1, 1, -1))) if _one(tokenizer, x)
    ]
    return f"; a single token: {', '.join(map(repr, near[:2]))}" if near else ""


def _one(tokenizer: Tokenizer, text: str) -> bool:
    try:
        return len(tokenizer.encode(text)) == 1
    except PromptError:
        return False


def _rows(rows: Rows) -> list[Tensor]:
    return [torch.as_tensor(row, dtype=torch.long) for row in rows]


def _choices(given: Choices, n: int, name: str) -> Int[Tensor, "prompts choices"]:
    if isinstance(given, (list, tuple)) and len({len(x) for x in given if _many(x)}) > 1:
        rows = [torch.as_tensor(row).long() for row in given]
        given = pad_sequence(rows, batch_first=True, padding_value=ABSENT)
    try:
        ids = torch.as_tensor(given).long()
    except (ValueError, TypeError) as error:
        raise PromptError(
            f"{name} {given!r}"[:200], "token ids, one or several a prompt"
        ) from error
    ids = ids[:, None] if ids.ndim == 1 else ids
    if bool((ids[:, :1] < 0).any()):
        raise PromptError(f"{name} of prompt {int(ids[:, 0].argmin())}", "one token id or more")
    if ids.ndim != 2 or len(ids) != n:
        raise PromptError(
            f"{name} of shape {list(ids.shape)} for {n} prompts",
            "token ids [prompts] or [prompts, choices]",
        )
    return ids


def _many(x: Any) -> bool:
    return isinstance(x, (list, tuple, Tensor))


def _column(said: Sequence[Any], tokenizer: Tokenizer | None, name: str) -> list[list[int]]:
    """Ids from ids, texts, or (answers) single tokens."""
    words = {i: x for i, x in enumerate(said) if not _are_ids(x)}
    for i, x in words.items():
        if not (isinstance(x, str) or (_many(x) and all(isinstance(y, str) for y in x))):
            legal = "a text or token ids; vectors are no prompts of a language model"
            raise PromptError(f"{name} of prompt {i}: {short(x)}", legal)
    if words and tokenizer is None:
        first = next(iter(words.values()))
        raise PromptError(
            f"{name}: {first!r} is a text, but there is no tokenizer",
            "token ids, or the model's tokenizer",
        )
    if tokenizer is None or not words:
        return [list(x) for x in said]
    if name in ("answers", "distractors"):
        if len(words) < len(said):
            raise PromptError(f"{name}: ids of some prompts, texts of others", "one or the other")
        return _singles(tokenizer, said, name)
    return [tokenizer.encode(x) if i in words else list(x) for i, x in enumerate(said)]


def _are_ids(x: Any) -> bool:
    return isinstance(x, list) and bool(x) and all(type(i) is int for i in x)
