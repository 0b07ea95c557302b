"""What an explanation is made of and judged by: windows of a store, and what a component did in
them, apart by document."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.corpus.component import Component, Example
from minigpt.shown import Shown

Floats = NDArray[np.float64]
# A component is on where it does this share of its largest number.
ON = 0.3


@dataclass(frozen=True, eq=False, repr=False)
class Passage(Shown):
    """A window's tokens; did: what the component did from the token `first` on, as far as that is
    known. Below zero counts as nothing. pair: the tokens that a head looks most from and to, both
    counted from the window's beginning."""

    window: tuple[str, ...]
    first: int
    did: Floats
    document: str
    pair: tuple[int, int] | None = None

    @property
    def last(self) -> int:
        """Behind the last token that has a number."""
        return self.first + len(self.did)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Those that have a number."""
        return self.window[self.first : self.last]


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Shown):
    """Passages to explain, and others, of other documents, to judge by."""

    train: tuple[Passage, ...]
    test: tuple[Passage, ...]

    @property
    def most(self) -> float:
        """The largest number that was seen while explaining."""
        return max((float(p.did.max()) for p in self.train), default=0.0)


def evidence(component: Component) -> Evidence:
    """A component's windows, those with its largest numbers and those at random; half of the
    documents, by their names alone, to explain."""
    seen: set[int] = set()
    halves: tuple[list[Passage], list[Passage]] = ([], [])
    for example in (*component.of("top"), *component.of("sample")):
        if example.window not in seen:
            seen.add(example.window)
            halves[_half(example.document)].append(_passage(example))
    return Evidence(*map(tuple, halves))


def numbers(passages: Sequence[Passage]) -> Floats:
    """What was done in all of them, one after the other."""
    return np.concatenate([p.did for p in passages]) if passages else np.zeros(0)


def _half(document: str) -> int:
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()[0] % 2


def _passage(example: Example) -> Passage:
    did = np.maximum(np.asarray(example.acts, dtype=np.float64), 0.0)
    pair = None if example.source is None else (example.at, example.source)
    return Passage(example.tokens, example.first, did, example.document, pair)
