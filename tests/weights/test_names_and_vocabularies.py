"""A name means one model and its vocabulary, and one mistyped is answered with the nearest."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path

import pytest

import weights
from minigpt.config import SIZES
from minigpt.errors import PromptError
from minigpt.params import tensors
from tests.conftest import tiny
from tests.weights.tools import same
from weights import catalog
from weights.errors import WeightsError, WeightsWarning

# `weights.load` is the function, which hides the module of that name
LOAD = importlib.import_module("weights.load")


@pytest.mark.parametrize(("n_vocab", "has"), [(50257, True), (50304, True), (50258, False)])
def test_where_nothing_lies_beside_gpt2s_vocabulary_is_taken_by_its_size_and_said(
    tmp_path, monkeypatch, n_vocab, has
):
    mine = weights.load("ioi-mini").tokenizer
    monkeypatch.setattr(LOAD, "gpt2", lambda: mine)
    folder = weights.save(tiny(n_vocab=n_vocab), tmp_path)
    said = pytest.warns(WeightsWarning, match="no vocabulary lies beside") if has else nullcontext()
    with said:
        assert (weights.load(folder).tokenizer is mine) is has


def test_a_model_is_of_use_without_its_vocabulary(tmp_path, monkeypatch):
    def absent():
        raise PromptError("GPT-2's vocabulary could not be had\n  try:   TIKTOKEN_CACHE_DIR=FOLDER")

    monkeypatch.setattr(LOAD, "gpt2", absent)
    weights.save(tiny(n_vocab=50257), tmp_path)
    with pytest.warns(WeightsWarning) as said:
        model = weights.load(tmp_path)
    assert "no vocabulary lies beside it" in str(said[0].message)
    assert "TIKTOKEN_CACHE_DIR" in str(said[1].message)
    assert model.tokenizer is None
    assert model.run("464 2068").tokens.tolist() == [[464, 2068]]
    assert same(model.params, tiny(n_vocab=50257).params)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gtp2", "gpt2"),
        ("ioi_mini", "ioi-mini"),
        ("GPT2-Medium", "gpt2-medium"),
        ("distil-gpt2", "distilgpt2"),
    ],
)
def test_a_name_mistyped_is_answered_with_the_nearest_and_with_all(typed, meant):
    with pytest.raises(WeightsError, match=rf'"{meant}"') as caught:
        weights.load(typed)
    assert (
        "ioi-mini, tasks-mini, gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2; a folder;"
        in str(caught.value)
    )
    with pytest.raises(WeightsError, match="no model known here"):
        weights.fetch(typed)


@pytest.mark.parametrize("x", ["", "no/such/folder", "x.safetensors"])
def test_what_is_nowhere_is_said_to_be_nowhere(x):
    with pytest.raises(WeightsError, match="no file or folder of that name"):
        weights.load(x)


def test_a_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(tiny(), "ioi-mini")
    assert weights.load("ioi-mini").config.n_layer == 4
    assert (
        weights.load("./ioi-mini").config == weights.load(Path("ioi-mini")).config == tiny().config
    )
    assert weights.load(Path("ioi-mini")).name == "ioi-mini"


def test_the_catalogs_figures_are_those_of_the_models():
    sizes = {entry.name: (entry.parameters, entry.bytes) for entry in weights.models()}
    mini = tensors(weights.load("ioi-mini").params)
    assert sizes["ioi-mini"][0] == sum(x.numel() for x in mini.values())
    assert sizes["gpt2"][0] == 124_439_808
    assert all(size >= 4 * parameters for parameters, size in sizes.values())
    assert all(model.config == SIZES[model.name] for model in catalog.KNOWN[2:])
