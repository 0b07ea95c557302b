"""Checkpoints of minGPT and nanoGPT load with what they know of themselves, and compute what
minGPT's arithmetic, written out in NumPy, computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import weights
from minigpt.params import UNEMBED, tensors
from tests.conftest import tiny
from tests.weights.tools import nanogpt_file, nanogpt_state, same, tokens_for
from weights import convert
from weights.errors import WeightsError, WeightsWarning


def test_exact_gelu_is_as_far_from_the_tanh_form_as_the_warning_says():
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    gelu = torch.nn.functional.gelu
    assert 4.7e-4 < (gelu(x) - gelu(x, approximate="tanh")).abs().max() < 4.8e-4
    assert "4.8e-4" in convert.EXACT_GELU


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
