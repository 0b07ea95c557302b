"""Plain PyTorch hooks on Hugging Face's GPT2LMHeadModel: what somebody writes who uses no
interpretability library.

One forward pass of all prompts for each variant. Logits are computed at the last position only,
with the model's own `logits_to_keep`, except in w5_cache; attention is the model's default (sdpa).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import GPT2LMHeadModel

from benchmarks.peers.inputs import Edge, Inputs, Place, Sweep

Record = dict[Hashable, Tensor]


def load(folder: str, dtype: torch.dtype) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()


@contextlib.contextmanager
def hooked(*handles: RemovableHandle) -> Iterator[None]:
    """Take hooks away again at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def last_logits(model: GPT2LMHeadModel, tokens: Tensor) -> Tensor:
    return model(tokens, use_cache=False, logits_to_keep=1).logits


def record(
    run: Callable[[], Any],
    reads: Mapping[Hashable, nn.Module],
    writes: Mapping[Hashable, nn.Module],
) -> Record:
    """One run; what some modules read, and what some wrote."""
    seen: Record = {}

    def keep_read(key: Hashable, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[key] = args[0]

    def keep_write(key: Hashable, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        seen[key] = out[0] if isinstance(out, tuple) else out

    with hooked(
        *(
            module.register_forward_pre_hook(partial(keep_read, key))
            for key, module in reads.items()
        ),
        *(module.register_forward_hook(partial(keep_write, key)) for key, module in writes.items()),
    ):
        run()
    return seen


def both(
    model: GPT2LMHeadModel,
    inputs: Inputs,
    reads: Mapping[Hashable, nn.Module],
    writes: Mapping[Hashable, nn.Module] | None = None,
) -> tuple[Record, Record]:
    """The clean and the corrupt run, recorded."""
    clean, corrupt = (
        record(partial(model.transformer, tokens, use_cache=False), reads, writes or {})
        for tokens in (inputs.clean, inputs.corrupt)
    )
    return clean, corrupt


def columns(model: GPT2LMHeadModel, head: int, kind: str = "q") -> slice:
    """A head's columns in c_attn's output, where all q come first, then all k, then all v; as "q"
    also in c_proj's input."""
    width = model.config.n_embd
    size = width // model.config.n_head
    start = width * "qkv".index(kind) + size * head
    return slice(start, start + size)


def projections(model: GPT2LMHeadModel) -> dict[Hashable, nn.Module]:
    """The modules that read the heads' z, by layer."""
    return {layer: block.attn.c_proj for layer, block in enumerate(model.transformer.h)}


def frozen(
    model: GPT2LMHeadModel, clean: Record, corrupt: Record, sender: tuple[int, int], place: Place
) -> Iterator[RemovableHandle]:
    """Hooks that keep every head's z at its clean value, and put the sender's corrupt one in at one
    position."""
    layer, head = sender
    part = columns(model, head)
    z = clean[layer].clone()
    z[*place, part] = corrupt[layer][*place, part]
    for at, module in projections(model).items():
        held = z if at == layer else clean[at]
        yield module.register_forward_pre_hook(lambda _, args, held=held: (held,))


def w3_out(model: GPT2LMHeadModel, inputs: Inputs) -> Sweep:
    """IOI path patching, sender head > out at the last position: [senders, B]."""
    clean, corrupt = both(model, inputs, projections(model))

    def one(sender: tuple[int, int]) -> Tensor:
        with hooked(*frozen(model, clean, corrupt, sender, inputs.place())):
            return inputs.metric(last_logits(model, inputs.clean))

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


class Reached(Exception):
    """Ends a forward pass early, from a hook."""


def w3_heads(model: GPT2LMHeadModel, inputs: Inputs, kind: str) -> Sweep:
    """IOI path patching, sender head > the receivers' q, k or v (`kind`), all at one position:
    [senders, B].

    A first pass with the heads frozen gives the receivers' values, and ends there; a second one,
    with nothing frozen, uses them.
    """
    clean, corrupt = both(model, inputs, projections(model))
    place = inputs.place()
    receivers = inputs.heads("receivers")
    modules = {layer: model.transformer.h[layer].attn.c_attn for layer, _ in receivers}
    final = max(modules)

    def values(sender: tuple[int, int]) -> dict[int, Tensor]:
        kept: dict[int, Tensor] = {}

        def keep(layer: int, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            kept[layer] = out[place]
            if layer == final:
                raise Reached

        with (
            hooked(
                *frozen(model, clean, corrupt, sender, place),
                *(
                    module.register_forward_hook(partial(keep, layer))
                    for layer, module in modules.items()
                ),
            ),
            contextlib.suppress(Reached),
        ):
            model.transformer(inputs.clean, use_cache=False)
        return kept

    def one(sender: tuple[int, int]) -> Tensor:
        kept = values(sender)

        def put(layer: int, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            for part in (columns(model, head, kind) for at, head in receivers if at == layer):
                out[*place, part] = kept[layer][:, part]
            return out

        with hooked(
            *(
                module.register_forward_hook(partial(put, layer))
                for layer, module in modules.items()
            )
        ):
            return inputs.metric(last_logits(model, inputs.clean))

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


def w3_frozen(model: GPT2LMHeadModel, inputs: Inputs, kind: str) -> Sweep:
    """Path patching, the edge meaning: sender head > the receivers (`kind`: "out" or their q, k, v)
    along the direct edges alone, all at one position: [senders, B]. One pass a sender, in which
    each port reads its stream plus the sender's change.
    """
    clean, corrupt = both(model, inputs, projections(model))
    place = inputs.place()
    receivers = inputs.heads("receivers") if kind != "out" else [(model.config.n_layer, -1)]

    def change(layer: int, head: int) -> Tensor:
        part = columns(model, head)
        moved = torch.zeros_like(clean[layer])
        moved[place] = (corrupt[layer] - clean[layer])[*place, part] @ model.transformer.h[
            layer
        ].attn.c_proj.weight[part]
        return moved

    def one(sender: tuple[int, int]) -> Tensor:
        edges = [
            Edge("head", *sender, kind, *receiver)
            for receiver in receivers
            if receiver[0] > sender[0]
        ]
        moved = change(*sender)
        with hooked(*(handle for edge in edges for handle in port(model, edge, moved))):
            return inputs.metric(last_logits(model, inputs.clean))

    return lambda: torch.stack([one(sender) for sender in inputs.heads("senders")])


def heads_by_pos(model: GPT2LMHeadModel, inputs: Inputs) -> Sweep:
    """Denoising: the corrupt run with one head's clean z at all positions, every head or those in
    `senders`: [heads, B]."""
    clean = record(
        partial(model.transformer, inputs.clean, use_cache=False), projections(model), {}
    )

    def one(layer: int, head: int) -> Tensor:
        part = columns(model, head)

        def put(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0][..., part] = clean[layer][..., part]

        with hooked(model.transformer.h[layer].attn.c_proj.register_forward_pre_hook(put)):
            return inputs.metric(last_logits(model, inputs.corrupt))

    every = itertools.product(range(model.config.n_layer), range(model.config.n_head))
    heads = inputs.heads("senders") if "senders" in inputs.arrays else list(every)
    return lambda: torch.stack([one(*head) for head in heads])


def w1_edges(model: GPT2LMHeadModel, inputs: Inputs) -> Sweep:
    """Exact edge patching, one edge a pass, at all positions: [edges, B].

    The port reads its stream plus the sender's corrupt write less its clean one, through its
    LayerNorm; all else follows.
    """
    blocks = model.transformer.h
    z = {("z", layer): block.attn.c_proj for layer, block in enumerate(blocks)}
    mlps = {("mlp", layer): block.mlp for layer, block in enumerate(blocks)}
    clean, corrupt = both(model, inputs, {"input": blocks[0].ln_1, **z}, mlps)

    def change(edge: Edge) -> Tensor:
        if edge.sender_kind == "head":
            key, part = ("z", edge.sender_layer), columns(model, edge.sender_head)
            return (corrupt[key] - clean[key])[..., part] @ blocks[
                edge.sender_layer
            ].attn.c_proj.weight[part]
        key = "input" if edge.sender_kind == "input" else ("mlp", edge.sender_layer)
        return corrupt[key] - clean[key]

    def one(edge: Edge) -> Tensor:
        with hooked(*port(model, edge, change(edge))):
            return inputs.metric(last_logits(model, inputs.clean))

    return lambda: torch.stack([one(edge) for edge in inputs.edges()])


def port(model: GPT2LMHeadModel, edge: Edge, change: Tensor) -> Iterator[RemovableHandle]:
    """Hooks by which one port alone reads the stream plus a change."""

    def normed(norm: nn.LayerNorm, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
        return norm.forward(args[0] + change)

    if edge.receiver_kind == "out":
        yield model.transformer.ln_f.register_forward_hook(normed)
        return
    block = model.transformer.h[edge.receiver_layer]
    if edge.receiver_kind == "mlp":
        yield block.ln_2.register_forward_hook(normed)
        return
    part = columns(model, edge.receiver_head, edge.receiver_kind)
    read: list[Tensor] = []

    def keep(norm: nn.LayerNorm, args: tuple[Tensor, ...], out: Tensor) -> None:
        read.append(normed(norm, args, out))

    def put(c_attn: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        out[..., part] = read.pop() @ c_attn.weight[:, part] + c_attn.bias[part]
        return out

    yield block.ln_1.register_forward_hook(keep)
    yield block.attn.c_attn.register_forward_hook(put)


def w4_neurons(model: GPT2LMHeadModel, inputs: Inputs) -> Sweep:
    """Total effect of neurons of MLP `layer`, corrupt into clean, at the last position (`at_end`)
    or at all: [neurons, B]."""
    module = model.transformer.h[inputs.integer("layer")].mlp.c_proj
    _, corrupt = both(model, inputs, {"act": module})
    where = slice(-1, None) if inputs.flag("at_end") else slice(None)

    def one(neuron: int) -> Tensor:
        def put(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0][:, where, neuron] = corrupt["act"][:, where, neuron]

        with hooked(module.register_forward_pre_hook(put)):
            return inputs.metric(last_logits(model, inputs.clean))

    return lambda: torch.stack([one(neuron) for neuron in inputs.arrays["neurons"].tolist()])


def w5_cache(model: GPT2LMHeadModel, inputs: Inputs) -> Sweep:
    """One pass that keeps the outputs of each layer's attention and MLP; with `everything`, what
    the model itself can return (hidden states and patterns, with eager attention). All logits are
    computed; those at the last position: [B, V].
    """
    blocks = model.transformer.h
    writes = {
        (name, layer): getattr(block, name)
        for layer, block in enumerate(blocks)
        for name in ("attn", "mlp")
    }

    def layers() -> Tensor:
        kept = record(
            partial(model, inputs.clean, use_cache=False), {}, {**writes, "logits": model.lm_head}
        )
        return kept["logits"][:, -1]

    def everything() -> Tensor:
        model.set_attn_implementation("eager")
        try:
            out = model(
                inputs.clean, use_cache=False, output_hidden_states=True, output_attentions=True
            )
        finally:
            model.set_attn_implementation("sdpa")
        assert out.attentions[-1] is not None
        return out.logits[:, -1]

    return everything if inputs.flag("everything") else layers


WORKLOADS = {f.__name__: f for f in (w3_out, heads_by_pos, w1_edges, w4_neurons, w5_cache)}
WORKLOADS |= {f"w3_{kind}": partial(w3_heads, kind=kind) for kind in "qkv"}
WORKLOADS |= {f"w3_{kind}_frozen": partial(w3_frozen, kind=kind) for kind in ("out", "q", "k", "v")}
