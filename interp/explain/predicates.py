"""What can be told of a token from the text alone, up to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool

from interp.explain.passages import Passage

Tokens = Sequence[str]
Told = Callable[[Tokens, int], bool]
Holds = Bool[np.ndarray, "tokens"]
_NAME, _MARK = re.compile(r" ?[A-Z][a-z]+"), re.compile(r"\s*[^\w\s]+")


def _is_name(tokens: Tokens, i: int) -> bool:
    """A capital within a sentence."""
    return i > 0 and bool(_NAME.fullmatch(tokens[i]))


def _again(tokens: Tokens, i: int) -> bool:
    return tokens[i] in tokens[:i]


PREDICATES: dict[str, Told] = {
    "the first token": lambda _, i: i == 0,
    "the second token": lambda _, i: i == 1,
    "a name": _is_name,
    "a number": lambda tokens, i: tokens[i].strip().isdigit(),
    "the start of a word": lambda tokens, i: tokens[i].startswith(" "),
    "the inside of a word": lambda tokens, i: i > 0 and tokens[i][:1].isalpha(),
    "punctuation": lambda tokens, i: bool(_MARK.fullmatch(tokens[i])),
    "the end of a sentence": lambda tokens, i: tokens[i].strip() in (".", "!", "?"),
    "a token that was there before": _again,
    "what follows a token that was there before": lambda tokens, i: i > 0 and _again(tokens, i - 1),
    "what follows a name": lambda tokens, i: i > 0 and _is_name(tokens, i - 1),
    "what is within quotes": lambda tokens, i: "".join(tokens[: i + 1]).count('"') % 2 == 1,
    "a capital": lambda tokens, i: tokens[i].strip()[:1].isupper(),
}


def told(name: str, passage: Passage) -> Holds:
    """Whether something holds at each numbered token."""
    holds: Holds = _of(passage.window)[name][passage.first : passage.last]
    return holds


@lru_cache(4096)
def _of(window: tuple[str, ...]) -> dict[str, Holds]:
    """Of every token of a window, which many components have in common."""
    return {
        name: np.array([holds(window, i) for i in range(len(window))])
        for name, holds in PREDICATES.items()
    }
