"""Prompts side by side, as the model reads them: token ids, each prompt's length, and positions
that have names.

Every check of what a user gives as a prompt is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.address import Address
from minigpt.config import Config
from minigpt.device import fetched, sent
from minigpt.errors import PositionError, PromptError
from minigpt.shown import Shown
from minigpt.tokenizer import Tokenizer

_STEP = re.compile(r"(.*?)([+-][0-9]+)?", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Batch(Shown):
    """Token ids padded on the right with zeros (which never changes a result), lengths, and named
    positions; these two on the host, wherever the tokens are."""

    tokens: Int[Tensor, "batch pos"]
    lengths: Int[Tensor, "batch"]
    positions: Mapping[str, Int[Tensor, "batch"]] = field(default_factory=dict)

    @property
    def ragged(self) -> bool:
        """Whether the prompts differ in length."""
        return bool((self.lengths != self.tokens.shape[1]).any())

    @property
    def mask(self) -> Bool[Tensor, "batch pos"]:
        """True where a prompt has a token."""
        return sent(self.inside, self.tokens)

    @property
    def inside(self) -> Bool[Tensor, "batch pos"]:
        """The same on the host."""
        return torch.arange(self.tokens.shape[1]) < self.lengths[:, None]

    def __repr__(self) -> str:
        n, lengths = len(self.tokens), sorted(set(self.lengths.tolist()))
        named = f", positions {', '.join(self.positions)}" if self.positions else ""
        sizes = " or ".join(map(str, lengths[:4])) + ", ..." * (len(lengths) > 4)
        return f"Batch({n} prompt{'s' * (n != 1)} of {sizes} tokens{named})"

    def index(self, at: int | str) -> Int[Tensor, "batch"]:
        """Each prompt's absolute position for 3, -1 (the prompt's own last) or a name;
        PositionError where it has none."""
        return sent(self.places(at), self.tokens)

    def places(self, at: int | str) -> Int[Tensor, "batch"]:
        """The same on the host."""
        rows = self._named(at) if isinstance(at, str) else self._numbered(at)
        wrong = ((rows < 0) | (rows >= self.lengths)).nonzero().flatten().tolist()
        if wrong:
            n = int(self.lengths[wrong[0]])
            raise PositionError(
                f"position @{at}: {which(wrong[0], len(self.lengths))} has {n} tokens",
                f"@0 to @{n - 1}, or @-1 to @-{n}",
            )
        return rows

    def check(self, address: Address) -> None:
        """PositionError for a pair whose key some prompt lacks, or has only after the query."""
        key, at = address.sites[0].key, address.at
        keys = None if key is None else self.places(key)
        if keys is not None and at is not None and bool((keys > self.places(at)).any()):
            raise PositionError(
                f"'{address}': in some prompt the key comes after the query",
                "a head, and a key no later than its query",
                f"'{address.site}', at every query from the key on",
            )

    def _numbered(self, at: int) -> Int[Tensor, "batch"]:
        return torch.full_like(self.lengths, at) + (self.lengths if at < 0 else 0)

    def _named(self, name: str) -> Int[Tensor, "batch"]:
        """A name's own positions; or, of "S2+1" where only S2 has a name, the ones after those."""
        base, step = (name, 0) if name in self.positions else _STEP.fullmatch(name).groups()  # type: ignore[union-attr]
        if base not in self.positions:
            known = ", ".join(self.positions) + ", or so many after or before one, as in END-1"
            none = "none here: prompts given as text have no named positions"
            raise PositionError(
                f"position @{name}",
                f"these names: {known if self.positions else none}",
                "a number such as @-1",
            )
        return self.positions[base].to(self.lengths) + int(step or 0)


def as_batch(prompts: object, tokenizer: Tokenizer, config: Config, beside: Tensor) -> Batch:
    """A Batch from a text, a list of texts, token ids (a tensor or array [batch, pos] or [pos],
    lists of any lengths), or anything with a `batch` of its own; its tokens beside a tensor,
    wherever that lies.

    Raises PromptError for what is empty, too long, out of the vocabulary or of another type.
    """
    prompts = getattr(prompts, "batch", prompts)
    batch = prompts if isinstance(prompts, Batch) else _from_rows(_rows(prompts, tokenizer))
    _check(batch, config)
    return Batch(sent(batch.tokens, beside), batch.lengths.cpu(), batch.positions)


