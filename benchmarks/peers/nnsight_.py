"""nnsight: a trace around Hugging Face's model."""

from __future__ import annotations

import nnsight
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from benchmarks.peers.inputs import Inputs, Sweep


def load(folder: str, dtype: torch.dtype) -> nnsight.NNsight:
    return nnsight.NNsight(GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval())


def w5_cache(model: nnsight.NNsight, inputs: Inputs) -> Sweep:
    """One trace that saves the outputs of each layer's attention and MLP; with `everything`,
    nnsight's own cache of every module.

    The logits at the last position: [B, V].
    """

    def layers() -> Tensor:
        with model.trace(inputs.clean, use_cache=False):
            kept = nnsight.save([])
            for block in model.transformer.h:
                kept.append(block.attn.output[0])
                kept.append(block.mlp.output)
            logits = nnsight.save(model.output.logits)
        assert len(kept) == 2 * len(model.transformer.h)
        return logits[:, -1]

    def everything() -> Tensor:
        with model.trace(inputs.clean, use_cache=False) as tracer:
            cache = tracer.cache()
            logits = nnsight.save(model.output.logits)
        assert cache.transformer.h[-1].mlp.output.shape[:2] == inputs.clean.shape
        return logits[:, -1]

    return everything if inputs.flag("everything") else layers


WORKLOADS = {f.__name__: f for f in (w5_cache,)}
