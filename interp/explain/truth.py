"""How often an explanation names what a text's generator meant: a concept is named where the tokens
that the explanation predicts are the concept's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.concepts import KNOWN, SHARES, Concept
from interp.corpus.store import Store
from interp.explain.explain import explain
from interp.explain.passages import Passage
from interp.explain.simulators import Simulator
from minigpt.shown import Shown

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, repr=False)
class Named(Shown):
    """A concept, the latent that tells it and how well, and that latent's explanation; f1: how well
    the explanation tells the concept, on texts that did not choose its threshold."""

    concept: str
    latent: str
    latent_f1: float
    sentence: str
    f1: float

    @property
    def is_named(self) -> bool:
        """Whether the explanation tells the concept as well as is asked of a latent."""
        return self.f1 >= KNOWN


def named(
    store: Store, known: Mapping[str, Concept], lines: Sequence[Mapping[str, Any]]
) -> tuple[Named, ...]:
    """Each concept that a latent tells. lines: {"text", "concepts": positions by concept}."""
    texts = [tuple(store.words.pieces(store.words.encode(line["text"]))) for line in lines]
    found = []
    for concept, best in known.items():
        made = explain(store.component(best.latent))
        truth = [_truth(text, line, concept) for text, line in zip(texts, lines, strict=True)]
        f1 = _told(made.simulator, texts, truth)
        found.append(Named(concept, best.latent, best.f1, made.sentence, f1))
    return tuple(found)


def _truth(text: Sequence[str], line: Mapping[str, Any], concept: str) -> np.ndarray:
    return np.isin(np.arange(len(text)), line["concepts"].get(concept, ()))


def _told(
    simulator: Simulator, texts: Sequence[tuple[str, ...]], truth: Sequence[np.ndarray]
) -> float:
    """F1 of half of the texts, above the threshold that is best on the other half."""
    said = [simulator.predict(Passage(text, 0, np.zeros(len(text)), "")) for text in texts]
    pairs = list(zip(said, truth, strict=True))
    chosen, judged = pairs[::2], pairs[1::2]
    most = max(float(x.max()) for x, _ in chosen)
    share = max(SHARES, key=lambda share: _f1(chosen, share * most))
    return _f1(judged, share * most)


def _f1(pairs: Pairs, least: float) -> float:
    on = np.concatenate([x > least for x, _ in pairs])
    truth = np.concatenate([y for _, y in pairs])
    return float(2 * (on & truth).sum() / max(1, on.sum() + truth.sum()))
