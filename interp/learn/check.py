"""Whether an answer to an exercise is right; where it is not, what is off."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from interp.learn.exercises import EXERCISES, Exercise
from minigpt.address import parse
from minigpt.errors import AddressError, MiniGPTError
from minigpt.shown import Row, Shown

# How far a number may be from the right one.
NEAR = 2e-3


@dataclass(frozen=True, repr=False)
class Checked(Shown):
    """What an answer is worth: right or not, and what is said of it."""

    exercise: str
    right: bool
    said: str

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '·'} {self.exercise}  {self.said}"

    def _table(self) -> Iterator[Row]:
        yield ()  # the line says it all


def check(name: str, answer: Any = None) -> Checked:
    """Hold an answer (a number, an address, several addresses) against the right one, which is
    computed anew. `...` or None: not answered yet."""
    if name not in EXERCISES:
        raise MiniGPTError(f"exercise {name!r}", ", ".join(EXERCISES))
    exercise = EXERCISES[name]
    if answer is None or answer is ...:
        return Checked(name, False, exercise.asks)
    given, right = _plain(answer), exercise.right()
    if fault := _of_another_kind(given, right):
        return Checked(name, False, fault)
    if _same(given, right):
        return Checked(name, True, exercise.found)
    return Checked(name, False, _off(exercise, given, right))


def _off(exercise: Exercise, given: Any, right: Any) -> str:
    """What is known of a wrong answer."""
    for said, wrong in exercise.slips:
        if _same(given, wrong()):
            return said
    said = _off_number(given, right) if isinstance(given, float) else _place(exercise, given)
    return said or f"not yet. {exercise.asks}"


def _off_number(given: float, right: float) -> str:
    """In what way a number is wrong: its sign, its unit, its size."""
    if _same(-given, right):
        return "the size is right, the sign is not"
    if _same(given / 100, right):
        return "right in percent; asked for is a number of which 1 is all"
    return f"not yet: {'too high' if given > right else 'too low'}"


def _place(exercise: Exercise, given: Any) -> str:
    """Where an address stands in the list of whose first is asked."""
    if exercise.ranked is None or given not in (ranked := exercise.ranked()):
        return ""
    place = sum(value > ranked[given] for value in ranked.values()) + 1
    return f"not yet: {given} has {ranked[given]:.3g}, place {place} of {len(ranked)}"


def _of_another_kind(given: Any, right: Any) -> str:
    kinds = {float: "a number", str: "an address", set: "addresses, in a list or side by side"}
    if type(given) is type(right):
        return ""
    if isinstance(given, set) and all(isinstance(each, float) for each in given):
        return f"several numbers; asked for is {kinds[type(right)]}"
    kind = kinds.get(type(given), "something else")
    return f"{given!r} is {kind}; asked for is {kinds[type(right)]}"


def _plain(answer: Any) -> Any:
    """As a float, an address in the project's own spelling, or a set of these."""
    if isinstance(answer, torch.Tensor):
        answer = answer.flatten().tolist() if answer.numel() > 1 else answer.item()
    if isinstance(answer, str):
        words = re.split(r"[\s,]+", answer.strip())
        return _spelled(words[0]) if len(words) == 1 else {_spelled(word) for word in words}
    if isinstance(answer, Collection):
        return {_plain(each) for each in answer}
    return float(answer) if isinstance(answer, (int, float)) else answer


def _spelled(text: str) -> Any:
    """An address as this project writes it; a number in words as a number."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return str(parse(text))
    except AddressError:
        return text


def _same(given: Any, right: Any) -> bool:
    if isinstance(given, float) and isinstance(right, float):
        return math.isclose(given, right, rel_tol=NEAR, abs_tol=NEAR) or _rounded(given, right)
    return bool(given == right)


def _rounded(given: float, right: float) -> bool:
    """Whether a number is the right one as a table has it, of two digits or more."""
    whole, _, fraction = f"{given!r}".partition(".")
    digits = (whole + fraction).lstrip("-0")
    return digits.isdigit() and len(digits) >= 2 and round(right, len(fraction)) == given
