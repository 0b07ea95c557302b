"""The embedded model: its trainer, transformers and the engine agree on it, and a changed byte of
it is noticed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import weights
from minigpt import build
from minigpt.params import tensors
from recipes import corpus, embed, train
from tests.weights.test_transformers import hugging_face
from tests.weights.tools import same, tokens_for
from weights import catalog, manifest
from weights.errors import WeightsError


@pytest.fixture
def mini_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(catalog.EMBEDDED, tmp_path / "mini"))


def test_engine_and_trainer_agree_on_the_embedded_model():
    mini = weights.load("ioi-mini")
    tokens = tokens_for(mini.config, 4, mini.config.n_ctx)
    theirs = train.logits(tensors(mini.params), tokens, mini.config)
    assert (mini.forward(tokens) - theirs).abs().max() < 1e-4
    assert (mini.run(tokens).logits - theirs).abs().max() < 1e-4
    # the twin: layers the other way round compute something else
    turned = replace(mini, params=replace(mini.params, blocks=mini.params.blocks[::-1]))
    assert (turned.forward(tokens) - theirs).abs().max() > 0.1


def test_transformers_computes_the_embedded_model_bit_for_bit():
    mini = weights.load("ioi-mini")
    tokens = tokens_for(mini.config, 3, 40)
    assert torch.equal(hugging_face(catalog.EMBEDDED)(tokens).logits, mini.forward(tokens))


def test_the_embedded_model_has_its_tokenizer_and_the_shape_that_the_catalog_says():
    mini, vocabulary = (
        weights.load("ioi-mini"),
        train.read_vocabulary(catalog.EMBEDDED / manifest.VOCABULARY),
    )
    text = "When Mary and John went to the store, John gave a drink to"
    assert mini.name == "ioi-mini"
    assert mini.tokenizer.encode(text) == vocabulary.encode_ordinary(text)
    assert mini.tokenizer.n_vocab == mini.config.n_vocab
    assert mini.config == catalog.find("ioi-mini").config


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.tiktoken"])
def test_a_changed_byte_of_the_embedded_model_is_noticed(mini_copy, name):
    weights.load(mini_copy)
    data = bytearray((mini_copy / name).read_bytes())
    data[-2] ^= 1
    (mini_copy / name).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{name} has the checksum"):
        weights.load(mini_copy)
    (mini_copy / name).unlink()
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        weights.load(mini_copy)


def test_only_the_checksum_would_have_noticed(mini_copy):
    data = bytearray((mini_copy / "model.safetensors").read_bytes())
    data[-4] ^= 1
    (mini_copy / "model.safetensors").write_bytes(data)
    facts = json.loads((mini_copy / manifest.NAME).read_text())
    manifest.write(mini_copy, {key: value for key, value in facts.items() if key != "files"})
    assert not same(weights.load(mini_copy).params, weights.load("ioi-mini").params)


@pytest.mark.parametrize(
    "facts", [{"tokenizer": {"name": "x"}}, {"tokenizer": 3}, {}, {"files": 3}, {"files": {"a": 1}}]
)
def test_a_manifest_of_another_form_is_refused(mini_copy, facts):
    manifest.write(mini_copy, facts)
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        weights.load(mini_copy)


def test_a_damaged_vocabulary_is_refused(mini_copy):
    (mini_copy / "vocab.tiktoken").write_text("no number\n")
    facts = json.loads((mini_copy / manifest.NAME).read_text())
    manifest.write(mini_copy, {"tokenizer": facts["tokenizer"]})
    with pytest.raises(WeightsError, match=r"vocab\.tiktoken is no vocabulary"):
        weights.load(mini_copy)


def test_embedding_takes_the_parameters_and_leaves_the_optimizers_state(tmp_path):
    training, target = tmp_path / "training", tmp_path / "target"
    training.mkdir()
    train.write_vocabulary(training / "vocab.tiktoken")
    n_vocab = train.read_vocabulary(training / "vocab.tiktoken").n_vocab
    p = train.start(train.IOI_MINI.config(n_vocab), seed=3)
    moments = {
        f"{kind}/{name}": torch.ones_like(x)
        for name, x in p.items()
        for kind in ("exp_avg", "exp_avg_sq")
    }
    save_file({**p, **moments, "step": torch.tensor(42)}, training / "checkpoint.safetensors")
    embed.embed(training, target, seed=3)
    model = weights.load(target)
    assert same(model.params, build(model.config, p))
    assert (target / "vocab.tiktoken").read_bytes() == (training / "vocab.tiktoken").read_bytes()
    facts = json.loads((target / "manifest.json").read_text())
    assert facts["training"] == {"program": "recipes.train", "steps": 42, "seed": 3}
    assert facts["tokenizer"] == {"name": "ioi-mini", "pattern": train.PATTERN}
    assert (
        facts["files"]["model.safetensors"]["bytes"]
        == (target / "model.safetensors").stat().st_size
    )
    # the finished model goes before the checkpoint
    save_file({name: x + 1 for name, x in p.items()}, training / "model.safetensors")
    embed.embed(training, target, seed=3)
    assert not same(weights.load(target).params, model.params)


def test_the_held_out_prompts_beside_it_are_the_recipes():
    lines = catalog.HELD_OUT.read_text(encoding="utf-8")
    assert lines == embed.held_out()
    pairs = [json.loads(line)[1:] for line in lines.splitlines()]
    assert all(corpus.held_out(a, b) for a, b in pairs)
