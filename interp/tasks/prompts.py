"""Pairs of prompts that differ in one respect, with answers and named positions: what every
experiment is about.

Knows how pairs must be aligned; files.py knows files. Makes up no prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from interp.tasks import files
from minigpt import Batch, Tokenizer
from minigpt.errors import PositionError, PromptError

Rows = Tensor | Sequence[Sequence[int] | Tensor]
Choices = Tensor | Sequence[Any]


@dataclass(frozen=True, eq=False, init=False)
class Prompts:
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
            _singles(tokenizer, answers),
            None if distractors is None else _singles(tokenizer, distractors),
            positions or {},
            groups,
            tokenizer,
        )

    def __len__(self) -> int:
        return len(self.clean)

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
        return (" " if self.tokenizer is None else "|").join(self.pieces(row))

    def pieces(self, row: Sequence[int] | Tensor) -> list[str]:
        """A row of tokens, each as a person reads it."""
        decode = str if self.tokenizer is None else self.tokenizer.text
        return [decode(int(token)) for token in row]

    def save(self, path: Path) -> None:
        """JSON lines: token ids and, with a tokenizer, texts."""
        Path(path).write_text(
            "".join(
                json.dumps(self._record(i), ensure_ascii=False) + "\n" for i in range(len(self))
            ),
            encoding="utf-8",
        )

    def _record(self, i: int) -> dict[str, Any]:
        n = int(self.batch.lengths[i])
        sides = {
            "clean": self.clean[i][:n],
            **({} if self.corrupt is None else {"corrupt": self.corrupt[i][:n]}),
        }
        ids = {
            "answers": self.answers[i],
            **({} if self.distractors is None else {"distractors": self.distractors[i]}),
        }
        record: dict[str, Any] = {
            name: [int(x) for x in row] for name, row in {**sides, **ids}.items()
        }
        if self.tokenizer is not None:
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
            name: [_ids(record[name], tokenizer, name) for record in records]
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
        for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)):
            if len(a) != len(b):
                raise PromptError(
                    f"pair {i} is not aligned: {len(a)} and {len(b)} tokens\n    clean    "
                    f"{self.text(a)}\n    corrupt  {self.text(b)}",
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


def _singles(tokenizer: Tokenizer, texts: Sequence[str | Sequence[str]]) -> list[list[int]]:
    """The single tokens of each prompt's one text or several."""
    several = [[text] if isinstance(text, str) else text for text in texts]
    return [[tokenizer.single(text) for text in choices] for choices in several]


def _rows(rows: Rows) -> list[Tensor]:
    return [torch.as_tensor(row, dtype=torch.long) for row in rows]


def _choices(given: Choices, n: int, name: str) -> Int[Tensor, "prompts choices"]:
    try:
        ids = torch.as_tensor(given).long()
    except (ValueError, TypeError) as error:
        raise PromptError(
            f"{name} of different numbers for different prompts", "as many for each prompt"
        ) from error
    ids = ids[:, None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or len(ids) != n:
        raise PromptError(
            f"{name} of shape {list(ids.shape)} for {n} prompts",
            "token ids [prompts] or [prompts, choices]",
        )
    return ids


def _ids(said: Any, tokenizer: Tokenizer | None, name: str) -> list[int]:
    """Ids from ids, a text, or (answers) single tokens."""
    if isinstance(said, list) and said and all(isinstance(x, int) for x in said):
        return said
    if tokenizer is None:
        raise PromptError(
            f"{name}: {said!r} is a text, but there is no tokenizer",
            "token ids, or the model's tokenizer",
        )
    if name in ("answers", "distractors"):
        return [tokenizer.single(text) for text in ([said] if isinstance(said, str) else said)]
    return tokenizer.encode(said)
