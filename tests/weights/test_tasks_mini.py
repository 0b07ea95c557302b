"""The embedded model of seven tasks does them on what its training never saw, as unsure as its
text, and by its heads."""

from __future__ import annotations

import json

import pytest
import torch

import weights
from interp import attribution, metrics
from interp.card import measure_tasks
from interp.tasks import Prompts
from minigpt import Patch
from recipes import english, train
from tests.interp.test_cli import interp as interp
from tests.weights.test_transformers import hugging_face
from weights import catalog

FOLDER = catalog.embedded("tasks-mini")


@pytest.fixture(scope="module")
def model():
    return weights.load("tasks-mini")


@pytest.fixture(scope="module")
def held_out(model):
    found: dict[str, list] = {}
    for line in (FOLDER / "held_out.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        found.setdefault(record.pop("task"), []).append(record)
    return {task: Prompts.from_records(some[:100], model.words) for task, some in found.items()}


@pytest.fixture(scope="module")
def measured(model, held_out):
    return measure_tasks(model, held_out)


def test_it_does_seven_tasks_on_what_training_never_saw(measured):
    assert len(measured["tasks"]) == 7
    accuracy = {task: found["accuracy"] for task, found in measured["tasks"].items()}
    assert min(accuracy.values()) >= 0.95, accuracy
    assert accuracy["indirect objects"] >= 0.98


def test_it_is_unsure_and_its_heads_say_the_answer(measured):
    assert 3 < measured["tasks"]["indirect objects"]["logit_difference"] < 7
    assert measured["direct_effect"]["heads"] >= 0.6


def test_heads_of_several_kinds_are_told_apart_by_their_scores(measured):
    first = {name: next(iter(measured[name])) for name in measured if name != "tasks"}
    assert first["name_movers"] == "a3.4"
    assert first["look_at_the_subject_again"] == "a2.4"
    assert first["duplicate_token"] == "a2.6"
    assert measured["duplicate_token"]["a2.6"] > 2 * measured["duplicate_token"]["a2.1"]
    assert measured["induction"]["a3.4"] > 0.9


def test_twin_without_its_last_heads_it_guesses(model, held_out):
    pairs = held_out["indirect objects"]
    metric, trace = metrics.logit_diff(pairs), model.run(pairs)
    gone = Patch.all(Patch.zero(f"a{layer}") for layer in (2, 3))
    after = metric(model.rerun(trace, gone))
    assert float((after > 0).double().mean()) < 0.8
    effects = attribution.direct(model.rerun(trace, gone), metric)
    assert float(effects.heads().values.sum()) < 0.1 * float(metric(trace).mean())


def test_it_is_the_recipes_shape_and_words_and_hugging_faces_numbers(model):
    recipe = train.RECIPES["tasks-mini"]
    assert model.config == recipe.config(model.words.n_vocab) == catalog.find("tasks-mini").config
    assert {f" {word}" for word in english.PEOPLE} <= {model.words.text(i) for i in range(1702)}
    tokens = torch.randint(model.config.n_vocab, (2, 40))
    torch.testing.assert_close(
        hugging_face(FOLDER)(tokens).logits, model.forward(tokens), atol=1e-4, rtol=1e-4
    )


def test_it_has_no_dictionaries_and_says_so():
    with pytest.raises(weights.WeightsError, match="tasks-mini has no dictionaries"):
        weights.load_dictionaries("tasks-mini")


@pytest.mark.slow
def test_its_card_is_measured_by_the_command(interp):
    status, said, _ = interp("card", "--model", "tasks-mini", "--prompts", "20", "--json")
    assert status == 0
    assert len(json.loads(said)["tasks"]) == 7
