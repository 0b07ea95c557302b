"""Files to models and back. Oracles: transformers, the trainer's own pass, and minGPT's arithmetic
written out in NumPy."""

from __future__ import annotations

import hashlib
import http.server
import importlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import weights
from minigpt import GPT2, Config, Params, build, tokenizer
from minigpt.config import SIZES
from minigpt.errors import ParamsError, PromptError
from minigpt.params import UNEMBED, shapes, tensors
from recipes import embed, train
from tests.conftest import random_params, tiny
from weights import catalog, convert, manifest, shape
from weights.errors import WeightsError, WeightsWarning

ROOT = Path(__file__).parents[2]
# `weights.save` is the function, which hides the module of that name
SAVE = importlib.import_module("weights.save")
LAYOUTS = ("huggingface", "nanogpt", "mingpt-2020")


def same(a: Params, b: Params) -> bool:
    """Whether two sets of parameters are one, bit for bit."""
    mine, theirs = tensors(a), tensors(b)
    return (
        a.config == b.config
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )


def tokens_for(config: Config, rows: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(
        0, config.n_vocab, (rows, length), generator=torch.Generator().manual_seed(1)
    )


def read_back(content: dict, n_head: int) -> Params:
    """A state dict through the converter, without a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)
        state, facts = convert.to_engine(content)
    state = convert.without_tied_head(state)
    return build(shape.config_of(facts, state, n_head), state)


def run_python(code: str, **env: str) -> str:
    """A fresh interpreter's output: for what is read from the environment, once, and for doors
    without the tests' type checks."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env={**os.environ, **env},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model, saved."""
    return weights.save(tiny(), tmp_path / "tiny")


# --- names and layouts ----------------------------------------------------------------------------

configs = st.builds(
    lambda layers, heads, wide, mlp, ctx, vocab: Config(
        layers, heads, heads * wide, mlp, ctx, vocab
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
)


@given(
    configs,
    st.booleans(),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["", "_orig_mod.", "module.", "module._orig_mod."]),
)
def test_every_layout_comes_back_bit_for_bit(config, tied, layout, wrapper):
    params = random_params(config, tied=tied)
    given_state = {wrapper + name: x for name, x in convert.from_engine(params, layout).items()}
    assert same(read_back(given_state, config.n_head), params)


def test_the_round_trip_would_notice_a_square_map_left_as_it_was(monkeypatch):
    monkeypatch.setattr(
        convert,
        "LINEAR",
        convert.re.compile(r"h\.\d+\.(attn\.c_attn|mlp\.c_fc|mlp\.c_proj)\.weight"),
    )
    params = tiny().params
    wrong = read_back({name: x for name, x in nanogpt_state(params).items()}, 2)
    assert not same(wrong, params)
    assert wrong.config == params.config


def test_hugging_faces_buffers_and_prefix_make_no_difference():
    params = tiny().params
    state = {f"transformer.{name}": x for name, x in tensors(params).items()}
    state |= {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    assert same(read_back(state, 2), params)
    assert same(read_back(dict(tensors(params)), 2), params)


def test_a_head_equal_to_the_embedding_is_tied_and_any_other_is_not():
    params = tiny().params
    for head in (params.wte, params.wte.clone()):
        assert read_back({**tensors(params), UNEMBED: head}, 2).tied
    other = params.wte.clone()
    other[-1, -1] += 1e-6
    assert not read_back({**tensors(params), UNEMBED: other}, 2).tied


def test_two_tensors_for_one_name_are_refused():
    state = {**tensors(tiny().params), "transformer.wte.weight": tiny().params.wte}
    with pytest.raises(WeightsError, match="two tensors for one name"):
        read_back(state, 2)


def test_exact_gelu_is_as_far_from_the_tanh_form_as_the_warning_says():
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    gelu = torch.nn.functional.gelu
    assert 4.7e-4 < (gelu(x) - gelu(x, approximate="tanh")).abs().max() < 4.8e-4
    assert "4.8e-4" in convert.EXACT_GELU


# --- minGPT and nanoGPT ---------------------------------------------------------------------------


def nanogpt_state(params: Params) -> dict[str, torch.Tensor]:
    """nanoGPT's and minGPT's names and layout, written out here once more, on purpose not by the
    table."""
    state = {}
    for name, x in tensors(params).items():
        linear = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        state[f"transformer.{name}" if name != UNEMBED else name] = (
            x.t().contiguous() if linear else x
        )
    for layer in range(params.config.n_layer):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones(
            1, 1, params.config.n_ctx, params.config.n_ctx
        )
    return {**state, UNEMBED: params.unembed}


def numpy_logits(
    state: dict[str, torch.Tensor], tokens: torch.Tensor, n_head: int, n_layer: int, gelu
) -> np.ndarray:
    """minGPT's forward pass on its own state dict [out, in], one prompt after the other;
    float64."""
    p = {name.removeprefix("transformer."): x.double().numpy() for name, x in state.items()}

    def norm(x, name):
        unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return unit * p[f"{name}.weight"] + p.get(f"{name}.bias", 0)

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)

    def one(row):
        x = p["wte.weight"][row] + p["wpe.weight"][: len(row)]
        for h in range(n_layer):
            q, k, v = (
                np.split(part, n_head, -1)
                for part in np.split(linear(norm(x, f"h.{h}.ln_1"), f"h.{h}.attn.c_attn"), 3, -1)
            )
            z = []
            for head in range(n_head):
                scores = np.where(
                    np.tri(len(row)) > 0,
                    q[head] @ k[head].T / math.sqrt(q[head].shape[-1]),
                    -np.inf,
                )
                weight = np.exp(scores - scores.max(-1, keepdims=True))
                z.append(weight / weight.sum(-1, keepdims=True) @ v[head])
            x = x + linear(np.concatenate(z, -1), f"h.{h}.attn.c_proj")
            x = x + linear(
                gelu(linear(norm(x, f"h.{h}.ln_2"), f"h.{h}.mlp.c_fc")), f"h.{h}.mlp.c_proj"
            )
        return norm(x, "ln_f") @ p[UNEMBED].T

    return np.stack([one(row) for row in tokens.numpy()])


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_a_mingpt_file_with_its_own_head_computes_what_mingpt_computes(tmp_path):
    source = tiny(d_mlp=32, dtype=torch.float64, tied=False)
    state = nanogpt_state(source.params)
    torch.save(state, tmp_path / "model.pt")
    model = weights.load(tmp_path / "model.pt", n_head=2)
    tokens = tokens_for(model.config)
    ours = model.forward(tokens).numpy()
    assert not model.params.tied
    assert np.abs(ours - numpy_logits(state, tokens, 2, 2, tanh_gelu)).max() < 1e-10
    # the twin: with the embedding for its head, the numbers are others
    assert (
        np.abs(
            ours - numpy_logits({**state, UNEMBED: source.params.wte}, tokens, 2, 2, tanh_gelu)
        ).max()
        > 0.1
    )


def nanogpt_file(
    path: Path, params: Params, *, biases: bool = True, **facts: object
) -> dict[str, torch.Tensor]:
    """A training checkpoint as nanoGPT's train.py writes it; returns its state dict."""
    c = params.config
    state = {
        name: x for name, x in nanogpt_state(params).items() if biases or not name.endswith(".bias")
    }
    args = {
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.d_model,
        "block_size": c.n_ctx,
        "bias": biases,
        "vocab_size": c.n_vocab,
        "dropout": 0.0,
        **facts,
    }
    torch.save(
        {
            "model": {f"_orig_mod.{name}": x for name, x in state.items()},
            "model_args": args,
            "optimizer": {"state": {}},
            "iter_num": 10,
            "best_val_loss": torch.tensor(1.5),
            "config": {"dataset": "x"},
        },
        path,
    )
    return state


@pytest.mark.parametrize("biases", [True, False])
def test_a_nanogpt_checkpoint_loads_with_its_model_args_and_warns_of_its_gelu(tmp_path, biases):
    source = tiny(d_mlp=32, dtype=torch.float64)
    state = nanogpt_file(tmp_path / "ckpt.pt", source.params, biases=biases)
    with pytest.warns(WeightsWarning, match="exact GELU"):
        model = weights.load(tmp_path)
    tokens = tokens_for(model.config)
    ours = model.forward(tokens).numpy()
    assert model.params.tied
    assert np.abs(ours - numpy_logits(state, tokens, 2, 2, tanh_gelu)).max() < 1e-10
    assert 1e-6 < np.abs(ours - numpy_logits(state, tokens, 2, 2, exact_gelu)).max() < 0.02
    assert biases or not model.params.blocks[0].ln1_b.any()


def test_a_nanogpt_checkpoint_knows_its_own_heads(tmp_path):
    nanogpt_file(tmp_path / "ckpt.pt", tiny(d_mlp=32).params)
    with (
        pytest.warns(WeightsWarning),
        pytest.raises(WeightsError, match="the checkpoint says n_head=2"),
    ):
        weights.load(tmp_path / "ckpt.pt", n_head=4)


def test_hugging_faces_layout_without_biases_is_incomplete_rather_than_biasless(tmp_path):
    save_file(
        {name: x for name, x in tensors(tiny().params).items() if not name.endswith("bias")},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(WeightsError, match=r"missing: h\.1\.mlp\.c_fc\.bias"):
        weights.load(tmp_path / "a.safetensors", n_head=2)


def test_mingpt_of_2020_loads_and_warns(tmp_path):
    params = tiny().params
    state = convert.from_engine(params, "mingpt-2020") | {
        "blocks.0.attn.mask": torch.ones(1, 1, 32, 32)
    }
    assert {
        "tok_emb.weight",
        "pos_emb",
        "blocks.1.attn.query.bias",
        "blocks.0.mlp.2.weight",
        "head.weight",
    } <= state.keys()
    assert state["pos_emb"].shape == (1, 32, 8)
    torch.save(state, tmp_path / "old.pth")
    with pytest.warns(WeightsWarning, match="exact GELU"):
        assert same(weights.load(tmp_path / "old.pth", n_head=2).params, params)
    del state["blocks.0.attn.key.weight"]
    torch.save(state, tmp_path / "old.pth")
    with (
        pytest.warns(WeightsWarning),
        pytest.raises(WeightsError, match=r"missing: h\.0\.attn\.c_attn\.weight"),
    ):
        weights.load(tmp_path / "old.pth", n_head=2)


# --- save and load --------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_saved_is_loaded(tmp_path, tied, dtype):
    model = tiny(tied=tied, dtype=dtype)
    back = weights.load(weights.save(model, tmp_path))
    assert same(back.params, model.params)
    assert back.params.tied is tied
    assert back.dtype == dtype
    assert not any(x.requires_grad for x in tensors(back.params).values())
    assert same(weights.load(weights.save(back.params, tmp_path / "again")).params, model.params)


def test_dtype_and_attention_are_as_asked(folder):
    model = weights.load(folder, dtype=torch.float64, attention="sdpa")
    assert model.dtype == torch.float64
    assert (
        model.attend
        is weights.load(folder, attention="sdpa").attend
        is not weights.load(folder).attend
    )
    assert torch.equal(model.params.wte, tiny().params.wte.double())


def test_mixed_types_are_refused_unless_one_is_asked_for(tmp_path):
    state = tensors(tiny().params)
    save_file({**state, "wpe.weight": state["wpe.weight"].half()}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="mixed"):
        weights.load(tmp_path / "a.safetensors", n_head=2)
    assert (
        weights.load(tmp_path / "a.safetensors", n_head=2, dtype=torch.float32).dtype
        == torch.float32
    )


def test_numbers_that_are_not_floating_are_refused(tmp_path):
    save_file(
        {name: x.to(torch.int8) for name, x in tensors(tiny().params).items()},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(WeightsError, match=r"torch\.int8"):
        weights.load(tmp_path / "a.safetensors", n_head=2)


def test_nothing_is_written_over_unless_asked(folder):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(
        WeightsError, match=r"already holds model\.safetensors, config\.json(.|\n)*overwrite=True"
    ):
        weights.save(tiny(seed=1), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert same(weights.load(folder).params, tiny(seed=1).params)


def test_a_save_that_fails_leaves_the_old_files_and_nothing_else(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SAVE, "save_file", full_disk)
        with pytest.raises(OSError, match="no space"):
            weights.save(tiny(seed=1), folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    weights.save(tiny(seed=1), folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} != before


def test_the_weights_file_can_be_read_by_whoever_can_read_its_config(folder):
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_tokenizer_of_its_own_goes_along_and_goes_away_with_its_model(tmp_path):
    mini = weights.load("ioi-mini")
    back = weights.load(weights.save(mini, tmp_path))
    text = "When Mary and John went to the store, 1999<|endoftext|>é"
    assert back.tokenizer.encode(text) == mini.tokenizer.encode(text)
    weights.save(tiny(), tmp_path, overwrite=True)
    assert weights.load(tmp_path).tokenizer is None


# --- transformers ---------------------------------------------------------------------------------


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


# --- config ---------------------------------------------------------------------------------------


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


# --- damaged, hostile and wrong files -------------------------------------------------------------


@settings(max_examples=25)
@given(share=st.floats(0, 0.999))
def test_a_file_cut_short_anywhere_is_refused(tmp_path_factory, share):
    folder = weights.save(tiny(), tmp_path_factory.mktemp("cut"))
    torch.save(tensors(tiny().params), folder / "new.bin")
    torch.save(tensors(tiny().params), folder / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("model.safetensors", "new.bin", "old.bin"):
        path = folder / name
        whole = path.read_bytes()
        assert same(weights.load(path).params, tiny().params)
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match=name):
            weights.load(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", ".pth", ".gguf"])
def test_a_file_of_something_else_is_refused(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_text("GGUF and nothing else\n" * 50)
    with pytest.raises(WeightsError, match=f"weights{suffix} could not be read"):
        weights.load(path, n_head=2)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_called_that(tmp_path, name):
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 548105171\n"
    )
    with pytest.raises(WeightsError, match=r"pointer of git-lfs(.|\n)*git lfs pull"):
        weights.load(tmp_path)


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, act, path: Path) -> None:
        self.act, self.path = act, path

    def __reduce__(self):
        return (self.act, (f"mkdir {self.path}" if self.act is os.system else str(self.path),))


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("act", [os.mkdir, os.system, os.makedirs])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(tmp_path, archive, act):
    mark = tmp_path / "mark"
    hostile = Hostile(act, mark)
    torch.save(
        {**tensors(tiny().params), "x": hostile},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=archive,
    )
    with pytest.raises(WeightsError, match="it holds code, which is never run here") as caught:
        weights.load(tmp_path / "a.pt", n_head=2)
    assert "weights_only" not in str(caught.value)
    assert not mark.exists()
    # the twin: the same object does act where pickles are trusted
    pickle.loads(pickle.dumps(hostile))
    assert mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": 1},
        {"model": {"wte.weight": "x"}},
        {"model": {}},
        {},
        {"x": torch.ones(2)},
        {"wte.weight": torch.ones(3)},
    ],
)
def test_a_pickle_of_other_things_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"a\.pt"):
        weights.load(tmp_path / "a.pt", n_head=2)


def test_missing_extra_and_misshapen_tensors_are_told_together(folder):
    state = load_file(folder / "model.safetensors")
    del state["transformer.ln_f.bias"]
    state["transformer.h.1.mlp.c_fc.weight"] = torch.ones(8, 17)
    save_file({**state, "transformer.h.0.adapter": torch.ones(3)}, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        weights.load(folder)
    for part in (
        str(folder / "model.safetensors"),
        "missing: ln_f.bias [8]",
        "extra: h.0.adapter [3]",
        "shape: h.1.mlp.c_fc.weight is [8, 17], should be [8, 16]",
    ):
        assert part in str(caught.value)
    assert isinstance(caught.value.__cause__, ParamsError)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["transformer.h.1.ln_2.bias", "lm_head.weight", "transformer.wte.weight"]
)
def test_weights_that_are_not_finite_are_refused(tmp_path, name, value):
    folder = weights.save(tiny(tied=False), tmp_path)
    state = load_file(folder / "model.safetensors")
    state[name].view(-1)[3] = value
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"not finite: {name.removeprefix('transformer.')}"):
        weights.load(folder)


def test_a_folder_without_weights_says_what_should_be_in_it(tmp_path):
    with pytest.raises(
        WeightsError, match=r"holds no weights(.|\n)*model\.safetensors(.|\n)*pytorch_model\.bin"
    ):
        weights.load(tmp_path)


# --- the embedded model ---------------------------------------------------------------------------


@pytest.fixture
def mini_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(catalog.EMBEDDED, tmp_path / "mini"))


