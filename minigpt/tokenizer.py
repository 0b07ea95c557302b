"""Text to token ids and back, by tiktoken, from a vocabulary in tiktoken's format. No text is
added: GPT-2 has no BOS."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import tiktoken

from minigpt.errors import PromptError

END = "<|endoftext|>"


class Tokenizer:
    """A tiktoken Encoding with the questions that interpretability asks of it."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding = encoding

    def encode(self, text: str) -> list[int]:
        """Token ids; '<|endoftext|>' in the text is that one token."""
        return self.encoding.encode(text, allowed_special="all")

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids as text; an id that the vocabulary lacks shows as <50259>."""
        pieces = (self._bytes(int(i)) for i in ids)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def text(self, token: int) -> str:
        """One token as text; bytes that are no text by themselves show as the replacement sign, an
        id that the vocabulary lacks (a model may have more) as <50259>."""
        return self._bytes(int(token)).decode("utf-8", errors="replace")

    def _bytes(self, token: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(token)
        except KeyError:
            return f"<{token}>".encode()

    def tokens(self, text: str) -> list[str]:
        """The text cut into its tokens."""
        return [self.text(i) for i in self.encode(text)]

    def single(self, text: str) -> int:
        """The id of a text that is one token, or of <50259>, where the vocabulary lacks that id;
        PromptError that shows how it is cut where it is neither."""
        if (named := re.fullmatch(r"<(\d{1,9})>", text)) and self.text(int(named[1])) == text:
            return int(named[1])
        ids = self.encode(text)
        if len(ids) == 1:
            return ids[0]
        pieces = " + ".join(repr(self.text(i)) for i in ids) or "nothing"
        raise PromptError(
            f"{text!r} is {len(ids)} tokens: {pieces}", "one token", self._other_spacing(text)
        )

    def _other_spacing(self, text: str) -> str:
        other = text[1:] if text.startswith(" ") else " " + text
        return f"{other!r} (mind the space)" if len(self.encode(other)) == 1 else ""

    @cached_property
    def n_vocab(self) -> int:
        """How many tokens there are."""
        return self.encoding.n_vocab


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
