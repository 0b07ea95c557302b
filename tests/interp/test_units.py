"""Circuits of neurons and latents: what is lost without one is a run of the model without it, and
those that make the answer are found first."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import weights
from interp import metrics
from interp.circuit.ablation import Ablation
from interp.circuit.search import shares_of
from interp.circuit.units import Units, units
from interp.tasks import ioi
from minigpt import Patch
from minigpt.errors import AddressError
from tests.interp.test_curve import on

NEURONS = tuple(f"m1.n{i}" for i in range(8))


def few(source: str = "pairs") -> Units:
    return Units(on(source), NEURONS)


@pytest.mark.parametrize("source", ["pairs", "mean", "zero"])
def test_a_circuit_of_neurons_is_the_model_with_the_others_written_as_in_the_source(source):
    given = few(source)
    kept = [*NEURONS[2:5], NEURONS[7]]
    cut = Patch.all(Patch.write(n, given.on.source) for n in NEURONS if n not in kept)
    after = given.on.metric(given.on.model.rerun(given.on.clean, cut))
    assert torch.allclose(given.metric(kept), after, rtol=0, atol=1e-12)
    assert torch.equal(given.metric(NEURONS), given.on.full)
    assert not torch.equal(after, given.on.full)


def test_what_is_lost_is_lost_at_the_state_that_was_reached():
    given, kept = few(), NEURONS[:5]
    lost = given.lost(kept)
    base = given.metric(kept)
    for unit in kept:
        without = given.metric([n for n in kept if n != unit])
        assert lost[unit] == pytest.approx(float((base - without).mean()), abs=1e-12)
    # the twin: at the whole model it is something else
    assert given.lost(NEURONS)[kept[0]] != pytest.approx(lost[kept[0]], abs=1e-12)


def test_what_goes_last_has_the_largest_score_and_curves_end_at_the_model():
    given = few()
    scores = given.removed([6, 3, 1], absolute=True)
    assert sorted(scores.values()) == list(range(1, 9))
    first = min(NEURONS, key=lambda unit: abs(given.lost(NEURONS)[unit]))
    assert scores[first] == 1
    curve = given.curve(scores, shares=(0.25, 0.5, 1.0))
    assert curve.counts == (2, 4, 8)
    assert torch.equal(curve.metric[-1], given.on.full)
    best = sorted(scores, key=lambda unit: -scores[unit])[:2]
    assert torch.equal(curve.metric[0], given.metric(best))
    assert torch.equal(curve.empty, given.metric(()))


@cache
def embedded(seed: int) -> Ablation:
    model = weights.load("ioi-mini")
    model = model.with_dictionaries(*weights.load_dictionaries("ioi-mini:m3", model=model))
    pairs = ioi.prompts(model.words, 8, seed, template=2)
    return Ablation(model, pairs, metrics.logit_diff(pairs), "pairs")


def test_latents_that_are_on_for_any_of_the_prompts_are_the_units_of_all():
    one, other = units("latents:m3", embedded(0), embedded(1))
    assert one.names == other.names
    assert {"m3.l.b", "m3.e"} < set(one.names)
    for given in (one, other):
        own = units("latents:m3", given.on)[0].names
        assert set(own) < set(one.names)


@pytest.mark.slow
def test_the_largest_tenth_of_the_latents_does_better_than_chance_on_other_prompts():
    one, other = units("latents:m3", embedded(0), embedded(1))
    found = other.curve(one.removed(shares_of(len(one.names), (0.1, 0.3)), absolute=True))
    last = {unit: float(i) for i, unit in enumerate(one.names)}
    assert found.cpr > other.curve(last).cpr + 0.1


def test_units_that_are_not_there_are_refused():
    with pytest.raises(AddressError, match="no dictionary of m9"):
        units("latents:m9", embedded(0))
    with pytest.raises(AddressError):
        units("m3.n1 m3.what", embedded(0))