def _rows(prompts: object, tokenizer: Tokenizer) -> Sequence[Tensor]:
    """The token ids of each prompt."""
    if isinstance(prompts, (Tensor, np.ndarray, np.integer)):
        return _id_rows(torch.as_tensor(prompts))
    if isinstance(prompts, (list, tuple)) and prompts and not isinstance(prompts[0], str):
        return _listed(prompts)
    return [torch.tensor(tokenizer.encode(text), dtype=torch.long) for text in _texts(prompts)]


def _listed(prompts: Sequence[object]) -> Sequence[Tensor]:
    """The rows of a list: of one prompt's ids, or of prompts, each of any length."""
    one = all(isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in prompts)
    rows = [prompts] if one else prompts
    try:
        ids = [torch.as_tensor(row) for row in rows]
        if any(x.ndim != 1 for x in ids):
            raise _unreadable(prompts)
        return [_id_rows(x)[0] if len(x) else x.long() for x in ids]
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unreadable(prompts) from error


def _id_rows(ids: Tensor) -> list[Tensor]:
    whole = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if not whole or ids.ndim not in (1, 2):
        raise PromptError(
            f"a tensor {ids.dtype} of shape {list(ids.shape)}",
            "whole token ids [batch, pos] or [pos]",
        )
    return list(fetched(ids[None] if ids.ndim == 1 else ids))


def _texts(prompts: object) -> Sequence[str]:
    texts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
        raise _unreadable(prompts)
    return texts


def _unreadable(prompts: object) -> PromptError:
    kinds = ""
    if isinstance(prompts, (list, tuple)):
        kinds = " of " + ", ".join(sorted({type(x).__name__ for x in prompts}))
    return PromptError(
        f"prompts of type {type(prompts).__name__}{kinds}",
        "a text, a list of texts, or token ids: a tensor or array [batch, pos], lists",
    )


def _from_rows(rows: Sequence[Tensor]) -> Batch:
    if not len(rows):
        raise PromptError("no prompts", "one prompt or more")
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(pad_sequence([row.long() for row in rows], batch_first=True), lengths)


def _check(batch: Batch, config: Config) -> None:
    """PromptError unless the model can read every prompt."""
    _check_shape(batch)
    _check_lengths(batch, config)
    _check_ids(batch, config)


def which(prompt: int, of: int) -> str:
    """What an error calls a prompt: one by itself has no number."""
    return "the prompt" if of == 1 else f"prompt {prompt}"


def _check_shape(batch: Batch) -> None:
    shape, lengths = list(batch.tokens.shape), batch.lengths.tolist()
    if not lengths or [len(lengths)] != shape[:-1] or max(lengths) > shape[1]:
        raise PromptError(
            f"a Batch of tokens {shape} and lengths {lengths}",
            "one row or more, and each row's length, up to the width",
        )


def _check_lengths(batch: Batch, config: Config) -> None:
    shortest, longest = int(batch.lengths.argmin()), int(batch.lengths.argmax())
    if int(batch.lengths[shortest]) < 1:
        raise PromptError(
            f"{which(shortest, len(batch.lengths))} is empty",
            "one token or more",
            "'<|endoftext|>' asks what comes first",
        )
    if int(batch.lengths[longest]) > config.n_ctx:
        raise PromptError(
            f"{which(longest, len(batch.lengths))} has {int(batch.lengths[longest])} tokens",
            f"up to {config.n_ctx} (the model's context)",
            "cutting it at the front",
        )


def _check_ids(batch: Batch, config: Config) -> None:
    tokens = fetched(batch.tokens)
    wrong = (tokens < 0) | (tokens >= config.n_vocab)
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise PromptError(
            f"token id {int(tokens[row, column])} in {which(row, len(tokens))} at position "
            f"{column}",
            f"0 to {config.n_vocab - 1} (the model's vocabulary)",
            "the tokenizer that belongs to the model",
        )
