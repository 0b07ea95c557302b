"""Explanations that cost nothing, since they simulate by themselves: what a component does on
average at a token, after a token, or where something holds that can be told from the text.

Each is fitted to passages, says itself in a sentence, and predicts what the component does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np

from interp.explain.passages import Floats, Passage, numbers
from interp.explain.predicates import PREDICATES, Holds, told
from interp.explain.regression import regression
from minigpt.shown import Shown

# What something rarely seen is drawn towards the mean by: so many tokens' worth of it.
PRIOR = 1.0
# Words that a sentence names, and the share of the largest mean that they reach.
NAMED, SHARE = 6, 0.3


@runtime_checkable
class Simulator(Protocol):
    """An explanation: words, and what they predict."""

    @property
    def kind(self) -> str:
        """What kind of explanation it is."""

    @property
    def sentence(self) -> str:
        """It in words."""

    def predict(self, passage: Passage) -> Floats:
        """What the component does at the passage's numbered tokens."""


@dataclass(frozen=True, repr=False)
class Nothing(Shown):
    """The empty explanation: the mean everywhere."""

    mean: float
    kind = "nothing"
    sentence = ""

    def predict(self, passage: Passage) -> Floats:
        """The same number everywhere."""
        return np.full(len(passage.did), self.mean)


@dataclass(frozen=True, repr=False)
class Lookup(Shown):
    """The mean where the same is to be seen, by `what`; elsewhere the mean of what was seen less
    than enough to tell."""

    what: str
    means: Mapping[Hashable, float]
    otherwise: float

    @property
    def kind(self) -> str:
        """What is looked up."""
        return self.what

    @property
    def sentence(self) -> str:
        """The keys of the largest means."""
        if not self.means:
            return ""
        best = sorted(self.means, key=lambda key: (-self.means[key], str(key)))
        least = SHARE * self.means[best[0]]
        named = [key for key in best[:NAMED] if self.means[key] >= max(least, self.otherwise)]
        return SAID[self.what](named) if named and self.means[best[0]] > 0 else ""

    def predict(self, passage: Passage) -> Floats:
        """The mean of what stands at each token, or of what is like it."""
        found = [self._mean(key) for key in keys(self.what, passage)]
        return np.array(found, dtype=np.float64)

    def _mean(self, key: Hashable) -> float:
        if key in self.means:
            return self.means[key]
        if isinstance(key, tuple):  # never seen together: as after any other token
            return self.means.get((None, key[1]), self.otherwise)
        return self.otherwise


SAID: dict[str, Callable[[Sequence[Hashable]], str]] = {
    "token": lambda named: f"on {_listed(named)}",
    "token before": lambda named: f"after {_listed(named)}",
    "pair": lambda named: "on " + ", ".join(_pair(key) for key in named),
}


def keys(what: str, passage: Passage) -> Iterator[Hashable]:
    """By what is looked up at each numbered token."""
    for i in range(passage.first, passage.last):
        token, before = passage.window[i], passage.window[i - 1] if i else ""
        yield {"token": token, "token before": before, "pair": (before, token)}[what]


def lookup(what: str, train: Sequence[Passage]) -> Lookup:
    """What the component did on average where the same was to be seen, drawn towards the mean."""
    mean = float(numbers(train).mean())
    sums: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for passage in train:
        for key, value in zip(keys(what, passage), passage.did.tolist(), strict=True):
            both = (key, (None, key[1])) if isinstance(key, tuple) else (key,)
            for each in both:
                sums[each][0] += value
                sums[each][1] += 1
    means = {key: (total + PRIOR * mean) / (n + PRIOR) for key, (total, n) in sums.items()}
    return Lookup(what, means, mean)


@dataclass(frozen=True, repr=False)
class Rule(Shown):
    """One mean where all of the named hold, another elsewhere."""

    names: tuple[str, ...]
    inside: float
    outside: float
    kind = "rule"

    @property
    def sentence(self) -> str:
        """Where it is larger."""
        where = " that is also ".join(self.names) if len(self.names) > 1 else self.names[0]
        return f"{'on' if self.inside > self.outside else 'not on'} {where}"

    def predict(self, passage: Passage) -> Floats:
        """By whether they hold."""
        holds = np.all([told(name, passage) for name in self.names], axis=0)
        return np.where(holds, self.inside, self.outside)


def rule(train: Sequence[Passage]) -> Rule:
    """The one or two of PREDICATES that explain most of the variance."""
    y = numbers(train)
    flags = {n: np.concatenate([told(n, p) for p in train]) for n in PREDICATES}
    singles = sorted(PREDICATES, key=lambda name: -_explained(flags[name], y))
    choices: list[tuple[str, ...]] = [(name,) for name in singles]
    choices += combinations(singles[:5], 2)
    pick = max(choices, key=lambda names: _worth(names, flags, y))
    holds = np.all([flags[name] for name in pick], axis=0)
    return Rule(pick, _mean(y[holds]), _mean(y[~holds]))


def _worth(names: tuple[str, ...], flags: Mapping[str, Holds], y: Floats) -> float:
    """What a second condition explains must be more than a little."""
    share = _explained(np.all([flags[name] for name in names], axis=0), y)
    return share - 0.02 * (len(names) - 1)


def _explained(holds: Holds, y: Floats) -> float:
    """The share of the variance that lies between those where it holds and the others."""
    if holds.all() or not holds.any() or not y.var():
        return 0.0
    apart = y[holds].mean() - y[~holds].mean()
    part = holds.mean()
    return float(part * (1 - part) * apart**2 / y.var())


def _mean(y: Floats) -> float:
    return float(y.mean()) if len(y) else 0.0


def _listed(named: Sequence[Hashable]) -> str:
    return ", ".join(repr(key) for key in named)


def _pair(key: Hashable) -> str:
    before, token = key if isinstance(key, tuple) else ("", key)
    return repr(token) if before is None else f"{token!r} after {before!r}"


# The simpler ones first.
KINDS: dict[str, Callable[[Sequence[Passage]], Simulator]] = {
    "rule": rule,
    "token": lambda train: lookup("token", train),
    "token before": lambda train: lookup("token before", train),
    "pair": lambda train: lookup("pair", train),
    "regression": regression,
}
