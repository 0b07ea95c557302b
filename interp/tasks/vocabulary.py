"""Which words of a list a tokenizer knows as one token each, as they stand within a sentence: with
the space before them.

Only such words can take each other's place without moving what comes after them. Knows nothing of
sentences.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from minigpt import Tokenizer
from minigpt.errors import PromptError


class VocabularyWarning(UserWarning):
    """Words were left out, because this tokenizer cuts them into pieces."""


def single(tokenizer: Tokenizer, words: Sequence[str], what: str, least: int = 1) -> list[str]:
    """The words that are one token with a space before them, each once, in order.

    what: their kind, for messages. Warns (VocabularyWarning) of words left out; PromptError where
    fewer than `least` remain.
    """
    once = list(dict.fromkeys(words))
    known = [word for word in once if len(tokenizer.encode(" " + word)) == 1]
    dropped = [word for word in once if word not in known]
    if len(known) < least:
        raise PromptError(
            f"{what}: {len(known)} of {len(once)} are one token in this vocabulary{_some(dropped)}",
            f"{least} or more that are one token with a space before them",
            f"{what}=[words that the model's vocabulary has whole]",
        )
    if dropped:
        left_out = f"{what}: {len(dropped)} of {len(once)} left out{_some(dropped)}"
        said = PromptError(left_out, "words that are one token with a space before them")
        warnings.warn(VocabularyWarning(str(said)), stacklevel=3)
    return known


def _some(words: Sequence[str]) -> str:
    return (
        f"; not one token: {', '.join(words[:6])}{', ...' if len(words) > 6 else ''}"
        if words
        else ""
    )
