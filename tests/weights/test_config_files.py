"""A config is read as it is, done without where shapes tell, and refused with a reason."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import weights
from minigpt.params import tensors
from tests.conftest import tiny
from tests.weights.tools import same
from weights.errors import WeightsError


def change_config(folder: Path, **facts: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "gelu"),
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
        ("model_type", "gpt_neo"),
    ],
)
def test_another_architecture_is_refused_with_a_reason(folder, key, value):
    weights.load(folder)
    change_config(folder, **{key: value})
    with pytest.raises(
        WeightsError, match=f"config describes another model(.|\n)*{key} is {value!r}"
    ):
        weights.load(folder)


def test_without_a_config_the_shapes_tell_all_but_the_heads(folder):
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"nothing tells n_head(.|\n)*n_head=12"):
        weights.load(folder)
    assert weights.load(folder, n_head=2).config == tiny().config
    assert weights.load(folder / "model.safetensors", n_head=4).config == replace(
        tiny().config, n_head=4
    )
    with pytest.raises(WeightsError, match="heads divide"):
        weights.load(folder, n_head=3)


def test_a_file_is_read_with_the_config_beside_it(folder):
    assert same(weights.load(folder / "model.safetensors").params, tiny().params)
    with pytest.raises(WeightsError, match="n_head=4, but the checkpoint says n_head=2"):
        weights.load(folder, n_head=4)


def test_old_and_sparse_configs(folder):
    change_config(folder, n_positions=None, n_ctx=32, n_inner=None, activation_function=None)
    with pytest.raises(WeightsError, match=r"c_fc\.weight is \[8, 16\], should be \[8, 32\]"):
        weights.load(folder)
    (folder / "config.json").write_text('{"n_head": 2}')
    assert same(weights.load(folder).params, tiny().params)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00"])
def test_a_config_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        weights.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layer", 10**5),
        ("n_layer", 10**6),
        ("n_layer", 10**12),
        ("n_layer", 1),
        ("n_layer", -1),
        ("n_layer", 2.0),
        ("n_head", True),
        ("n_head", "2"),
        ("n_embd", 10**9),
        ("n_positions", 0),
        ("vocab_size", None),
        ("layer_norm_epsilon", math.nan),
        ("layer_norm_epsilon", -1),
        ("layer_norm_epsilon", "x"),
        ("layer_norm_epsilon", True),
        ("layer_norm_epsilon", math.inf),
    ],
)
def test_every_field_is_held_to_its_type_and_range_at_once(folder, key, value):
    change_config(folder, **{key: value})
    begun = time.monotonic()
    if value is None:
        assert weights.load(folder).config == tiny().config
        return
    with pytest.raises(WeightsError, match=key):
        weights.load(folder)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh"])
def test_the_tanh_form_has_two_names(folder, name):
    change_config(folder, activation_function=name)
    assert same(weights.load(folder).params, tiny().params)


def test_a_lone_head_is_the_embedding_and_model_in_front_of_names_is_taken_off(tmp_path):
    params = tiny().params
    state = {f"model.{name}": x for name, x in tensors(params).items()}
    state["lm_head.weight"] = state.pop("model.wte.weight")
    torch.save(state, tmp_path / "a.pt")
    assert same(weights.load(tmp_path / "a.pt", n_head=2).params, params)


def test_numbers_of_two_types_say_what_to_type(tmp_path):
    state = tensors(tiny().params)
    torch.save({**state, "wpe.weight": state["wpe.weight"].half()}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"float16, torch\.float32(.|\n)*dtype=torch\.float32"):
        weights.load(tmp_path / "a.pt", n_head=2)
    assert weights.load(tmp_path / "a.pt", n_head=2, dtype=torch.float32).dtype == torch.float32
