"""Which position of one prompt is which of another: side by side where they have as many tokens,
else before and after one gap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from interp.debugger.question import QuestionError

Twins = tuple[int | None, ...]


def twins(left: Sequence[str], right: Sequence[str]) -> Twins:
    """For each position on the left its twin on the right, None where it has none; the last
    positions are always twins.

    Prompts of different lengths are aligned by the tokens that they begin and end with.
    QuestionError where that leaves a choice, as with a repeated word, or where nothing is in
    common.
    """
    if len(left) == len(right):
        return tuple(range(len(left)))
    before, after = _common(left, right), _common(left[::-1], right[::-1])
    if before + after > min(len(left), len(right)):
        raise _unaligned(left, right, "where the longer one has more is ambiguous")
    if not before + after:
        raise _unaligned(left, right, "they begin and end with different tokens")
    shift, after = len(right) - len(left), max(after, 1)
    return tuple(
        i if i < before else i + shift if i >= len(left) - after else None for i in range(len(left))
    )


def _unaligned(left: Sequence[str], right: Sequence[str], why: str) -> QuestionError:
    return QuestionError(
        f"prompts of {len(left)} and {len(right)} tokens cannot be aligned: {why}\n    "
        f"{_row(left)}\n    {_row(right)}",
        "prompts of as many tokens, or that differ in one stretch",
        "words that are one token each on both sides",
    )


def inverse(twins: Twins, n: int) -> Twins:
    """The same from the right, which has n positions."""
    back = {there: here for here, there in enumerate(twins) if there is not None}
    return tuple(back.get(i) for i in range(n))


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _row(tokens: Sequence[str]) -> str:
    return f"{len(tokens):>3}: " + "|".join(tokens)