def test_engine_and_trainer_agree_on_the_embedded_model():
    mini = weights.load("ioi-mini")
    tokens = tokens_for(mini.config, 4, mini.config.n_ctx)
    theirs = train.logits(tensors(mini.params), tokens)
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
    assert mini.config == catalog.named("ioi-mini").config


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
    p = train.start(train.read_vocabulary(training / "vocab.tiktoken").n_vocab, seed=3)
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


# --- tokenizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_vocab", "has"), [(50257, True), (50304, True), (50258, False)])
def test_gpt2s_vocabulary_is_known_by_its_size(tmp_path, monkeypatch, n_vocab, has):
    mine = weights.load("ioi-mini").tokenizer
    monkeypatch.setattr(tokenizer, "gpt2", lambda: mine)
    model = weights.load(weights.save(tiny(n_vocab=n_vocab), tmp_path))
    assert (model.tokenizer is mine) is has


def test_a_model_is_of_use_without_its_vocabulary(tmp_path, monkeypatch):
    def absent():
        raise PromptError("GPT-2's vocabulary could not be had\n  try:   TIKTOKEN_CACHE_DIR=FOLDER")

    monkeypatch.setattr(tokenizer, "gpt2", absent)
    weights.save(tiny(n_vocab=50257), tmp_path)
    with pytest.warns(WeightsWarning, match=r"without a tokenizer(.|\n)*TIKTOKEN_CACHE_DIR"):
        model = weights.load(tmp_path)
    assert model.tokenizer is None
    assert same(model.params, tiny(n_vocab=50257).params)


