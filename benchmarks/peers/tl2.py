"""TransformerLens 2: HookedTransformer and its hooks, used as its demos use them; the last version that most of the field runs.

The weights are converted by TransformerLens' own function, with no folding and no centring, so the numbers are the checkpoint's.
One forward pass of all prompts for each variant; logits are computed at every position, as HookedTransformer does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas
import torch
from torch import Tensor
from transformer_lens import ActivationCache, HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.hook_points import HookPoint
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformer_lens.utils import get_act_name
from transformers import GPT2LMHeadModel

from benchmarks.peers.inputs import Edge, Inputs, KeepingMetric, Place, Sweep


def load(folder: str, dtype: torch.dtype) -> HookedTransformer:
    hf = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()
    c = hf.config
    config = HookedTransformerConfig(
        n_layers=c.n_layer, n_heads=c.n_head, d_head=c.n_embd // c.n_head, d_model=c.n_embd, d_mlp=4 * c.n_embd,
        n_ctx=c.n_positions, d_vocab=c.vocab_size, act_fn=c.activation_function, eps=c.layer_norm_epsilon,
        normalization_type="LN", init_weights=False, device="cpu", dtype=dtype)
    model = HookedTransformer(config)
    model.load_and_process_state_dict(convert_gpt2_weights(hf, config), fold_ln=False, center_writing_weights=False,
                                      center_unembed=False, fold_value_biases=False)
    return model.eval()


def is_z(name: str) -> bool:
    return name.endswith("hook_z")


def both(model: HookedTransformer, inputs: Inputs, names: Callable[[str], bool]) -> tuple[ActivationCache, ActivationCache]:
    """The clean and the corrupt run, cached."""
    _, clean = model.run_with_cache(inputs.clean, names_filter=names, return_type=None)
    _, corrupt = model.run_with_cache(inputs.corrupt, names_filter=names, return_type=None)
    return clean, corrupt


def freeze(z: Tensor, hook: HookPoint, clean: ActivationCache, corrupt: ActivationCache, sender: tuple[int, int],
           place: Place) -> Tensor:
    """Every head's z as it was in the clean run, the sender's as in the corrupt one at one position."""
    layer, head = sender
    if hook.layer() != layer:
        return clean[hook.name]
    z[:] = clean[hook.name]
    z[*place, head] = corrupt[hook.name][*place, head]
    return z


def w3_out(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """IOI path patching, sender head > out at the last position: [senders, B]."""
    clean, corrupt = both(model, inputs, is_z)

    def one(sender: tuple[int, int]) -> Tensor:
        hook = partial(freeze, clean=clean, corrupt=corrupt, sender=sender, place=inputs.place())
        return inputs.metric(model.run_with_hooks(inputs.clean, fwd_hooks=[(is_z, hook)]))

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


def w3_v(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """IOI path patching, sender head > v of the receivers, all at one position: [senders, B].

    A first pass with the heads frozen gives the receivers' values, and ends there; a second one, with nothing frozen, uses them.
    """
    clean, corrupt = both(model, inputs, is_z)
    place = inputs.place("position")
    receivers = inputs.heads("receivers")
    names = {get_act_name("v", layer) for layer, _ in receivers}
    stop = max(layer for layer, _ in receivers) + 1

    def one(sender: tuple[int, int]) -> Tensor:
        kept: dict[str, Tensor] = {}

        def keep(v: Tensor, hook: HookPoint) -> None:
            kept[hook.name] = v[place]

        def put(v: Tensor, hook: HookPoint) -> Tensor:
            for head in (head for layer, head in receivers if layer == hook.layer()):
                v[*place, head] = kept[hook.name][:, head]
            return v

        hold = partial(freeze, clean=clean, corrupt=corrupt, sender=sender, place=place)
        model.run_with_hooks(inputs.clean, fwd_hooks=[(is_z, hold), (names.__contains__, keep)], stop_at_layer=stop)
        return inputs.metric(model.run_with_hooks(inputs.clean, fwd_hooks=[(names.__contains__, put)]))

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


def heads_by_pos(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """TransformerLens' own get_act_patch_attn_head_out_all_pos, of every head or of those in `senders`: [heads, B].

    The corrupt run with one head's clean z at all positions. Its table holds means over B; the metric keeps each prompt's value.
    """
    _, clean = model.run_with_cache(inputs.clean, names_filter=is_z, return_type=None)
    some = {"index_axis_names": None, "index_df": pandas.DataFrame(inputs.heads("senders"))} if "senders" in inputs.arrays else {}

    def run() -> Tensor:
        metric = KeepingMetric(inputs)
        table = patching.get_act_patch_attn_head_out_all_pos(model, inputs.corrupt, clean, metric, **some)
        return metric.values_of(table.flatten())

    return run


def w1_edges(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """Exact edge patching, one edge a pass, at all positions: [edges, B].

    The port's input hook (hook_q_input, hook_mlp_in, ...) adds the sender's corrupt write less its clean one, before the
    LayerNorm. The split inputs that these hooks need are switched on for the edges that need them only.
    """
    sender_hooks = ("attn.hook_z", "hook_mlp_out", "blocks.0.hook_resid_pre")
    clean, corrupt = both(model, inputs, lambda name: name.endswith(sender_hooks))

    def change(edge: Edge) -> Tensor:
        if edge.sender_kind == "head":
            name = get_act_name("z", edge.sender_layer)
            z = corrupt[name][:, :, edge.sender_head] - clean[name][:, :, edge.sender_head]
            return z @ model.blocks[edge.sender_layer].attn.W_O[edge.sender_head]
        name = "blocks.0.hook_resid_pre" if edge.sender_kind == "input" else get_act_name("mlp_out", edge.sender_layer)
        return corrupt[name] - clean[name]

    def one(edge: Edge) -> Tensor:
        name, add = port(model, edge, change(edge))
        model.set_use_split_qkv_input(edge.receiver_kind in ("q", "k", "v"))
        model.set_use_hook_mlp_in(edge.receiver_kind == "mlp")
        return inputs.metric(model.run_with_hooks(inputs.clean, fwd_hooks=[(name, add)]))

    def run() -> Tensor:
        try:
            return torch.stack([one(edge) for edge in inputs.edges()])
        finally:
            model.set_use_split_qkv_input(False)
            model.set_use_hook_mlp_in(False)

    return run


def port(model: HookedTransformer, edge: Edge, change: Tensor) -> tuple[str, Callable[..., Tensor]]:
    """The hook's name, and a hook by which one port alone reads the stream plus a change."""
    def add_to_head(stream: Tensor, hook: HookPoint) -> Tensor:
        stream[:, :, edge.receiver_head] += change
        return stream

    def add(stream: Tensor, hook: HookPoint) -> Tensor:
        return stream + change

    if edge.receiver_kind == "out":
        return get_act_name("resid_post", model.cfg.n_layers - 1), add
    if edge.receiver_kind == "mlp":
        return get_act_name("mlp_in", edge.receiver_layer), add
    return f"blocks.{edge.receiver_layer}.hook_{edge.receiver_kind}_input", add_to_head


