"""OpenAI's .pt files of GPT-2 small, versions 1 to 5: one state dict, tied or not. Those of TopK
see a stream without mean and of unit variance; no file says so."""

from __future__ import annotations

from typing import Any

from minigpt.dictionary import Relu, TopK
from weights.dictionaries.found import Found

TENSORS = {"pre_bias": "d", "latent_bias": "n", "encoder.weight": "n d"}
DECODER = {"decoder.weight": "d n"}
STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
ASIDE = (*STATISTICS, "activation", "activation_state_dict")


def read(found: Found) -> dict[str, Any]:
    """What a Dictionary is made of, but for its name and place."""
    tied = "decoder.weight" not in found.state
    x = found.take(TENSORS if tied else {**TENSORS, **DECODER}, ASIDE)
    encoder = x["encoder.weight"]
    activation = _activation(found)
    return {
        "encoder": encoder.T,
        "encoder_bias": x["latent_bias"],
        "decoder": encoder if tied else x["decoder.weight"].T,
        "decoder_bias": x["pre_bias"],
        "activation": activation,
        "centred": True,
        "normalise": "layer_norm" if isinstance(activation, TopK) else "none",
    }


def _activation(found: Found) -> Relu | TopK:
    kind = found.state.get("activation", "ReLU")
    if kind == "ReLU":
        return Relu()
    said = found.state.get("activation_state_dict")
    if kind != "TopK" or not isinstance(said, dict) or said.get("postact_fn", "ReLU") != "ReLU":
        raise found.wrong(
            f"its activation is {str(kind)[:40]!r} {str(said)[:60]}",
            "ReLU, or TopK with postact_fn ReLU",
        )
    return TopK(Found(found.path, said, {}).fact("k", int))
