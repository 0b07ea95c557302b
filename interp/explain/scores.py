"""How well an explanation predicts what a component does in passages that it was not made of.

simulation: Bills et al. 2023 (Language models can explain neurons in language models); detection,
fuzzing and intruder: Paulo et al. 2024 (Automatically interpreting millions of features).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interp.explain.passages import ON, Floats, Passage, numbers
from interp.explain.simulators import Simulator
from minigpt.shown import Shown

CHOICES = 5


@dataclass(frozen=True, repr=False)
class Scores(Shown):
    """simulation: Pearson's correlation over all tokens, 0 for a constant; explained: the share of
    the variance, below 0 where the mean would be better; detection: the chance that a window where
    the component is on is given more than one where it is not; fuzzing: that its tokens are given
    more than as many others of the window; intruder: that of five windows the one where it is off
    is found. NaN where there is nothing to tell apart."""

    simulation: float
    explained: float
    detection: float
    fuzzing: float
    intruder: float


def scores(made: Simulator, test: Sequence[Passage], seed: int = 0) -> Scores:
    """The scores on passages of other documents."""
    predicted, rng = [made.predict(passage) for passage in test], np.random.default_rng(seed)
    x, y = np.concatenate(predicted) if predicted else np.zeros(0), numbers(test)
    on = _on(test)
    peaks = np.array([p.max() for p in predicted])
    return Scores(
        correlation(x, y),
        _explained(x, y),
        above(peaks[on], peaks[~on]) if len(test) else np.nan,
        _fuzzing(test, predicted, on, rng),
        _intruder(peaks, on, rng),
    )


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's, 0 where either is constant."""
    if len(x) < 2 or not x.std() or not y.std():
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def above(a: Floats, b: Floats) -> float:
    """The chance that one of a is larger than one of b, equal ones counting half; NaN where either
    is empty."""
    if not len(a) or not len(b):
        return np.nan
    return float((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)


def _explained(x: Floats, y: Floats) -> float:
    return float(1 - ((x - y) ** 2).mean() / y.var()) if len(y) and y.var() else np.nan


def _on(test: Sequence[Passage]) -> np.ndarray:
    """In which windows the component is on."""
    most = np.array([float(p.did.max()) for p in test])
    return most >= ON * most.max() if len(most) and most.max() > 0 else np.zeros(len(most), bool)


def _fuzzing(
    test: Sequence[Passage], predicted: Sequence[Floats], on: np.ndarray, rng: np.random.Generator
) -> float:
    """Right marks against as many wrong ones in the same window."""
    won = [
        above(np.array([x[marked].mean()]), np.array([x[wrong].mean()]))
        for passage, x, is_on in zip(test, predicted, on, strict=True)
        if is_on
        for marked, wrong in _marks(passage, rng)
    ]
    return float(np.mean(won)) if won else np.nan


def _marks(passage: Passage, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    marked = np.flatnonzero(passage.did >= ON * passage.did.max())
    others = np.setdiff1d(np.arange(len(passage.did)), marked)
    if len(others) >= len(marked):
        yield marked, rng.choice(others, len(marked), replace=False)


def _intruder(peaks: Floats, on: np.ndarray, rng: np.random.Generator) -> float:
    """How often the window of five is found in which the component is off."""
    inside, outside = np.flatnonzero(on), np.flatnonzero(~on)
    if len(inside) < CHOICES - 1 or not len(outside):
        return np.nan
    found = []
    for intruder in outside:
        others = rng.choice(inside, CHOICES - 1, replace=False)
        least = peaks[others].min()
        ties = 1 + (peaks[others] == peaks[intruder]).sum()
        found.append((peaks[intruder] <= least) / ties)
    return float(np.mean(found))