def w4_neurons(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """Total effect of neurons of MLP `layer`, corrupt into clean, at the last position (`at_end`) or at all: [neurons, B]."""
    name = get_act_name("post", inputs.integer("layer"))
    _, corrupt = model.run_with_cache(inputs.corrupt, names_filter=name, return_type=None)
    where = slice(-1, None) if inputs.flag("at_end") else slice(None)

    def one(neuron: int) -> Tensor:
        def put(act: Tensor, hook: HookPoint) -> Tensor:
            act[:, where, neuron] = corrupt[name][:, where, neuron]
            return act

        return inputs.metric(model.run_with_hooks(inputs.clean, fwd_hooks=[(name, put)]))

    return lambda: torch.stack([one(neuron) for neuron in inputs.arrays["neurons"].tolist()])


def w5_cache(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """run_with_cache of everything; with `use_attn_result` every head's write too. The logits at the last position: [B, V]."""
    def run() -> Tensor:
        model.set_use_attn_result(inputs.flag("use_attn_result"))
        try:
            logits, _cache = model.run_with_cache(inputs.clean)
        finally:
            model.set_use_attn_result(False)
        return logits[:, -1]

    return run


WORKLOADS = {f.__name__: f for f in (w3_out, w3_v, heads_by_pos, w1_edges, w4_neurons, w5_cache)}