# --- names and the hub ----------------------------------------------------------------------------


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
    assert "ioi-mini, gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2; a folder;" in str(
        caught.value
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


Hub = tuple[Path, Path]


def cache_of(root: Path, repo: str, source: Path) -> Hub:
    """The hub's cache as huggingface_hub lays it out, with one model in it: its snapshot, and its
    weights' blob."""
    top = root / ("models--" + repo.replace("/", "--"))
    snapshot, blobs = top / "snapshots" / "c0ffee", top / "blobs"
    for made in (snapshot, blobs, top / "refs"):
        made.mkdir(parents=True)
    (top / "refs" / "main").write_text("c0ffee")
    for name in ("config.json", "model.safetensors"):
        data = (source / name).read_bytes()
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).symlink_to(blob)
    return snapshot, blob


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A cache that holds a tiny model under gpt2's name, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache_of(tmp_path / "hub", "openai-community/gpt2", folder)


def test_a_model_in_the_hubs_cache_needs_no_network(hub):
    model = weights.load("gpt2")
    assert same(model.params, tiny().params)
    assert model.name == weights.load("openai-community/gpt2").name == "gpt2"
    assert weights.fetch("gpt2") == hub[0]
    listed = {entry.name: entry for entry in weights.models()}
    assert listed["gpt2"].at_hand == hub[0]
    assert listed["gpt2"].bytes == sum(path.stat().st_size for path in hub[0].iterdir())
    assert listed["gpt2-xl"].at_hand is None
    assert listed["ioi-mini"].at_hand == catalog.EMBEDDED


