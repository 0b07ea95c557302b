"""A component's page as a record: how its numbers are spread, and the windows kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from interp.corpus.moments import EDGES, LEAST
from minigpt.shown import Row, Shown


@dataclass(frozen=True, repr=False)
class Example(Shown):
    """A window, and what the component did there. kind: "top", "bottom" or "sample"; at: the token
    with the value, source: of a head the token it came from, both counted from the window's
    beginning; first: the first token of acts, which end with the window or before. before: the
    window's text up to and with that token."""

    kind: str
    rank: int
    value: float
    document: str
    number: int
    window: int
    at: int
    source: int | None
    tokens: tuple[str, ...]
    first: int
    acts: tuple[float, ...]

    @property
    def before(self) -> str:
        """The text that a model reads up to there."""
        return "".join(self.tokens[: self.at + 1])


@dataclass(frozen=True, repr=False)
class Component(Shown):
    """A component's page: how its numbers are spread, its windows, of heads what they attend to.
    counts: between the bounds EDGES, from below the first to above the last."""

    address: str
    count: int
    mean: float
    variance: float
    skewness: float
    kurtosis: float
    least: float
    most: float
    counts: tuple[int, ...]
    attends: dict[str, float]
    examples: tuple[Example, ...]

    @property
    def positive(self) -> float:
        """The share of tokens at which it is above zero."""
        return sum(self.counts[EDGES.index(LEAST) + 1 :]) / self.count

    def of(self, kind: str) -> tuple[Example, ...]:
        """The examples of a kind, in their order."""
        return tuple(example for example in self.examples if example.kind == kind)

    @property
    def deciles(self) -> tuple[tuple[Example, ...], ...]:
        """The sampled windows by their value in ten parts, the largest first; without the places
        where less was drawn than ten."""
        drawn = sorted(self.of("sample"), key=lambda example: (-example.value, example.rank))
        edges = [len(drawn) * part // 10 for part in range(11)]
        return tuple(tuple(drawn[a:b]) for a, b in pairwise(edges) if b > a)

    def _table(self) -> Iterator[Row]:
        yield ">value", "document", "text"
        for example in self.of("top"):
            yield f"{example.value:.3f}", example.document, example.before


def top_tokens(component: Component, k: int = 5) -> tuple[tuple[str, int], ...]:
    """The tokens at which a component's largest numbers were, and how often."""
    counts: dict[str, int] = {}
    for example in component.of("top"):
        token = example.tokens[example.at]
        counts[token] = counts.get(token, 0) + 1
    ordered: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda pair: -pair[1])
    return tuple(ordered[:k])
