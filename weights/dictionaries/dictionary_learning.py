"""The folders of dictionary_learning: ae.pt and config.json."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from minigpt.dictionary import Gated, JumpRelu, Relu, TopK
from weights.dictionaries.found import Found
from weights.errors import WeightsWarning

FILES = ("config.json", "ae.pt")
LINEAR = {"encoder.weight": "n d", "encoder.bias": "n", "decoder.weight": "d n", "b_dec": "d"}
PLAIN = {"W_enc": "d n", "b_enc": "n", "W_dec": "n d", "b_dec": "d"}
# By the class of the dictionary: its tensors, and what lies beside them.
TENSORS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "AutoEncoder": ({**{k: v for k, v in LINEAR.items() if k != "b_dec"}, "bias": "d"}, ()),
    "AutoEncoderTopK": (LINEAR, ("k", "threshold")),
    "BatchTopKSAE": ({**LINEAR, "threshold": ""}, ("k",)),
    "MatryoshkaBatchTopKSAE": ({**PLAIN, "threshold": ""}, ("k", "group_sizes")),
    "JumpReluAutoEncoder": ({**PLAIN, "threshold": "n"}, ()),
    "GatedAutoEncoder": (
        {
            "encoder.weight": "n d",
            "decoder.weight": "d n",
            "decoder_bias": "d",
            **dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), "n"),
        },
        (),
    ),
}


def read(found: Found) -> dict[str, Any]:
    """What a Dictionary is made of, but for its name and place."""
    trainer = _trainer(found)
    kind = trainer.fact("dict_class", str, "AutoEncoder")
    if kind not in TENSORS:
        raise found.wrong(f"its dict_class is {kind[:40]!r}", ", ".join(TENSORS))
    axes, aside = TENSORS[kind]
    x = found.take(axes, aside)
    encoder = x["W_enc"] if "W_enc" in x else x["encoder.weight"].T
    bias = next(x[name] for name in ("b_dec", "decoder_bias", "bias") if name in x)
    zero = encoder.new_zeros(encoder.shape[1])
    return {
        "encoder": encoder,
        "encoder_bias": x.get("b_enc", x.get("encoder.bias", zero)),
        "decoder": x["W_dec"] if "W_dec" in x else x["decoder.weight"].T,
        "decoder_bias": bias,
        "activation": _activation(found, kind, x),
        "centred": kind != "JumpReluAutoEncoder",
    }


def hook(found: Found) -> str:
    """Where it reads: its submodule, and of a stream point its layer."""
    trainer = _trainer(found)
    return str(trainer.facts.get("submodule_name") or "")


def lm(found: Found) -> str:
    """The model that it was trained on, by its config."""
    return str(_trainer(found).facts.get("lm_name") or "")


def _trainer(found: Found) -> Found:
    return Found(found.path, found.fact("trainer", dict), found.state)


def _activation(found: Found, kind: str, x: dict[str, torch.Tensor]) -> Any:
    if kind == "AutoEncoderTopK":
        return TopK(found.number("k"))
    if kind == "GatedAutoEncoder":
        return Gated(x["gate_bias"], x["r_mag"].exp(), x["mag_bias"])
    if "threshold" not in x:
        return Relu()
    if x["threshold"].ndim == 0 and x["threshold"] < 0:
        warnings.warn(
            f"{found.path}: its threshold was never set ({x['threshold']:g}), so every latent "
            "above zero is on",
            WeightsWarning,
            stacklevel=2,
        )
    n = len(x["b_enc"] if "b_enc" in x else x["encoder.bias"])
    return JumpRelu(x["threshold"].expand(n).contiguous())
