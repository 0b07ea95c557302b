"""Vocabularies: how a text is cut into token ids, and the bytes of each. Byte pairs by tiktoken;
names, for models whose tokens are no pieces of text; bare ids, for models without any."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

import tiktoken

from minigpt.errors import PromptError

END = "<|endoftext|>"


class Vocabulary(ABC):
    """What a Tokenizer asks of a vocabulary.

    size: the largest id and one. end: the id that ends a text, where there is one. between: what
    stands between two tokens of a text.
    """

    name: str
    size: int
    end: int | None = None
    between: bytes = b""

    @abstractmethod
    def cut(self, text: str) -> list[int]:
        """The ids of a text."""

    @abstractmethod
    def piece(self, token: int) -> bytes | None:
        """The bytes of one id; None where the vocabulary lacks it."""


class Tiktoken(Vocabulary):
    """One of tiktoken's own encodings, as it is."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding, self.name = encoding, encoding.name
        self.size, self.end = encoding.n_vocab, encoding._special_tokens.get(END)

    def cut(self, text: str) -> list[int]:
        """The ids of a text; a special token's own text in it is that one token."""
        return self.encoding.encode(text, allowed_special="all")

    def piece(self, token: int) -> bytes | None:
        """The bytes of one id."""
        try:
            return self.encoding.decode_single_token_bytes(token)
        except KeyError:
            return None


class BytePairs(Vocabulary):
    """Byte pairs whose ids are in no order, with tokens that were added to them.

    pieces: the bytes of every id. merged: the ids of single bytes, and of what pairs are merged
    into, in the order of the merges. added: texts that are one token wherever they stand; those of
    the first mapping are looked for first, the longest at a place.
    """

    def __init__(
        self,
        name: str,
        pieces: Mapping[int, bytes],
        merged: Mapping[bytes, int],
        pattern: str,
        added: Sequence[Mapping[str, int]] = (),
        end: int | None = None,
    ) -> None:
        self.name, self.end, self.pieces = name, end, dict(pieces)
        self.size = max(self.pieces, default=-1) + 1
        self._added = [(_any_of(texts), texts) for texts in added if texts]
        self._lacking = frozenset(range(256)) - {token[0] for token in merged if len(token) == 1}
        self._ids = list(merged.values())
        # tiktoken wants every byte; those that are lacking are refused before they reach it
        every = [*merged, *(bytes([i]) for i in self._lacking)]
        ranks = {token: rank for rank, token in enumerate(every)}
        self._encoding = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )

    def cut(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(self._between_added(text, 0))

    def piece(self, token: int) -> bytes | None:
        """The bytes of one id."""
        return self.pieces.get(token)

    def _between_added(self, text: str, first: int) -> Iterator[int]:
        if first == len(self._added):
            yield from self._merged(text)
            return
        pattern, ids = self._added[first]
        for part in pattern.split(text):
            if part in ids:
                yield ids[part]
            else:
                yield from self._between_added(part, first + 1)

    def _merged(self, text: str) -> Iterator[int]:
        if self._lacking and (lost := self._lacking & set(text.encode())):
            raise PromptError(
                f"{text!r}: this vocabulary has no token for byte {min(lost):#04x}",
                "text of the characters that the model was trained on",
            )
        return (self._ids[rank] for rank in self._encoding.encode_ordinary(text))


class Names(Vocabulary):
    """Tokens that are whole names, as of steps or features; or single characters.

    names: by id, None where there is none. A text is names, the longest at each place, with or
    without white space between them, unless a name is white space itself.
    """

    def __init__(self, name: str, names: Sequence[str | None], end: int | None = None) -> None:
        self.name, self.names, self.end = name, list(names), end
        self.size = len(self.names)
        self._ids = {text: i for i, text in enumerate(self.names) if text is not None}
        self._pattern = _any_of(self._ids)
        characters = all(len(text) == 1 for text in self._ids)
        self.between = b"" if characters or any(map(str.isspace, self._ids)) else b" "

    def cut(self, text: str) -> list[int]:
        """The ids of a text; PromptError at the first place that holds no name."""
        ids = []
        for part in self._pattern.split(text):
            if part in self._ids:
                ids.append(self._ids[part])
            elif part.strip() or (part and not self.between):
                raise self._unknown(part if not self.between else part.split()[0])
        return ids

    def piece(self, token: int) -> bytes | None:
        """The bytes of one name."""
        name = self.names[token] if 0 <= token < self.size else None
        return None if name is None else name.encode()

    def _unknown(self, part: str) -> PromptError:
        near = get_close_matches(part, self._ids, n=3)
        some = ", ".join(map(repr, list(self._ids)[:8]))
        return PromptError(
            f"{part!r} is no name of this vocabulary",
            f"its {len(self._ids)} names: {some}{', ...' * (len(self._ids) > 8)}",
            " or ".join(map(repr, near)),
        )


class Ids(Vocabulary):
    """Token ids as words: '464 2068' or '464,2068'. shown: what they are shown as, the ids
    themselves unless a vocabulary tells."""

    def __init__(self, size: int, shown: Vocabulary | None = None) -> None:
        self.name, self.size, self.shown = "token ids", size, shown
        self.between = b" " if shown is None else shown.between

    def cut(self, text: str) -> list[int]:
        """The ids of a text; PromptError at the first word that is none."""
        words = re.split(r"[\s,]+", text.strip(" \t\n[](),"))
        return [self._id(word) for word in words if word]

    def piece(self, token: int) -> bytes | None:
        """How an id is shown."""
        if self.shown is not None:
            return self.shown.piece(token)
        return str(token).encode() if 0 <= token < self.size else None

    def _id(self, word: str) -> int:
        found = re.fullmatch(r"<?([0-9]{1,9})>?", word)
        if found is None or int(found[1]) >= self.size:
            raise PromptError(
                f"{word!r} is no token id; this model has no vocabulary" * (self.shown is None)
                or f"{word!r} is no token id",
                f"ids from 0 to {self.size - 1}, as in '464 2068'",
                "its vocabulary, where there is one: --tokenizer FILE" * (self.shown is None),
            )
        return int(found[1])


def _any_of(texts: Mapping[str, int]) -> re.Pattern[str]:
    """Any of these texts, the longest at a place; as one group, so that split keeps them."""
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