def test_half_a_model_in_the_cache_is_not_at_hand(hub):
    (hub[0] / "model.safetensors").unlink()
    assert catalog.at_hand(catalog.named("gpt2")) is None
    with pytest.raises(WeightsError, match="not at hand"):
        weights.load("gpt2")


def test_the_catalogs_figures_are_those_of_the_models():
    sizes = {entry.name: (entry.parameters, entry.bytes) for entry in weights.models()}
    mini = tensors(weights.load("ioi-mini").params)
    assert sizes["ioi-mini"][0] == sum(x.numel() for x in mini.values())
    assert sizes["gpt2"][0] == 124_439_808
    assert all(size >= 4 * parameters for parameters, size in sizes.values())
    assert all(model.config == SIZES[model.name] for model in catalog.KNOWN[1:])


def test_offline_says_so_and_what_to_type(hub):
    with pytest.raises(WeightsError) as caught:
        weights.load("gpt2-medium")
    for part in (
        "HF_HUB_OFFLINE is set",
        "openai-community/gpt2-medium",
        huggingface_hub.constants.HF_HUB_CACHE,
        "interp fetch gpt2-medium",
        "HF_HUB_CACHE=FOLDER",
        "ioi-mini",
    ):
        assert part in str(caught.value)


def test_a_damaged_download_is_refused_and_removed(hub, capsys):
    snapshot, blob = hub
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WeightsError, match="came out damaged"):
        weights.fetch("gpt2")
    assert not blob.exists()
    assert not (snapshot / "model.safetensors").is_symlink()
    assert "verifying" in capsys.readouterr().err


