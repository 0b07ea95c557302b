"""What each point of the stream would say: the metric, and the first tokens at the positions around
the one that is looked at (nostalgebraist 2020, the logit lens)."""

from __future__ import annotations

from dataclasses import dataclass

from interp import attribution
from interp.debugger.both import Both, both
from interp.debugger.place import Place
from interp.debugger.session import Runs, Side
from interp.lens import lens
from minigpt import Tokenizer
from minigpt.shown import Shown

# Positions shown, and tokens of each.
WINDOW, FIRST = 14, 3


@dataclass(frozen=True, repr=False)
class Said(Shown):
    """A token that a point would say, and its probability there."""

    token: str
    probability: float


# What a point would say at each position that is shown.
Row = tuple[tuple[Said, ...], ...]


@dataclass(frozen=True, repr=False)
class Point(Shown):
    """A point of the stream: the metric, read there as if it were the last, on each side; what it
    would say at each position that is shown, on the left side and on the right."""

    address: str
    metric: Both
    left: Row
    right: Row


@dataclass(frozen=True, repr=False)
class LensTable(Shown):
    """The points from the embedding on, by positions. tokens: what stands at those positions."""

    metric_name: str
    sides: tuple[str, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    points: tuple[Point, ...]


def lens_table(runs: Runs) -> LensTable:
    """The lens around the selected position, or at the end of the prompt."""
    at = _positions(runs)
    said = [_said(side, _there(runs, side, at), runs.tokenizer) for side in runs.sides]
    metrics = [_metric(side) for side in runs.sides]
    points = tuple(
        Point(
            name,
            both(*(each[name] for each in metrics)),
            said[0][name],
            said[1][name] if len(said) > 1 else (),
        )
        for name in said[0]
    )
    return LensTable(
        runs.left.metric.name,
        tuple(side.name for side in runs.sides),
        at,
        tuple(runs.left.tokens[t] for t in at),
        points,
    )


def _positions(runs: Runs) -> tuple[int, ...]:
    """Positions up to the selected one, and some after it."""
    last, node = len(runs.left.tokens) - 1, runs.question.node
    at = Place.parse(node, runs.left.trace).at if node else last
    first = max(0, min(at - WINDOW // 2, last + 1 - WINDOW))
    return tuple(range(first, min(first + WINDOW, last + 1)))


def _there(runs: Runs, side: Side, at: tuple[int, ...]) -> list[int | None]:
    return list(at) if side is runs.left else [runs.twins[t] for t in at]


def _said(side: Side, at: list[int | None], tokenizer: Tokenizer) -> dict[str, Row]:
    """What each point says at these positions; nothing where a side has no such position."""
    known = [t for t in at if t is not None]
    found = lens(side.trace, FIRST, known)
    rows = [
        [_tokens(*pair, tokenizer) for pair in zip(ids, chances, strict=True)]
        for ids, chances in zip(
            found.ids[:, 0].tolist(), found.probabilities[:, 0].tolist(), strict=True
        )
    ]
    return {
        name: tuple(row[known.index(t)] if t is not None else () for t in at)
        for name, row in zip(found.points, rows, strict=True)
    }


def _tokens(ids: list[int], chances: list[float], tokenizer: Tokenizer) -> tuple[Said, ...]:
    return tuple(Said(tokenizer.text(i), p) for i, p in zip(ids, chances, strict=True))


def _metric(side: Side) -> dict[str, float]:
    return dict(attribution.logit_lens(side.trace, side.metric))


def _right(
    said: list[dict[str, tuple[tuple[Said, ...], ...]]], name: str
) -> tuple[tuple[Said, ...], ...]:
    return said[1][name] if len(said) > 1 else ()
