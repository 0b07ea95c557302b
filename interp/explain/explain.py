"""The explanation of a component that predicts best, and whether it predicts more than nothing,
than a list of tokens, than what explains another component."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.corpus.component import Component, top_tokens
from interp.explain.passages import Evidence, Passage, evidence, numbers
from interp.explain.scores import Scores, correlation, scores
from interp.explain.simulators import KINDS, Lookup, Nothing, Simulator
from minigpt.shown import Row, Shown

# Parts, each of which is held back once to choose between explanations; by how much a kind must
# predict better than a simpler one.
FOLDS, BETTER = 3, 0.02
BASELINES = ("nothing", "its top tokens")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Shown):
    """A sentence of a kind, and its scores on other documents; baselines: those of the empty
    explanation and of the list of its top tokens. simulator: what predicts."""

    address: str
    kind: str
    sentence: str
    scores: Scores
    baselines: dict[str, Scores]
    simulator: Simulator
    passages: int

    def to_dict(self) -> dict[str, Any]:
        """Everything but what predicts, as plain values."""
        return {
            "address": self.address,
            "kind": self.kind,
            "sentence": self.sentence,
            "scores": vars(self.scores),
            "baselines": {name: vars(found) for name, found in self.baselines.items()},
            "passages": self.passages,
        }

    def _table(self) -> Iterator[Row]:
        yield "", *(f">{name}" for name in vars(self.scores))
        for name, found in {self.sentence: self.scores, **self.baselines}.items():
            yield name, *(f"{value:.3f}" for value in vars(found).values())


def explain(component: Component, given: Evidence | None = None) -> Explanation:
    """The explanation of the simplest kind that predicts about as well as the best within the
    documents that it may see; judged on the others."""
    known = evidence(component) if given is None else given
    if not known.train or not numbers(known.train).any():
        return of_nothing(component, known)
    found = {kind: _held_back(kind, known.train) for kind in KINDS}
    simplest = next(kind for kind in KINDS if found[kind] >= max(found.values()) - BETTER)
    return judged(component, KINDS[simplest](known.train), known)


def judged(component: Component, made: Simulator, known: Evidence) -> Explanation:
    """An explanation with its scores, beside the baselines'."""
    return Explanation(
        component.address,
        made.kind,
        made.sentence,
        scores(made, known.test),
        baselines(component, known),
        made,
        len(known.test),
    )


def baselines(component: Component, known: Evidence) -> dict[str, Scores]:
    """What the empty explanation and the bare list of its top tokens score."""
    mean = float(numbers(known.train).mean())
    words: dict[Hashable, float] = dict.fromkeys(_tops(component), known.most)
    listed = Lookup("token", words, 0.0)
    made: tuple[Simulator, ...] = (Nothing(mean), listed)
    return {name: scores(x, known.test) for name, x in zip(BASELINES, made, strict=True)}


def _tops(component: Component) -> list[str]:
    return [token for token, _ in top_tokens(component, 10)]


def chance(explanation: Explanation, known: Evidence, others: Sequence[Simulator]) -> float:
    """How often another component's explanation simulates this one at least as well: a permutation
    p over components."""
    theirs = others_simulate(known, others)
    as_good = sum(each >= explanation.scores.simulation for each in theirs)
    return (1 + as_good) / (1 + len(others))


def others_simulate(known: Evidence, others: Sequence[Simulator]) -> list[float]:
    """How well each of others' explanations simulates a component."""
    y = numbers(known.test)
    return [_simulates(other, known.test, y) for other in others]


def _simulates(other: Simulator, test: Sequence[Passage], y: np.ndarray) -> float:
    return correlation(np.concatenate([other.predict(p) for p in test]), y) if test else 0.0


def _held_back(kind: str, train: Sequence[Passage]) -> float:
    """How well a kind predicts passages that it was not fitted to."""
    parts = [train[i::FOLDS] for i in range(FOLDS)]
    found = []
    for i, part in enumerate(parts):
        rest = [passage for j, other in enumerate(parts) if j != i for passage in other]
        if part and rest:
            found.append(_simulates(KINDS[kind](rest), part, numbers(part)))
    return float(np.mean(found)) if found else 0.0


def of_nothing(component: Component, known: Evidence) -> Explanation:
    """Of a component that did nothing where it was looked at."""
    made = Nothing(0.0)
    nothing = scores(made, known.test)
    alike = dict.fromkeys(BASELINES, nothing)
    said = "nothing that was seen"
    return Explanation(component.address, "nothing", said, nothing, alike, made, len(known.test))
