"""Tokens by how they begin: what a person may go on to type."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice, takewhile

from minigpt import Tokenizer

# Words that begin so, of which the shortest are offered.
NEAR = 64


class Completions:
    """The words of a vocabulary that are one token inside a sentence, in order. Made once for a
    vocabulary, when it is first asked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._words: list[str] = []

    def of(self, typed: str, k: int = 8) -> list[str]:
        """Up to k lists of tokens that go on from what is typed: its last word completed, the words
        before it as they are."""
        before, comma, last = typed.rpartition(",")
        start = last.strip()
        if not start or start.startswith('"'):
            return []
        words = self._known()
        first = bisect_left(words, start)
        found = takewhile(lambda word: word.startswith(start), islice(words, first, None))
        kept = f"{before}{comma} " if comma else ""
        return [f"{kept}{word}" for word in sorted(islice(found, NEAR), key=len)[:k]]

    def _known(self) -> list[str]:
        if not self._words:
            texts = map(self.tokenizer.text, range(self.tokenizer.n_vocab))
            self._words = sorted({text[1:] for text in texts if _is_word(text)})
        return self._words


def _is_word(text: str) -> bool:
    return text[:1] == " " and text[1:].isalnum()
