"""The folders of sparsify (EleutherAI): cfg.json and sae.safetensors, in a folder named for the
module that it reads."""

from __future__ import annotations

from typing import Any

from minigpt.dictionary import TopK
from weights.dictionaries.found import Found

FILES = ("cfg.json", "sae.safetensors")
TENSORS = {"encoder.weight": "n d_in", "encoder.bias": "n", "W_dec": "n d_out", "b_dec": "d_out"}
SKIP = {"W_skip": "d_out d_in"}


def read(found: Found) -> dict[str, Any]:
    """What a Dictionary is made of, but for its name and place."""
    if (kind := found.fact("activation", str, "topk")) != "topk":
        raise found.wrong(f"its activation is {kind[:40]!r}", "topk")
    skips = found.fact("skip_connection", bool, False)
    transcodes = found.fact("transcode", bool, False)
    if skips and not transcodes:
        raise found.wrong("skip_connection without transcode", "both, or no skip_connection")
    x = found.take({**TENSORS, **SKIP} if skips else TENSORS)
    return {
        "encoder": x["encoder.weight"].T,
        "encoder_bias": x["encoder.bias"],
        "decoder": x["W_dec"],
        "decoder_bias": x["b_dec"],
        "activation": TopK(found.fact("k", int)),
        "centred": not transcodes,
        "skip": x["W_skip"].T if skips else None,
    }


def hook(found: Found) -> str:
    """Where it reads: the folder is named for it. A transcoder reads what the module sees."""
    name = found.path.absolute().name
    return name + ".hook_in" * found.fact("transcode", bool, False)
