"""Dictionaries as other tools keep them: a file of each layout is written here and read, and its
latents and reconstruction are those of the published formula, transcribed in NumPy."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import weights
from minigpt.errors import MiniGPTError
from tests.conftest import examples, tiny
from weights import load_dictionary
from weights.errors import WeightsError

D, N = 8, 24
WITHIN = {torch.float32: 1e-6, torch.float64: 1e-12}


def numbers(seed=0, dtype=torch.float64, d_out=D, **shapes):
    """Tensors of a dictionary by name, those asked for besides."""
    random = torch.Generator().manual_seed(seed)
    sizes = {"W_enc": (D, N), "b_enc": (N,), "W_dec": (N, d_out), "b_dec": (d_out,), **shapes}
    return {
        name: (torch.randn(size, generator=random, dtype=torch.float64) / math.sqrt(D)).to(dtype)
        for name, size in sizes.items()
        if size
    }


def relu(p):
    return np.maximum(p, 0)


def top(p, k):
    order = np.argsort(-p, axis=-1, kind="stable")[..., :k]
    kept = np.zeros_like(p)
    np.put_along_axis(kept, order, 1.0, -1)
    return relu(p) * kept


def layer_normed(x):
    mean = x.mean(-1, keepdims=True)
    std = (x - mean).std(-1, ddof=1, keepdims=True)
    return (x - mean) / (std + 1e-5), mean, std


def saelens(folder, tensors, config, flat=False):
    folder.mkdir(exist_ok=True)
    place = {"hook_name": "blocks.1.hook_resid_pre", "model_name": "gpt2-small"}
    facts = {**place, **config} if flat else {"metadata": place, **config}
    if flat:
        facts["hook_point"] = facts.pop("hook_name")
    (folder / "cfg.json").write_text(json.dumps(facts))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def torch_saved(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def encoded(t, x, centred=True):
    return ((x - t["b_dec"]) if centred else x) @ t["W_enc"] + t["b_enc"]


def decoded(t, z):
    return z @ t["W_dec"] + t["b_dec"]


def standard(folder, dtype):
    t = numbers(dtype=dtype)
    path = saelens(folder, t, {"architecture": "standard", "apply_b_dec_to_input": True})
    return path, t, lambda t, x: relu(encoded(t, x)), lambda t, z, x: decoded(t, z)


def flat_standard(folder, dtype):
    t = numbers(dtype=dtype)
    path = saelens(folder, t, {"activation_fn_str": "relu"}, flat=True)
    return path, t, lambda t, x: relu(encoded(t, x)), lambda t, z, x: decoded(t, z)


def flat_topk(folder, dtype):
    t = numbers(dtype=dtype)
    config = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}
    path = saelens(folder, t, config, flat=True)
    return path, t, lambda t, x: top(encoded(t, x), 3), lambda t, z, x: decoded(t, z)


def rescaled_topk(folder, dtype):
    t = numbers(dtype=dtype)
    config = {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}
    path = saelens(folder, t, config)
    norms = lambda t: np.linalg.norm(t["W_dec"], axis=-1)  # noqa: E731
    return (
        path,
        t,
        lambda t, x: top(encoded(t, x) * norms(t), 3),
        lambda t, z, x: decoded(t, z / norms(t)),
    )


def jumping(p, threshold):
    return relu(p) * (p > threshold)


def jumprelu(folder, dtype):
    t = numbers(dtype=dtype, threshold=(N,))
    path = saelens(folder, t, {"architecture": "jumprelu", "apply_b_dec_to_input": False})
    return (
        path,
        t,
        lambda t, x: jumping(encoded(t, x, False), t["threshold"]),
        lambda t, z, x: decoded(t, z),
    )


def gated(folder, dtype):
    t = numbers(dtype=dtype, b_enc=None, b_gate=(N,), b_mag=(N,), r_mag=(N,))
    path = saelens(folder, t, {"architecture": "gated", "apply_b_dec_to_input": True})

    def encode(t, x):
        x = x - t["b_dec"]
        on = x @ t["W_enc"] + t["b_gate"] > 0
        return on * relu(x @ (t["W_enc"] * np.exp(t["r_mag"])) + t["b_mag"])

    return path, t, encode, lambda t, z, x: decoded(t, z)


def normed(folder, dtype):
    t = numbers(dtype=dtype)
    config = {"architecture": "standard", "normalize_activations": "layer_norm"}
    path = saelens(folder, t, config)

    def decode(t, z, x):
        _, mean, std = layer_normed(x)
        return decoded(t, z) * std + mean

    return path, t, lambda t, x: relu(encoded(t, layer_normed(x)[0])), decode


def rescaled(folder, dtype):
    t = numbers(dtype=dtype)
    path = saelens(folder, t, {"normalize_activations": "constant_norm_rescale"})

    def factor(x):
        return D**0.5 / np.linalg.norm(x, axis=-1, keepdims=True)

    return (
        path,
        t,
        lambda t, x: relu(encoded(t, x * factor(x))),
        lambda t, z, x: decoded(t, z) / factor(x),
    )


def averaged(folder, dtype):
    t = numbers(dtype=dtype)
    config = {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": 1.7}
    path = saelens(folder, t, config)
    return path, t, lambda t, x: relu(encoded(t, x * 1.7)), lambda t, z, x: decoded(t, z) / 1.7


def skipping(folder, dtype):
    t = numbers(dtype=dtype, threshold=(N,), W_skip=(D, D))
    config = {
        "architecture": "jumprelu_skip_transcoder",
        "hook_name": "blocks.1.ln2.hook_normalized",
        "hook_name_out": "blocks.1.hook_mlp_out",
    }
    return (
        saelens(folder, t, config),
        t,
        lambda t, x: jumping(encoded(t, x, False), t["threshold"]),
        lambda t, z, x: decoded(t, z) + x @ t["W_skip"].T,
    )


def openai_state(t, **extra):
    return {
        "pre_bias": t["b_dec"],
        "encoder.weight": t["W_enc"].T.contiguous(),
        "latent_bias": t["b_enc"],
        "decoder.weight": t["W_dec"].T.contiguous(),
        "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "latents_activation_frequency": torch.full((N,), 0.01),
        "latents_mean_square": torch.zeros(N),
        **extra,
    }


def openai_v4(folder, dtype):
    t = numbers(dtype=dtype)
    path = torch_saved(folder / "resid_delta_mlp_v4/autoencoders/1.pt", openai_state(t))
    return path, t, lambda t, x: relu(encoded(t, x)), lambda t, z, x: decoded(t, z)


def openai_tied(folder, dtype):
    t = numbers(dtype=dtype)
    t["W_dec"] = t["W_enc"].T.contiguous()
    state = openai_state(t, activation="ReLU")
    del state["decoder.weight"]
    path = torch_saved(folder / "resid_delta_attn_v4/autoencoders/1.pt", state)
    return path, t, lambda t, x: relu(encoded(t, x)), lambda t, z, x: decoded(t, z)


def openai_v5(folder, dtype):
    t = numbers(dtype=dtype)
    said = {"k": 4, "postact_fn": "ReLU"}
    state = openai_state(t, activation="TopK", activation_state_dict=said)
    path = torch_saved(folder / "resid_post_mlp_v5_32k/autoencoders/0.pt", state)

    def decode(t, z, x):
        _, mean, std = layer_normed(x)
        return decoded(t, z) * std + mean

    return path, t, lambda t, x: top(encoded(t, layer_normed(x)[0]), 4), decode


def learned(folder, state, kind):
    trainer = {"dict_class": kind, "lm_name": "gpt2", "submodule_name": "resid_post_layer_0"}
    torch_saved(folder / "ae.pt", state)
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return folder


def linear(t, bias="b_dec", **extra):
    return {
        "encoder.weight": t["W_enc"].T.contiguous(),
        "encoder.bias": t["b_enc"],
        "decoder.weight": t["W_dec"].T.contiguous(),
        bias: t["b_dec"],
        **extra,
    }


def learned_plain(folder, dtype):
    t = numbers(dtype=dtype)
    path = learned(folder, linear(t, "bias"), "AutoEncoder")
    return path, t, lambda t, x: relu(encoded(t, x)), lambda t, z, x: decoded(t, z)


def learned_topk(folder, dtype):
    t = numbers(dtype=dtype)
    state = linear(t, k=torch.tensor(3), threshold=torch.tensor(-1.0))
    path = learned(folder, state, "AutoEncoderTopK")
    return path, t, lambda t, x: top(encoded(t, x), 3), lambda t, z, x: decoded(t, z)


def learned_batch(folder, dtype):
    t = numbers(dtype=dtype)
    state = linear(t, k=torch.tensor(3), threshold=torch.tensor(0.25, dtype=dtype))
    path = learned(folder, state, "BatchTopKSAE")
    return path, t, lambda t, x: jumping(encoded(t, x), 0.25), lambda t, z, x: decoded(t, z)


def learned_matryoshka(folder, dtype):
    t = numbers(dtype=dtype)
    beside = {"k": torch.tensor(3), "group_sizes": torch.tensor([8, 16])}
    state = {**t, **beside, "threshold": torch.tensor(0.25, dtype=dtype)}
    path = learned(folder, state, "MatryoshkaBatchTopKSAE")
    return path, t, lambda t, x: jumping(encoded(t, x), 0.25), lambda t, z, x: decoded(t, z)


def learned_jump(folder, dtype):
    t = numbers(dtype=dtype, threshold=(N,))
    path = learned(folder, t, "JumpReluAutoEncoder")
    return (
        path,
        t,
        lambda t, x: jumping(encoded(t, x, False), t["threshold"]),
        lambda t, z, x: decoded(t, z),
    )


def learned_gated(folder, dtype):
    t = numbers(dtype=dtype, b_enc=None, gate_bias=(N,), mag_bias=(N,), r_mag=(N,))
    state = {
        "encoder.weight": t["W_enc"].T.contiguous(),
        "decoder.weight": t["W_dec"].T.contiguous(),
        "decoder_bias": t["b_dec"],
        **{name: t[name] for name in ("gate_bias", "mag_bias", "r_mag")},
    }
    path = learned(folder, state, "GatedAutoEncoder")

    def encode(t, x):
        p = (x - t["b_dec"]) @ t["W_enc"]
        return (p + t["gate_bias"] > 0) * relu(np.exp(t["r_mag"]) * p + t["mag_bias"])

    return path, t, encode, lambda t, z, x: decoded(t, z)


def sparsified(folder, t, name, **facts):
    inner = folder / name
    inner.mkdir(parents=True)
    (inner / "cfg.json").write_text(json.dumps({"activation": "topk", "k": 3, **facts}))
    state = {
        "encoder.weight": t["W_enc"].T.contiguous(),
        "encoder.bias": t["b_enc"],
        **{name: t[name] for name in ("W_dec", "b_dec", "W_skip") if name in t},
    }
    save_file(state, inner / "sae.safetensors")
    return inner


def sparsify(folder, dtype):
    t = numbers(dtype=dtype)
    path = sparsified(folder, t, "layers.0")
    return path, t, lambda t, x: top(encoded(t, x), 3), lambda t, z, x: decoded(t, z)


def sparsify_skip(folder, dtype):
    t = numbers(dtype=dtype, W_skip=(D, D))
    path = sparsified(folder, t, "h.1.mlp", transcode=True, skip_connection=True)
    return (
        path,
        t,
        lambda t, x: top(encoded(t, x, False), 3),
        lambda t, z, x: decoded(t, z) + x @ t["W_skip"].T,
    )


def circuit_tracer(folder, dtype):
    t = numbers(dtype=dtype, threshold=(N,), W_skip=(D, D))
    state = {name: x for name, x in t.items() if name not in ("W_enc", "threshold")}
    state["W_enc"] = t["W_enc"].T.contiguous()
    state["activation_function.threshold"] = t["threshold"]
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "layer_1.safetensors")
    (folder / "config.yaml").write_text(
        'feature_input_hook: "mlp.hook_in"\nfeature_output_hook: "hook_mlp_out"\n'
    )
    return (
        folder / "layer_1.safetensors",
        t,
        lambda t, x: jumping(encoded(t, x, False), t["threshold"]),
        lambda t, z, x: decoded(t, z) + x @ t["W_skip"].T,
    )


PLACES = {
    **dict.fromkeys((standard, flat_standard, flat_topk, rescaled_topk), "resid1"),
    **dict.fromkeys((jumprelu, gated, normed, rescaled, averaged), "resid1"),
    **dict.fromkeys((learned_plain, learned_topk, learned_batch, learned_matryoshka), "resid1"),
    **dict.fromkeys((learned_jump, learned_gated, sparsify, openai_v5), "resid1"),
    **dict.fromkeys((skipping, sparsify_skip, circuit_tracer), "m1.in"),
    openai_v4: "m1",
    openai_tied: "a1",
}


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("layout", PLACES, ids=lambda layout: layout.__name__)
def test_latents_and_reconstruction_are_the_published_formula(tmp_path, layout, dtype):
    path, tensors, encode, decode = layout(tmp_path / "d", dtype)
    d = load_dictionary(path)
    assert (d.reads, d.n_latents, d.encoder.dtype) == (PLACES[layout], N, dtype)
    t = {name: value.double().numpy() for name, value in tensors.items()}
    x = torch.randn(5, D, dtype=dtype) + 0.5
    z = encode(t, x.double().numpy())
    assert 0 < (z > 0).mean() < 1
    wanted = decode(t, z, x.double().numpy())
    assert np.abs(d.encode(x).double().numpy() - z).max() < 4 * WITHIN[dtype]
    assert np.abs(d.decode(d.encode(x), x).double().numpy() - wanted).max() < 8 * WITHIN[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_read_as_the_same_numbers(tmp_path, dtype):
    path, tensors, *_ = standard(tmp_path / "d", dtype)
    assert torch.equal(load_dictionary(path).encoder, tensors["W_enc"].float())
    assert torch.equal(load_dictionary(path, dtype=dtype).encoder, tensors["W_enc"])


@pytest.mark.parametrize(
    ("location", "reads"),
    [
        ("mlp_post_act", "m3.act"),
        ("mlp_post_act_v4", "m3.act"),
        ("resid_delta_mlp", "m3"),
        ("resid_delta_attn_v5_128k", "a3"),
        ("resid_post_attn_v5_32k", "resid3.mid"),
        ("resid_post_mlp_v5_32k", "resid4"),
    ],
)
def test_openais_locations_are_in_its_paths(tmp_path, location, reads):
    path = torch_saved(tmp_path / location / "autoencoders" / "3.pt", openai_state(numbers()))
    assert load_dictionary(path).reads == reads


def test_where_a_file_does_not_say_it_must_be_said(tmp_path):
    path = torch_saved(tmp_path / "3.pt", openai_state(numbers()))
    with pytest.raises(WeightsError, match=r"where it reads(.|\n)*--site m3"):
        load_dictionary(path)
    assert load_dictionary(path, site="blocks.2.hook_mlp_out").explains == "m2"
    assert load_dictionary(path, site="m3.act").explains == "m3"
    assert load_dictionary(path, site="m3").name == "3"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"normalize_activations": "covariance_whitening"}, "fold_activation_whitening"),
        ({"normalize_activations": True}, "one number while it was trained"),
        ({"normalize_activations": ["x"]}, "normalised by"),
        ({"reshape_activations": "hook_z"}, "side by side"),
        ({"hook_name": "blocks.1.attn.hook_z"}, "side by side"),
        ({"hook_head_index": 3}, "one head"),
        ({"architecture": "temporal"}, "temporal"),
        ({"architecture": "topk"}, "its k is None"),
        ({"architecture": "topk", "k": 99}, "TopK"),
        ({"architecture": "jumprelu"}, "threshold is not in it"),
        ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        ({"metadata": 3}, "metadata"),
        ({"model_name": "EleutherAI/pythia-70m"}, "pythia-70m"),
        ({"finetuning_scaling_factor": True}, "scaled"),
        ({"hook_name_out": "blocks.1.hook_mlp_out"}, "after the LayerNorm"),
    ],
)
def test_what_is_computed_otherwise_is_refused_with_its_reason(tmp_path, config, message):
    folder = saelens(tmp_path / "d", numbers(), config)
    with pytest.raises(WeightsError, match=message):
        load_dictionary(folder)


def test_a_scale_that_no_file_says_is_asked_for(tmp_path):
    folder = saelens(tmp_path / "d", numbers(), {"normalize_activations": True}, flat=True)
    with pytest.raises(WeightsError, match=r"scale=1.0 \(--scale 1\)"):
        load_dictionary(folder)
    assert load_dictionary(folder, scale=2.5).scale == 2.5


def test_a_dictionary_of_another_model_is_refused(tmp_path):
    model = replace(tiny(d_model=16), name="gpt2")
    folder = saelens(tmp_path / "d", numbers(), {"model_name": "gpt2-medium"})
    with pytest.raises(WeightsError, match=r"trained on 'gpt2-medium'(.|\n)*replace\(model"):
        load_dictionary(folder, model=model)
    folder = saelens(tmp_path / "d", numbers(), {})
    with pytest.raises(WeightsError, match=f"reads {D}"):
        load_dictionary(folder, model=model)


def test_a_tensor_that_nobody_takes_is_refused(tmp_path):
    folder = saelens(tmp_path / "d", {**numbers(), "W_more": torch.ones(2)}, {})
    with pytest.raises(WeightsError, match="W_more"):
        load_dictionary(folder)


def test_a_folder_of_several_says_which(tmp_path):
    for name in ("one", "two"):
        saelens(tmp_path / name, numbers(), {})
    with pytest.raises(WeightsError, match=r"2 dictionaries(.|\n)*one, two"):
        load_dictionary(tmp_path)
    with pytest.raises(WeightsError, match="SAELens"):
        load_dictionary(tmp_path / "none")


class Hostile:
    """Unpickled, it would run something."""

    def __reduce__(self):
        return print, ("never",)


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    path = torch_saved(tmp_path / "ae.pt", {"pre_bias": Hostile()})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="never run"):
        load_dictionary(path)
    assert "never" not in capsys.readouterr().out


VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 99), st.floats(), st.text(max_size=9), st.just([])
)
FACTS = (
    *("architecture", "hook_name", "metadata", "k", "normalize_activations", "activation_fn"),
    *("apply_b_dec_to_input", "model_name", "reshape_activations", "activation_fn_kwargs"),
    *("norm_scaling_factor", "hook_head_index", "rescale_acts_by_decoder_norm"),
)


@examples(20)
@given(
    config=st.dictionaries(st.sampled_from(FACTS), VALUE, max_size=4),
    name=st.sampled_from(["W_enc", "b_enc", "W_dec", "b_dec"]),
    shape=st.sampled_from([(), (0,), (N,), (D, N), (N, D), (1, 2, 3)]),
    fill=st.sampled_from([0.0, 1.0, math.nan, math.inf]),
)
def test_damaged_folders_raise_only_this_projects_errors(
    tmp_path_factory, config, name, shape, fill
):
    t = {**numbers(), name: torch.full(shape, fill)}
    folder = saelens(tmp_path_factory.mktemp("d"), t, config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(MiniGPTError):
            load_dictionary(folder)


@examples(8)
@given(share=st.floats(0, 0.999), layout=st.sampled_from([standard, openai_v5, learned_topk]))
def test_a_file_that_is_cut_is_refused(tmp_path_factory, share, layout):
    path = layout(tmp_path_factory.mktemp("d") / "d", torch.float32)[0]
    file = path if path.is_file() else next(path.glob("*.safetensors"), path / "ae.pt")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(WeightsError, match="could not be read"):
        load_dictionary(path)


def test_it_is_among_what_weights_offers():
    assert weights.load_dictionary is load_dictionary
