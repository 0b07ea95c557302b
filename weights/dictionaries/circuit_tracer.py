"""Circuit-tracer's transcoders: layer_3.safetensors, and a config.yaml that says where they
read."""

from __future__ import annotations

import re
from typing import Any

from minigpt.dictionary import JumpRelu, Relu, TopK
from weights.dictionaries.found import Found

TENSORS = {"W_enc": "n d_in", "b_enc": "n", "W_dec": "n d_out", "b_dec": "d_out"}
THRESHOLD = {"activation_function.threshold": "n"}
SKIP = {"W_skip": "d_out d_in"}


def read(found: Found) -> dict[str, Any]:
    """What a Dictionary is made of, but for its name and place."""
    extra = {name: axes for name, axes in {**THRESHOLD, **SKIP}.items() if name in found.state}
    x = found.take({**TENSORS, **extra}, ("k",))
    threshold = x.get("activation_function.threshold")
    jump = Relu() if threshold is None else JumpRelu(threshold)
    return {
        "encoder": x["W_enc"].T,
        "encoder_bias": x["b_enc"],
        "decoder": x["W_dec"],
        "decoder_bias": x["b_dec"],
        "activation": TopK(found.number("k")) if "k" in found.state else jump,
        "skip": x["W_skip"].T if "W_skip" in x else None,
    }


def hook(found: Found) -> str:
    """Where it reads: its config's hook, in the layer that its file is named for."""
    return _hook(found, "feature_input_hook")


def writes(found: Found) -> str:
    """Where its reconstruction belongs."""
    return _hook(found, "feature_output_hook")


def _hook(found: Found, name: str) -> str:
    inside, layer = found.facts.get(name), re.fullmatch(r"layer_(\d+)", found.path.stem)
    return f"blocks.{layer[1]}.{inside}" if inside and layer else ""
