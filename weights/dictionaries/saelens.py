"""SAELens' folders: cfg.json and sae_weights.safetensors, those of version 6 and the flat ones
before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from minigpt.dictionary import Gated, JumpRelu, Relu, TopK
from weights.dictionaries.found import Found

FILES = ("cfg.json", "sae_weights.safetensors")
PLAIN = {"W_enc": "d_in n", "b_enc": "n", "W_dec": "n d_out", "b_dec": "d_out"}
JUMP = {**PLAIN, "threshold": "n"}
GATED = {
    **{name: axes for name, axes in PLAIN.items() if name != "b_enc"},
    **dict.fromkeys(("b_gate", "b_mag", "r_mag"), "n"),
}
SKIP = {"W_skip": "d_out d_in"}
# An architecture's tensors. Both of the batch are saved as jumprelu, by what trains them today.
TENSORS = {
    "standard": PLAIN,
    "topk": PLAIN,
    "jumprelu": JUMP,
    "batchtopk": JUMP,
    "matryoshka_batchtopk": JUMP,
    "gated": GATED,
    "transcoder": PLAIN,
    "skip_transcoder": {**PLAIN, **SKIP},
    "jumprelu_transcoder": JUMP,
    "jumprelu_skip_transcoder": {**JUMP, **SKIP},
}
OLDER = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
NORMALISE = {
    **dict.fromkeys((None, False, "none"), "none"),
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "rms",
}
AVERAGE = (True, "expected_average_only_in")


def read(found: Found) -> dict[str, Any]:
    """What a Dictionary is made of, but for its name and place."""
    facts = _flat(found)
    flat = Found(found.path, facts, found.state, found.dtype)
    kind = _architecture(flat)
    _refuse(flat, kind)
    aside = [name for name in ("scaling_factor",) if _is_ones(found.state.get(name))]
    x = flat.take(TENSORS[kind], aside)
    if flat.fact("rescale_acts_by_decoder_norm", bool, False):
        norms = x["W_dec"].norm(dim=-1)
        x |= {"W_enc": x["W_enc"] * norms, "b_enc": x["b_enc"] * norms}
        x["W_dec"] = x["W_dec"] / norms[:, None]
    return {
        "encoder": x["W_enc"],
        "encoder_bias": x.get("b_enc", x["W_enc"].new_zeros(x["W_enc"].shape[1])),
        "decoder": x["W_dec"],
        "decoder_bias": x["b_dec"],
        "activation": _activation(flat, kind, x),
        "skip": x["W_skip"].T.contiguous() if "W_skip" in x else None,
        "centred": flat.fact("apply_b_dec_to_input", bool, "transcoder" not in kind),
        **_prepared(flat),
    }


def hook(found: Found) -> str:
    """Where it reads, by its config: of a transcoder, a port."""
    return str(_flat(found).get("hook_name") or "")


def writes(found: Found) -> str:
    """Where a transcoder's reconstruction belongs; "" where it is the same place."""
    return str(_flat(found).get("hook_name_out") or "")


def lm(found: Found) -> str:
    """The model that it was trained on, by its config."""
    return str(_flat(found).get("model_name") or "")


def _flat(found: Found) -> dict[str, Any]:
    """The facts with those of the metadata among them, by the names of today."""
    inner = found.facts.get("metadata") or {}
    if not isinstance(inner, Mapping):
        raise found.wrong(f"its metadata is a {type(inner).__name__}", "an object")
    facts = {OLDER.get(name, name): value for name, value in {**inner, **found.facts}.items()}
    kwargs = facts.get("activation_fn_kwargs")
    if facts.get("activation_fn") == "topk" and isinstance(kwargs, Mapping):
        facts |= {"architecture": "topk", "k": kwargs.get("k")}
    return facts


def _architecture(found: Found) -> str:
    kind = found.fact("architecture", str, "standard")
    if kind not in TENSORS:
        raise found.wrong(f"its architecture is {kind[:40]!r}", ", ".join(TENSORS))
    if found.facts.get("activation_fn", "relu") not in ("relu", "topk"):
        raise found.wrong(f"its activation_fn is {found.facts['activation_fn']!r}", "relu, topk")
    return kind


def _refuse(found: Found, kind: str) -> None:
    """WeightsError for what is computed otherwise than a Dictionary does."""
    if found.facts.get("reshape_activations", "none") not in ("none", None, ""):
        raise found.wrong(
            f"its activations are reshaped ({found.facts['reshape_activations']!r}): it reads the "
            "heads' z side by side, which the attention's output matrix still mixes",
            "a dictionary of a whole write (hook_attn_out), of activations or of the stream",
        )
    if found.facts.get("hook_head_index") is not None:
        raise found.wrong(
            f"of one head alone, {found.facts['hook_head_index']!r}", "of a whole write"
        )
    if found.facts.get("finetuning_scaling_factor") and not _is_ones(
        found.state.get("scaling_factor")
    ):
        raise found.wrong("its latents are scaled after the activation", "a scaling_factor of ones")
    if "transcoder" in kind and found.facts.get("apply_b_dec_to_input"):
        raise found.wrong("a transcoder with apply_b_dec_to_input", "false")


def _activation(found: Found, kind: str, x: Mapping[str, Tensor]) -> Any:
    if kind == "topk":
        return TopK(found.fact("k", int))
    if "threshold" in x:
        return JumpRelu(x["threshold"])
    if kind == "gated":
        return Gated(x["b_gate"], x["r_mag"].exp(), x["b_mag"])
    return Relu()


def _prepared(found: Found) -> dict[str, Any]:
    """How its input is prepared. A scalar that is nowhere said must be said by whoever loads it."""
    given = found.facts.get("normalize_activations")
    if isinstance(given, (str, bool, type(None))) and given in NORMALISE:
        return {"normalise": NORMALISE[given]}
    if given in AVERAGE:
        return {"scale": found.facts.get("norm_scaling_factor")}
    raise found.wrong(
        f"its activations are normalised by {given!r}, which no dictionary here undoes",
        "none, layer_norm, constant_norm_rescale, expected_average_only_in",
        "sae.fold_activation_whitening(...) where it was made, if it is covariance_whitening",
    )


def _is_ones(x: object) -> bool:
    return isinstance(x, Tensor) and bool((x == 1).all())