def test_a_cache_without_checksums_is_called_unverified(hub):
    blob = hub[1].rename(hub[1].with_name("plain"))
    (hub[0] / "model.safetensors").unlink()
    (hub[0] / "model.safetensors").symlink_to(blob)
    with pytest.warns(WeightsWarning, match="could not be verified"):
        weights.fetch("gpt2")


class Server(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs; `files` is set below."""

    files: dict[str, bytes]
    sums: dict[str, str]

    def do_HEAD(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if (
            self.path != f"/openai-community/gpt2/resolve/main/{name}" and "c0ffee" not in self.path
        ) or name not in self.files:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.files[name])))
        self.send_header("ETag", f'"{self.sums[name]}"')
        self.send_header("X-Repo-Commit", "c0ffee")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path.rsplit("/", 1)[-1], b""))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(folder: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    Server.files = {
        name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")
    }
    Server.sums = {name: hashlib.sha256(data).hexdigest() for name, data in Server.files.items()}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


FETCH = """
import weights
try:
    print(weights.fetch("gpt2"))
    print(weights.load("gpt2"))
except weights.WeightsError as error:
    print(error)
"""


def test_a_download_from_a_hub_and_a_damaged_one(server, tmp_path):
    env = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_CACHE": str(tmp_path / "fetched"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    out = run_python(FETCH, **env)
    assert (
        str(tmp_path / "fetched" / "models--openai-community--gpt2" / "snapshots" / "c0ffee") in out
    )
    assert "GPT2(gpt2: 2 layers" in out
    Server.files["model.safetensors"] = Server.files["model.safetensors"][:-1] + b"\x55"
    assert "came out damaged" in run_python(
        FETCH, **{**env, "HF_HUB_CACHE": str(tmp_path / "other")}
    )


DOORS = """
import sys, torch, weights
assert "huggingface_hub" not in sys.modules and "transformers" not in sys.modules
def refused(*args, **kwargs):
    try:
        weights.load(*args, **kwargs)
    except weights.WeightsError as error:
        return str(error)
    raise SystemExit(f"{args} {kwargs} was not refused")
assert "eager, sdpa" in refused("ioi-mini", attention="flash")
assert "torch.float32" in refused("ioi-mini", dtype=torch.int8)
assert "torch.float32" in refused("ioi-mini", dtype="float32")
for device in ("nowhere", "meta", "xla", 3.5):
    assert "cannot be used" in refused("ioi-mini", device=device), device
for x in (None, 3, [], b"gpt2"):
    assert "ioi-mini" in refused(x), x
assert "HF_HUB_OFFLINE is set" in refused("gpt2-xl")
print(weights.load("gpt2"), weights.load("ioi-mini", device="cpu", dtype=torch.float16).dtype)
"""


def test_doors_and_environment_in_a_fresh_interpreter(tmp_path, folder):
    cache_of(tmp_path / "home" / "hub", "openai-community/gpt2", folder)
    environment = {name: "" for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")}
    code = (
        "import os\nfor name in ('HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE'): os.environ.pop(name)\n"
        + DOORS
    )
    assert "GPT2(gpt2: 2 layers" in run_python(
        code, **environment, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1"
    )


# --- memory ---------------------------------------------------------------------------------------

MEMORY = """
import gc, os, torch, weights
from minigpt import tokenizer
tokenizer.gpt2 = lambda: None

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

torch.ones(300, 300) @ torch.ones(300, 300)
for kind in ("whole", "bin"):
    model = None
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = peak()
    model = weights.load(kind)
    print((peak() - before) / (4 * 124439808))
copy = [x.clone() for block in model.params.blocks for x in vars(block).values()]
print((peak() - before) / (4 * 124439808))
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc"
)
def test_loading_gpt2_takes_little_more_than_its_size(tmp_path):
    drawn = {name: torch.full(size, 0.02) for name, size in shapes(SIZES["gpt2"]).items()}
    weights.save(build(SIZES["gpt2"], drawn), tmp_path / "whole")
    (tmp_path / "bin").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "bin")
    torch.save({**drawn, UNEMBED: drawn["wte.weight"]}, tmp_path / "bin" / "pytorch_model.bin")
    del drawn
    code = f"import os\nos.chdir({str(tmp_path)!r})\n{MEMORY}"
    safetensors, pickled, with_a_copy = map(float, run_python(code, PYTHONPATH=str(ROOT)).split())
    shutil.rmtree(tmp_path)
    assert 0.9 < safetensors < 1.2
    assert 0.9 < pickled < 1.2
    assert with_a_copy > 1.2


def test_loaded_models_are_frozen_records(folder):
    model = weights.load(folder)
    assert isinstance(model, GPT2)
    with pytest.raises(AttributeError):
        model.params.wte = model.params.wpe
