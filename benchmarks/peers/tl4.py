"""TransformerLens 4: TransformerBridge around Hugging Face's model, not in compatibility mode: the
checkpoint's numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.peers.inputs import Inputs, KeepingMetric, Sweep


def load(folder: str, dtype: torch.dtype) -> TransformerBridge:
    """From the folder itself; no hub is asked."""
    return TransformerBridge.boot_transformers(folder, device="cpu", dtype=dtype).eval()


def tl4_head_q(model: TransformerBridge, inputs: Inputs) -> Sweep:
    """TransformerLens' own exact direct path patching, head > later heads' queries, one forward
    pass an edge.

    With `sources` get_act_patch_direct_path from each, without
    get_act_patch_direct_path_all_sources: 9,504 edges. [edges, B], in the order of
    inputs.later_queries; its table holds means over B, and the metric keeps each prompt's value. It
    runs its `corrupted_tokens` and adds its clean write less its corrupted one: given the runs the
    other way round, that is an edge of w1_edges.
    """
    ran, other = (
        model.run_with_cache(tokens, names_filter=lambda name: name.endswith("attn.hook_z"))[1]
        for tokens in (inputs.clean, inputs.corrupt)
    )

    def run() -> Tensor:
        metric = KeepingMetric(inputs)
        given = {
            "corrupted_tokens": inputs.clean,
            "clean_cache": other,
            "corrupted_cache": ran,
            "patching_metric": metric,
            "component": "q",
            "verbose": False,
        }
        if "sources" in inputs.arrays:
            tables = [
                patching.get_act_patch_direct_path(model, **given, src_layer=layer, src_head=head)[
                    layer + 1 :
                ]
                for layer, head in inputs.heads("sources")
            ]
        else:
            every = patching.get_act_patch_direct_path_all_sources(model, **given)
            tables = [table[layer + 1 :] for layer, row in enumerate(every) for table in row]
        return metric.values_of(torch.cat([table.flatten() for table in tables]))

    return run


def w5_cache(model: TransformerBridge, inputs: Inputs) -> Sweep:
    """run_with_cache of everything. The logits at the last position: [B, V]."""

    def run() -> Tensor:
        logits, _cache = model.run_with_cache(inputs.clean)
        return logits[:, -1]

    return run


WORKLOADS = {f.__name__: f for f in (tl4_head_q, w5_cache)}
