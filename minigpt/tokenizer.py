"""Text to token ids and back, by a vocabulary. No text is added: GPT-2 has no BOS."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tiktoken

from minigpt.errors import PromptError
from minigpt.shown import ROWS, Row, Shown
from minigpt.vocabulary import END, Tiktoken, Vocabulary


class Tokenizer(Shown):
    """A vocabulary (or one of tiktoken's encodings) with the questions that interpretability asks
    of it.

    files: those that it was read from, by name, which are saved with a model.
    """

    def __init__(
        self, vocabulary: Vocabulary | tiktoken.Encoding, files: Mapping[str, bytes] | None = None
    ) -> None:
        known = isinstance(vocabulary, tiktoken.Encoding)
        self.vocabulary: Vocabulary = Tiktoken(vocabulary) if known else vocabulary  # type: ignore
        self.files = dict(files or {})
        self._lacking: dict[int, list[int]] = {}

    @property
    def name(self) -> str:
        """What the vocabulary is called."""
        return self.vocabulary.name

    @property
    def end(self) -> int | None:
        """The token that ends a text, where there is one."""
        return self.vocabulary.end

    @property
    def n_vocab(self) -> int:
        """The largest id, and one."""
        return self.vocabulary.size

    def encode(self, text: str) -> list[int]:
        """Token ids; '<|endoftext|>' in the text is that one token."""
        return self.vocabulary.cut(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids as text; an id that the vocabulary lacks shows as <50259>."""
        pieces = (self._bytes(int(i)) for i in ids)
        return self.vocabulary.between.join(pieces).decode("utf-8", errors="replace")

    def lacking(self, size: int) -> list[int]:
        """The ids below a size that have no name."""
        if size not in self._lacking:
            self._lacking[size] = [i for i in range(size) if self.vocabulary.piece(i) is None]
        return self._lacking[size]

    def text(self, token: int) -> str:
        r"""One token as text; bytes that are no text by themselves show as \xf0\x9f, an id that the
        vocabulary lacks (a model may have more) as <50259>."""
        return self._bytes(int(token)).decode("utf-8", errors="backslashreplace")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token as it stands in a text, with what stands between it and the next."""
        between = self.vocabulary.between.decode()
        return [self.text(i) + between * (place < len(ids) - 1) for place, i in enumerate(ids)]

    def __repr__(self) -> str:
        return f"Tokenizer({self.name}: {self.n_vocab:,} tokens)"

    def _table(self) -> Iterator[Row]:
        yield "id", "token"
        yield from ((i, repr(self.text(i))) for i in range(min(ROWS, self.n_vocab)))

    def _bytes(self, token: int) -> bytes:
        piece = self.vocabulary.piece(token)
        return f"<{token}>".encode() if piece is None else piece

    def tokens(self, text: str) -> list[str]:
        """The text cut into its tokens."""
        return self.pieces(self.encode(text))

    def single(self, text: str) -> int:
        """The id of a text that is one token, or that <50259> names; PromptError that shows how it
        is cut where it is neither."""
        if (named := re.fullmatch(r"<(\d{1,9})>", text)) and self.text(int(named[1])) == text:
            return int(named[1])
        ids = self.encode(text)
        if len(ids) == 1:
            return ids[0]
        if named and int(named[1]) < self.n_vocab:
            return int(named[1])
        pieces = " + ".join(repr(self.text(i)) for i in ids) or "nothing"
        raise PromptError(
            f"{text!r} is {len(ids)} tokens: {pieces}", "one token", self._other_spacing(text)
        )

    def naming(self, token: int) -> str:
        """A text that `single` takes for this id: its own, or <50259>."""
        text = self.text(token)
        try:
            return text if self.single(text) == token else f"<{token}>"
        except PromptError:
            return f"<{token}>"

    def _other_spacing(self, text: str) -> str:
        other = text[1:] if text.startswith(" ") else " " + text
        return f"{other!r} (mind the space)" if len(self.encode(other)) == 1 else ""


def from_file(path: Path, name: str, pattern: str) -> Tokenizer:
    """A tokenizer from a vocabulary file (a base64 token and its number on a line) and the pattern
    that cuts text into words."""
    lines = (line.split() for line in path.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in filter(None, lines)}
    return Tokenizer(
        tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={END: len(ranks)}
        )
    )


def gpt2() -> Tokenizer:
    """GPT-2's own: tiktoken loads it from its cache (TIKTOKEN_CACHE_DIR) or, once, from the
    network."""
    try:
        return Tokenizer(tiktoken.get_encoding("gpt2"))
    except (OSError, ValueError) as error:
        raise PromptError(
            f"GPT-2's vocabulary could not be had: {type(error).__name__}: {error}",
            "a network for the first time, or a folder that holds tiktoken's files",
            "TIKTOKEN_CACHE_DIR=FOLDER in front of the command",
        ) from error
