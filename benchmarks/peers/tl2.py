"""TransformerLens 2: HookedTransformer and its hooks, used as its demos use them; the last version
that most of the field runs.

The weights are converted by TransformerLens' own function, with no folding and no centring, so the
numbers are the checkpoint's. One forward pass of all prompts for each variant; logits are computed
at every position, as HookedTransformer does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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

Receivers = dict[
    str, list[tuple[int, ...]]
]  # a hook's name, and which parts of it: heads, or () for all


def load(folder: str, dtype: torch.dtype) -> HookedTransformer:
    hf = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()
    c = hf.config
    config = HookedTransformerConfig(
        n_layers=c.n_layer,
        n_heads=c.n_head,
        d_head=c.n_embd // c.n_head,
        d_model=c.n_embd,
        d_mlp=4 * c.n_embd,
        n_ctx=c.n_positions,
        d_vocab=c.vocab_size,
        act_fn=c.activation_function,
        eps=c.layer_norm_epsilon,
        normalization_type="LN",
        init_weights=False,
        device="cpu",
        dtype=dtype,
    )
    model = HookedTransformer(config)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return model.eval()


def is_z(name: str) -> bool:
    return name.endswith("hook_z")


def both(
    model: HookedTransformer, inputs: Inputs, names: Callable[[str], bool]
) -> tuple[ActivationCache, ActivationCache]:
    """The clean and the corrupt run, cached."""
    _, clean = model.run_with_cache(inputs.clean, names_filter=names, return_type=None)
    _, corrupt = model.run_with_cache(inputs.corrupt, names_filter=names, return_type=None)
    return clean, corrupt


def freeze(
    z: Tensor,
    hook: HookPoint,
    clean: ActivationCache,
    corrupt: ActivationCache,
    sender: tuple[int, int],
    place: Place,
) -> Tensor:
    """Every head's z as it was in the clean run, the sender's as in the corrupt one at one
    position."""
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


def two_passes(
    model: HookedTransformer, inputs: Inputs, receivers: Receivers, stop: int | None
) -> Sweep:
    """IOI path patching, sender head > the receivers, all at one position: [senders, B].

    A first pass with the heads frozen gives what the receivers would have been, and ends before
    layer `stop` (None: at the logits); a second one, with nothing frozen, uses that.
    """
    clean, corrupt = both(model, inputs, is_z)
    place = inputs.place()

    def one(sender: tuple[int, int]) -> Tensor:
        kept: dict[str, Tensor] = {}

        def keep(x: Tensor, hook: HookPoint) -> None:
            kept[hook.name] = x[place]

        def put(x: Tensor, hook: HookPoint) -> Tensor:
            for part in receivers[hook.name]:
                x[*place, *part] = kept[hook.name][:, *part]
            return x

        hold = partial(freeze, clean=clean, corrupt=corrupt, sender=sender, place=place)
        model.run_with_hooks(
            inputs.clean,
            fwd_hooks=[(is_z, hold), (receivers.__contains__, keep)],
            stop_at_layer=stop,
        )
        return inputs.metric(
            model.run_with_hooks(inputs.clean, fwd_hooks=[(receivers.__contains__, put)])
        )

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


def values(inputs: Inputs) -> Receivers:
    """The receivers' v."""
    found: Receivers = {}
    for layer, head in inputs.heads("receivers"):
        found.setdefault(get_act_name("v", layer), []).append((head,))
    return found


