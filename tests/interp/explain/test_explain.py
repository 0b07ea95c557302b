"""Explanations find what was planted, and what was not planted they do not find."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from interp.corpus.component import Component, Example
from interp.explain.explain import chance, evidence, explain
from interp.explain.passages import Passage
from interp.explain.predicates import PREDICATES
from interp.explain.scores import above, scores
from interp.explain.simulators import KINDS, Nothing, rule

WORDS = (*(f" w{i}" for i in range(40)), " Mary", " John", " Anna", " 12", " 7", ".", ",", ' "')
Planted = Callable[[Sequence[str], int], float]


# Few enough that a pair comes again.
FEW = (" w1", " w2", " w3", " w4", ".", ",")


def component(
    planted: Planted, seed: int = 0, shuffled: bool = False, words: Sequence[str] = WORDS
) -> Component:
    """One that does what was planted, on sentences of random words."""
    rng = np.random.default_rng(seed)
    examples = []
    for window in range(60):
        tokens = tuple(rng.choice(words, 24).tolist())
        did = [planted(tokens, i) for i in range(24)]
        if shuffled:
            rng.shuffle(did)
        at = int(np.argmax(did))
        kind = "top" if window < 20 else "sample"
        examples.append(
            Example(
                kind, window, did[at], f"text {window}", 0, window, at, None, tokens, 0, tuple(did)
            )
        )
    return Component("m0.n0", 1440, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, (), {}, tuple(examples))


PLANTED: dict[str, tuple[Planted, str, str]] = {
    "a set of tokens": (
        lambda tokens, i: 3.0 * (tokens[i] in (" w3", " w7")),
        "token",
        "on ' w3', ' w7'",
    ),
    "a pair": (
        lambda tokens, i: 2.0 * (i > 0 and tokens[i - 1] in (" w1", " w2") and tokens[i] == "."),
        "pair",
        "'.' after ' w1'",
    ),
    "what comes after": (
        lambda tokens, i: 1.0 * (i > 0 and tokens[i - 1] == " Mary"),
        "token before",
        "after ' Mary'",
    ),
    "the second time": (
        lambda tokens, i: 1.5 * (tokens[i] in tokens[:i]),
        "rule",
        "on a token that was there before",
    ),
    "a position": (lambda _, i: 4.0 * (i == 1), "rule", "on the second token"),
    "a name": (
        lambda tokens, i: 1.0 * (i > 0 and tokens[i] in (" Mary", " John", " Anna")),
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_named_and_predicted(name):
    planted, kind, sentence = PLANTED[name]
    found = explain(component(planted, words=FEW if name == "a pair" else WORDS))
    assert found.scores.simulation >= 0.95
    assert found.kind == kind or not kind
    assert sentence in found.sentence
    assert found.scores.simulation > found.baselines["nothing"].simulation + 0.5
    if not math.isnan(found.scores.fuzzing):
        assert found.scores.fuzzing > 0.95


@pytest.mark.parametrize("name", PLANTED)
def test_twin_shuffled_it_is_not_found(name):
    words = FEW if name == "a pair" else WORDS
    found = explain(component(PLANTED[name][0], shuffled=True, words=words))
    assert found.scores.simulation < 0.25
    assert abs(found.baselines["nothing"].simulation) < 1e-9


def test_noise_scores_as_nothing_does_and_another_explains_it_as_well():
    rng = np.random.default_rng(5)
    noise = component(lambda _, __: float(rng.random()))
    found = explain(noise)
    assert abs(found.scores.simulation) < 0.15
    others = [explain(component(planted)).simulator for planted, _, _ in PLANTED.values()]
    assert chance(found, evidence(noise), others) > 0.1
    real = component(PLANTED["a set of tokens"][0])
    assert chance(explain(real), evidence(real), others[1:]) == 1 / len(others)


def test_no_document_is_on_both_sides():
    known = evidence(component(PLANTED["a position"][0]))
    left, right = ({p.document for p in side} for side in (known.train, known.test))
    assert left
    assert right
    assert not left & right
    assert len(left) + len(right) == 60


def test_a_component_that_did_nothing_is_explained_by_nothing():
    found = explain(component(lambda _, __: 0.0))
    assert (found.kind, found.sentence) == ("nothing", "nothing that was seen")
    assert found.scores.simulation == 0.0
    assert math.isnan(found.scores.detection)


def passage(*did: float) -> Passage:
    return Passage(tuple("abcdefgh"[: len(did)]), 0, np.array(did, dtype=np.float64), "d")


class Knows:
    """Predicts what it was told."""

    kind, sentence = "oracle", "everything"

    def __init__(self, sign: int = 1) -> None:
        self.sign = sign

    def predict(self, passage: Passage) -> np.ndarray:
        """What was done, or its opposite."""
        return self.sign * passage.did


def test_who_knows_everything_scores_one_and_the_opposite_nothing():
    on, off = passage(0, 0, 3, 0, 0), passage(0, 0.1, 0, 0, 0)
    test = [on] * 6 + [off] * 3
    best, worst = scores(Knows(), test), scores(Knows(-1), test)
    assert list(vars(best).values()) == pytest.approx([1.0] * 5)
    assert (worst.simulation, worst.fuzzing) == (-1.0, 0.0)
    constant = scores(Nothing(1.0), test)
    assert (constant.simulation, constant.detection, constant.fuzzing) == (0.0, 0.5, 0.5)
    assert constant.intruder == pytest.approx(0.2)
    assert above(np.array([1.0, 2.0]), np.array([1.0])) == 0.75


def test_by_hand_what_holds_is_told():
    tokens = ("The", " cat", " saw", " Mary", ",", " 12", "th", " cat", ".", ' "', "So")
    told = {name: [i for i in range(11) if holds(tokens, i)] for name, holds in PREDICATES.items()}
    assert told["the first token"] == [0]
    assert told["a name"] == [3, 10]
    assert told["a number"] == [5]
    assert told["the inside of a word"] == [6, 10]
    assert told["punctuation"] == [4, 8, 9]
    assert told["the end of a sentence"] == [8]
    assert told["a token that was there before"] == [7]
    assert told["what follows a token that was there before"] == [8]
    assert told["what follows a name"] == [4]
    assert told["what is within quotes"] == [9, 10]


def test_two_conditions_where_both_are_needed():
    both = component(
        lambda tokens, i: 2.0 * (tokens[i] in tokens[:i] and tokens[i].startswith(" w"))
    )
    names = rule(evidence(both).train).names
    assert "a token that was there before" in names
    assert set(KINDS) == {"token", "token before", "pair", "rule", "regression"}
