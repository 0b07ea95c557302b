"""A concept that a latent was planted for is found, with the F1 that was planted; labels that say
nothing find nothing."""

from __future__ import annotations

import pytest
import torch

from interp import concepts
from minigpt import Site
from tests.conftest import tiny
from tests.minigpt.test_dictionary import random_dictionary

LATENTS = Site("resid.ls", 0)
MODEL = tiny(2, 2, 16, 8, dtype=torch.float64)
TOKENS = torch.randint(1, 50, (40, 8), generator=torch.Generator().manual_seed(1))
KINDS = {"low": TOKENS < 10, "middle": (TOKENS >= 10) & (TOKENS < 30), "position": TOKENS < 0}
KINDS["position"] = torch.zeros_like(TOKENS, dtype=torch.bool)
KINDS["position"][:, 3] = True


def told(act: torch.Tensor, truth=KINDS) -> dict[str, concepts.Concept]:
    """What is told by a run whose latents are made to be on like this."""
    run = MODEL.with_dictionaries(random_dictionary("resid0", 16, 16)).run(TOKENS)
    run.split(LATENTS).__dict__["act"] = act
    return {each.concept: each for each in concepts.told(run, "resid0", truth)}


def planted_act(noise: float) -> torch.Tensor:
    draws = torch.Generator().manual_seed(3)
    act = torch.rand(*TOKENS.shape, 8, generator=draws).double() * 0.2
    act[..., 2] = KINDS["low"].double() * 2
    act[..., 5] = KINDS["middle"].double() * 3 + act[..., 5]
    wrong = torch.rand(TOKENS.shape, generator=draws) < noise
    act[..., 2] = torch.where(wrong, 2.0 - act[..., 2], act[..., 2])
    return act


def test_what_was_planted_is_found_and_the_threshold_with_it():
    found = told(planted_act(0.0))
    assert (found["low"].latent, found["low"].f1) == ("resid0.l2", 1.0)
    assert (found["middle"].latent, found["middle"].f1) == ("resid0.l5", 1.0)
    assert found["middle"].share > 0, "on everywhere, but above a threshold for the concept only"
    assert found["position"].f1 < 0.5
    own = concepts.known(list(found.values()))
    assert set(own) == {"low", "middle"}
    assert found["low"].tokens == int(KINDS["low"][1::2].sum())


def test_twin_shuffled_labels_find_nothing():
    found = told(planted_act(0.0))
    assert all(each.shuffled < 0.7 for each in found.values())
    draws = torch.Generator().manual_seed(4)
    dealt = {
        name: label.flatten()[torch.randperm(label.numel(), generator=draws)].view(label.shape)
        for name, label in KINDS.items()
    }
    assert not concepts.known(list(told(planted_act(0.0), dealt).values()))


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_f1_is_that_of_the_prompts_that_did_not_choose_the_latent(noise):
    act = planted_act(noise)
    on, label = act[1::2, :, 2] > 1, KINDS["low"][1::2]
    hits = int((on & label).sum())
    expected = 2 * hits / (int(on.sum()) + int(label.sum()))
    assert told(act)["low"].f1 == pytest.approx(expected)
    assert expected < 1


def test_labels_are_where_the_positions_say():
    run = MODEL.run(TOKENS[:2])
    found = concepts.labels(run, [{"a": [1, 3]}, {"b": [0], "a": []}])
    assert found["a"].nonzero().tolist() == [[0, 1], [0, 3]]
    assert found["b"].nonzero().tolist() == [[1, 0]]