def w3_v(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """IOI path patching to the receivers' v, with a shortcut: the first pass ends after the last
    receiver's layer."""
    return two_passes(
        model, inputs, values(inputs), max(layer for layer, _ in inputs.heads("receivers")) + 1
    )


def w3_v_paper(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """The same to the letter of Wang et al. 2022, Appendix B: two whole passes."""
    return two_passes(model, inputs, values(inputs), None)


def w3_out_paper(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """w3_out to the letter of Appendix B: a second whole pass, in which the final stream is what it
    was in the first."""
    return two_passes(
        model, inputs, {get_act_name("resid_post", model.cfg.n_layers - 1): [()]}, None
    )


def w3_frozen(model: HookedTransformer, inputs: Inputs, kind: str) -> Sweep:
    """Path patching, the edge meaning: sender head > the receivers (`kind`: "out" or "v") along the
    direct edges alone, all at one position: [senders, B]. One pass a sender, in which each port
    reads its stream plus the sender's change.
    """
    clean, corrupt = both(model, inputs, is_z)
    place = inputs.place()
    receivers = inputs.heads("receivers") if kind != "out" else [(model.cfg.n_layers, -1)]

    def change(layer: int, head: int) -> Tensor:
        name = get_act_name("z", layer)
        moved = torch.zeros(*inputs.clean.shape, model.cfg.d_model, dtype=model.cfg.dtype)
        moved[place] = (corrupt[name] - clean[name])[*place, head] @ model.blocks[layer].attn.W_O[
            head
        ]
        return moved

    def one(sender: tuple[int, int]) -> Tensor:
        edges = [
            Edge("head", *sender, kind, *receiver)
            for receiver in receivers
            if receiver[0] > sender[0]
        ]
        moved = change(*sender)
        return inputs.metric(
            model.run_with_hooks(
                inputs.clean, fwd_hooks=[port(model, edge, moved) for edge in edges]
            )
        )

    def run() -> Tensor:
        with split_inputs(model, kind):
            return torch.stack([one(sender) for sender in inputs.heads("senders")])

    return run


def heads_by_pos(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """TransformerLens' own get_act_patch_attn_head_out_all_pos, of every head or of those in
    `senders`: [heads, B].

    The corrupt run with one head's clean z at all positions. Its table holds means over B; the
    metric keeps each prompt's value.
    """
    _, clean = model.run_with_cache(inputs.clean, names_filter=is_z, return_type=None)
    some = (
        {"index_axis_names": None, "index_df": pandas.DataFrame(inputs.heads("senders"))}
        if "senders" in inputs.arrays
        else {}
    )

    def run() -> Tensor:
        metric = KeepingMetric(inputs)
        table = patching.get_act_patch_attn_head_out_all_pos(
            model, inputs.corrupt, clean, metric, **some
        )
        return metric.values_of(table.flatten())

    return run


def w1_edges(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """Exact edge patching, one edge a pass, at all positions: [edges, B].

    The port's input hook (hook_q_input, hook_mlp_in, ...) adds the sender's corrupt write less its
    clean one, before the LayerNorm. The split inputs that these hooks need are switched on for the
    edges that need them only.
    """
    sender_hooks = ("attn.hook_z", "hook_mlp_out", "blocks.0.hook_resid_pre")
    clean, corrupt = both(model, inputs, lambda name: name.endswith(sender_hooks))

    def change(edge: Edge) -> Tensor:
        if edge.sender_kind == "head":
            name = get_act_name("z", edge.sender_layer)
            z = corrupt[name][:, :, edge.sender_head] - clean[name][:, :, edge.sender_head]
            return z @ model.blocks[edge.sender_layer].attn.W_O[edge.sender_head]
        name = (
            "blocks.0.hook_resid_pre"
            if edge.sender_kind == "input"
            else get_act_name("mlp_out", edge.sender_layer)
        )
        return corrupt[name] - clean[name]

    def one(edge: Edge) -> Tensor:
        name, add = port(model, edge, change(edge))
        with split_inputs(model, edge.receiver_kind):
            return inputs.metric(model.run_with_hooks(inputs.clean, fwd_hooks=[(name, add)]))

    return lambda: torch.stack([one(edge) for edge in inputs.edges()])


@contextlib.contextmanager
def split_inputs(model: HookedTransformer, kind: str) -> Iterator[None]:
    """The input hooks that a port of this kind needs, switched on for a while."""
    model.set_use_split_qkv_input(kind in ("q", "k", "v"))
    model.set_use_hook_mlp_in(kind == "mlp")
    try:
        yield
    finally:
        model.set_use_split_qkv_input(False)
        model.set_use_hook_mlp_in(False)


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
    """Total effect of neurons of MLP `layer`, corrupt into clean, at the last position (`at_end`)
    or at all: [neurons, B]."""
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
    """run_with_cache of everything; with `use_attn_result` every head's write too. The logits at
    the last position: [B, V]."""

    def run() -> Tensor:
        model.set_use_attn_result(inputs.flag("use_attn_result"))
        try:
            logits, _cache = model.run_with_cache(inputs.clean)
        finally:
            model.set_use_attn_result(False)
        return logits[:, -1]

    return run


def w6_attribution(model: HookedTransformer, inputs: Inputs) -> Sweep:
    """Direct logit attribution of every head, then every neuron, at the last position, by its own
    decomposition: [heads + neurons, B].

    TransformerLens folds the final LayerNorm's weights into the unembedding before it attributes;
    here the direction has them.
    """

    def run() -> Tensor:
        _, cache = model.run_with_cache(inputs.clean, return_type=None)
        stack, labels = cache.get_full_resid_decomposition(
            expand_neurons=True, apply_ln=True, pos_slice=-1, return_labels=True
        )
        answers, distractors = (
            torch.from_numpy(inputs.arrays[name]).long() for name in ("answers", "distractors")
        )
        toward = (model.W_U[:, answers] - model.W_U[:, distractors]).T * model.ln_final.w
        rows = [i for i, label in enumerate(labels) if label.startswith("L")]
        return torch.einsum("nbd,bd->nb", stack[: len(rows)], toward)

    return run


WORKLOADS = {
    f.__name__: f
    for f in (
        w3_out,
        w3_out_paper,
        w3_v,
        w3_v_paper,
        heads_by_pos,
        w1_edges,
        w4_neurons,
        w5_cache,
        w6_attribution,
    )
}
WORKLOADS |= {f"w3_{kind}_frozen": partial(w3_frozen, kind=kind) for kind in ("out", "v")}
