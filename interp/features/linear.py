"""The field's linear weight of an edge of a feature graph (circuit-tracer's convention; Ameisen et
al. 2025, Circuit Tracing): attention patterns and LayerNorms' scales are frozen at this run's, MLPs
pass nothing on, so that a receiver's score is linear in every write before it.

The weight is sender's write . g, g being carried back from the receiver through the stream and the
heads' values, but for heads that are nodes themselves. A dictionary that reads what an MLP writes,
not what it reads, is linear in nothing: there the GELU's slope at this run stands for it. What a
head that is a node receives is what it adds straight to the metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, score
from interp.features.influence import kind
from interp.metrics import Metric
from interp.parts import before_norm
from minigpt import Site, Trace, ops, parse

# One direction for each receiver and position.
Back = Float[Tensor, "receivers pos d_model"]


class Gradients(NamedTuple):
    """What a unit of each direction of the stream adds to each receiver, and last to the metric:
    before each layer and behind the last, and between each layer's heads and its MLP."""

    before: list[Back]
    between: list[Back]


def weights(
    trace: Trace, metric: Metric, senders: Sequence[str], receivers: Sequence[str]
) -> Float[Tensor, "rows senders"]:
    """The weights of the edges from each sender to each receiver, a latent of an MLP or a head, and
    last to the metric. float64."""
    behind = gradients(trace, metric, receivers)
    found = []
    for sender in senders:
        address = parse(sender)
        site = address.site
        assert isinstance(address.at, int)
        if kind(sender) == "head":
            point = behind.between[site.depth]
        else:
            point = behind.before[0 if site.layer is None else site.layer + 1]
        found.append(point[:, address.at] @ trace.write(site)[0, address.at].double())
    return torch.stack(found, 1)


def gradients(trace: Trace, metric: Metric, receivers: Sequence[str]) -> Gradients:
    """Carried back from the receivers, and last from the metric, as far as the embedding."""
    n, (_, width), d = len(receivers), trace.tokens.shape, trace.config.d_model
    back = torch.zeros(n + 1, width, d, dtype=torch.float64)
    back[n, int(trace.batch.index(metric.position)[0])] = attribution.gradient(trace, metric)[0]
    before, between = [back], list[Back]()
    for layer in reversed(range(trace.config.n_layer)):
        mid = back.clone()
        for row, at, toward in _starts(trace, layer, receivers):
            mid[row, at] = toward
        back = mid + _through_heads(trace, layer, mid, _nodes(layer, receivers))
        before.append(back)
        between.append(mid)
    return Gradients(before[::-1], between[::-1])


def _nodes(layer: int, receivers: Sequence[str]) -> list[tuple[int, int, int]]:
    """The heads of a layer that are receivers: row, head, position."""
    found = []
    for row, text in enumerate(receivers):
        address = parse(text)
        if kind(text) == "head" and address.site.layer == layer:
            assert isinstance(address.at, int)
            found.append((row, address.site.part or 0, address.at))
    return found


def _starts(
    trace: Trace, layer: int, receivers: Sequence[str]
) -> Iterator[tuple[int, int, Float[Tensor, "d_model"]]]:
    """For each receiver of this layer's MLP, what a unit of each direction of the stream before its
    LayerNorm adds to its score."""
    for row, text in enumerate(receivers):
        address = parse(text)
        if kind(text) == "latent" and address.site.depth == layer:
            assert isinstance(address.at, int)
            yield row, address.at, at_stream(trace, text)


def at_stream(trace: Trace, receiver: str) -> Float[Tensor, "d_model"]:
    """What a unit of each direction of the stream before the MLP's LayerNorm adds to the score of
    one of its latents, "m3.l127@5", in the first prompt. float64."""
    address = parse(receiver)
    assert isinstance(address.at, int)
    block, port = trace.params.blocks[address.site.depth], Site("in", address.site.layer)
    sigma = ops.scale(trace.stream(port)[0, address.at].double(), trace.config.eps)
    return before_norm(_at_input(trace, receiver), block.ln2_w, sigma)


def _at_input(trace: Trace, receiver: str) -> Float[Tensor, "d_model"]:
    """What a unit of each direction of what the MLP reads adds to a latent's score."""
    address = parse(receiver)
    known, block = trace.params.dictionary(address.site), trace.params.blocks[address.site.depth]
    assert isinstance(address.at, int)
    x = trace.split(address.site).x[:1, address.at]
    toward = score.gradient(known, address.site, x)[0][0]
    if known.reads.endswith(".in"):
        return toward
    into = toward if known.reads.endswith(".act") else block.w_out.double() @ toward
    read = trace[f"m{address.site.layer}.in@{address.at}"][0].double()
    u = read @ block.w_in.double() + block.b_in.double()
    return block.w_in.double() @ (slope(u) * into)


def slope(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The derivative of the GELU's tanh form."""
    c = math.sqrt(2 / math.pi)
    t = torch.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * c * (1 + 3 * 0.044715 * x**2)


def _through_heads(
    trace: Trace, layer: int, back: Back, nodes: Sequence[tuple[int, int, int]]
) -> Back:
    """What a unit of each direction of the stream before attention adds by way of the heads'
    values, patterns and LayerNorm's scale frozen. To a head that is a node by its own value alone,
    from what it adds to the metric, the last row; to all else not by such heads."""
    block, heads = trace.params.blocks[layer], trace.config.n_head
    d = trace.config.d_model
    w_o = block.w_o.double().unflatten(0, (heads, -1))
    w_v = block.w_qkv[:, 2 * d :].double().unflatten(1, (heads, -1))
    pattern = trace[f"a{layer}.pattern"][0].double().repeat(len(back), 1, 1, 1)
    own, toward = pattern[0].clone(), back.clone()
    for _, head, at in nodes:
        pattern[:, head, at] = 0
    for row, head, at in nodes:
        pattern[row] = 0
        pattern[row, head, at] = own[head, at]
        toward[row, at] = back[-1, at]
    z = torch.einsum("rtd,hed->rhte", toward, w_o)
    values = torch.einsum("rhts,rhte->rhse", pattern, z)
    read = torch.einsum("rhse,dhe->rsd", values, w_v)
    sigma = ops.scale(trace.stream(parse(f"resid{layer}").site)[0].double(), trace.config.eps)
    return before_norm(read, block.ln1_w, sigma.expand(read.shape[:2]))
