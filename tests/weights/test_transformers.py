"""Files go to transformers and come from it: whole, in shards, old and new, with the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import weights
from minigpt import Config
from minigpt.params import tensors
from tests.conftest import tiny
from tests.weights.tools import tokens_for
from weights.errors import WeightsError


def hugging_face(folder: Path, attention: str = "eager") -> transformers.GPT2LMHeadModel:
    model, info = transformers.GPT2LMHeadModel.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True
    )
    assert not any(info.values()), info
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_reads_what_is_saved_and_computes_the_same_bits(tmp_path, tied, attention):
    model = weights.load(weights.save(tiny(tied=tied), tmp_path), attention=attention)
    theirs, tokens = hugging_face(tmp_path, attention), tokens_for(model.config)
    assert torch.equal(theirs(tokens).logits, model.forward(tokens))
    assert theirs.config.tie_word_embeddings is tied
    # the twin: a weight that is off by its last bit is seen
    wte = model.params.wte.clone()
    wte[tokens[0, 0], 0] = torch.nextafter(wte[tokens[0, 0], 0], torch.tensor(9.0))
    changed = replace(model, params=replace(model.params, wte=wte, unembed=wte))
    assert not torch.equal(theirs(tokens).logits, changed.forward(tokens))


def theirs_random(tied: bool) -> transformers.GPT2LMHeadModel:
    """A random model made by transformers, odd in every size, every number away from its starting
    value."""
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=3,
            n_head=2,
            n_embd=12,
            n_inner=20,
            n_positions=17,
            vocab_size=31,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
            layer_norm_epsilon=1e-3,
            attn_implementation="eager",
        )
    )
    with torch.no_grad():
        for x in model.parameters():
            x.add_(torch.randn_like(x) * 0.2)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["10GB", "2KB"])
def test_what_transformers_saves_is_loaded_whole_or_in_shards(tmp_path, tied, shard):
    theirs = theirs_random(tied)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    model = weights.load(tmp_path)
    tokens = tokens_for(model.config)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "2KB")
    assert model.config == Config(3, 2, 12, 20, 17, 31, eps=1e-3)
    assert model.params.tied is tied
    assert torch.equal(model.forward(tokens), theirs(tokens).logits)


def test_the_model_without_a_head_is_loaded_as_tied(tmp_path):
    theirs = theirs_random(True)
    theirs.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    tokens = tokens_for(Config(3, 2, 12, 20, 17, 31))
    assert torch.equal(weights.load(tmp_path).forward(tokens), theirs(tokens).logits)


def test_an_untied_model_without_its_head_is_refused(tmp_path):
    theirs_random(False).transformer.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"lm_head\.weight is missing"):
        weights.load(tmp_path)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_pytorch_model_bin_old_and_new(tmp_path, archive, tied):
    theirs = theirs_random(tied)
    theirs.config.save_pretrained(tmp_path)
    torch.save(
        theirs.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=archive
    )
    model, tokens = weights.load(tmp_path), tokens_for(Config(3, 2, 12, 20, 17, 31))
    assert model.params.tied is tied
    assert torch.equal(model.forward(tokens), theirs(tokens).logits)


def test_bin_shards_and_parameters_that_want_gradients(tmp_path):
    theirs = theirs_random(True)
    theirs.config.save_pretrained(tmp_path)
    state = dict(theirs.named_parameters())
    names = {name: f"part-{i % 3}.bin" for i, name in enumerate(state)}
    for part in set(names.values()):
        torch.save({name: x for name, x in state.items() if names[name] == part}, tmp_path / part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    model, tokens = weights.load(tmp_path), tokens_for(Config(3, 2, 12, 20, 17, 31))
    assert torch.equal(model.forward(tokens), theirs(tokens).logits)
    assert not any(x.requires_grad for x in tensors(model.params).values())


def test_missing_shards_are_named_and_none_may_lie_elsewhere(tmp_path):
    theirs_random(True).save_pretrained(tmp_path, max_shard_size="2KB")
    index, gone = tmp_path / "model.safetensors.index.json", sorted(tmp_path.glob("model-*"))[:2]
    for path in gone:
        path.unlink()
    with pytest.raises(WeightsError, match=f"not there: {gone[0].name}, {gone[1].name}"):
        weights.load(tmp_path)
    index.write_text(json.dumps({"weight_map": {"wte.weight": "../elsewhere.safetensors"}}))
    with pytest.raises(WeightsError, match="files beside it"):
        weights.load(tmp_path)
