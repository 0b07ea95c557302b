"""The exact weight of an edge of a feature graph: the model runs again without the sender, what the
MLPs behind it write is held, and what the heads that are nodes do; of a latent its score is read
where its MLP reads. What a head would write then is put in its place in a run of its own, in which
all else is computed again: its edge is what that costs the metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp import score
from interp.features.influence import kind
from interp.metrics import Metric
from minigpt import GPT2, Params, Patch, Site, Trace, ops, parse


class Reads(NamedTuple):
    """What is swept, and which latents are scored there."""

    want: str
    whole: Site
    latents: list[int]
    rows: list[int]  # their numbers among the receivers


def weights(
    model: GPT2,
    trace: Trace,
    metric: Metric,
    senders: Sequence[str],
    receivers: Sequence[str],
    *,
    progress: bool = False,
) -> Float[Tensor, "rows senders"]:
    """What each receiver, a latent "m3.l127@5" or a head "a2.6@5", and last the metric, loses
    without each sender ("m1.l7@2", "m1.e@2", "emb@2", "a1.3@2"), which takes the direct way.
    float64."""
    reads = _reads(receivers)
    wants = [metric.want, *(read.want for read in reads)]
    heads = [name for name in receivers if kind(name) == "head"]
    patches = [without(trace, sender, heads) for sender in senders]
    read = _reader(model.params, metric, reads, len(receivers))
    before = read(torch.stack([trace[want] for want in wants])[None])
    swept = model.rerun(trace, patches, [*wants, metric.want], progress=progress)
    found = (before - swept.map(read)).T
    for name, lost in _heads(model, trace, metric, senders, heads, progress):
        found[receivers.index(name)] = lost
    ways = [[leads(sender, receiver) for sender in senders] for receiver in receivers]
    ways.append([True] * len(senders))
    return torch.where(torch.tensor(ways), found, 0)


def leads(sender: str, receiver: str) -> bool:
    """Whether a sender can reach a latent or a head: from before it, and no later position."""
    a, b = parse(sender), parse(receiver)
    assert isinstance(a.at, int)
    assert isinstance(b.at, int)
    reached = b.site if kind(receiver) == "head" else Site("in", b.site.layer)
    return a.site.stage < reached.stage and a.at <= b.at


def without(trace: Trace, sender: str, heads: Sequence[str] = ()) -> Patch:
    """The sender writes nothing, and MLPs and these heads behind it what they wrote in this run."""
    site = parse(sender).site
    first = 0 if site.layer is None else site.layer + (kind(sender) != "head")
    behind = " ".join(f"m{layer}" for layer in range(first, trace.config.n_layer))
    taken = Patch.zero(sender)
    for head in heads:
        if parse(head).site.stage > site.stage:
            taken |= Patch.write(head, trace)
    return taken | Patch.hold(behind, trace) if behind else taken


def _heads(
    model: GPT2,
    trace: Trace,
    metric: Metric,
    senders: Sequence[str],
    heads: Sequence[str],
    progress: bool,
) -> Iterator[tuple[str, Float[Tensor, "senders"]]]:
    """Each of these heads, and what the metric loses by way of it without each sender."""
    before = metric(trace)[0]
    for layer in sorted({parse(name).site.depth for name in heads}):
        earlier = [name for name in heads if parse(name).site.depth < layer]
        patches = [without(trace, sender, earlier) for sender in senders]
        streams = model.rerun(trace, patches, f"resid{layer}").map(lambda x: x)[:, 0]
        for name in heads:
            if parse(name).site.depth != layer:
                continue
            changes = _written(trace, name, streams) - _written(trace, name, trace[f"resid{layer}"])
            new = (trace[name][0] + changes).to(trace[name].dtype)
            puts = [Patch.write(name, value, name="without") for value in new]
            after, _ = metric.after(model, trace, puts, progress=progress)
            yield name, torch.where(changes.any(1), before - after[:, 0], 0)


def _written(
    trace: Trace, name: str, stream: Float[Tensor, "runs pos d_model"]
) -> Float[Tensor, "runs d_model"]:
    """What a head, "a2.6@5", writes there where its layer reads this. float64."""
    address, params = parse(name), trace.params
    layer, head, at = address.site.depth, address.site.part or 0, address.at
    assert isinstance(at, int)
    block, d, heads = params.blocks[layer], params.config.d_model, params.config.n_head
    known = (x.double() for x in (block.ln1_w, block.ln1_b, block.w_qkv, block.b_qkv))
    ln_w, ln_b, w_qkv, b_qkv = known
    read = ops.layer_norm(stream[:, : at + 1].double(), ln_w, ln_b, params.config.eps)
    q, k, v = (read @ w_qkv + b_qkv).unflatten(-1, (3, heads, d // heads))[:, :, :, head].unbind(2)
    scores = (k @ q[:, at, :, None])[..., 0] / (d // heads) ** 0.5
    z = (scores.softmax(-1)[:, None] @ v)[:, 0]
    found: Tensor = z @ block.w_o.double().unflatten(0, (heads, -1))[head]
    return found


def _reads(receivers: Sequence[str]) -> list[Reads]:
    """The latents by what their MLP reads at their position."""
    found: dict[str, Reads] = {}
    for row, text in enumerate(receivers):
        if kind(text) != "latent":
            continue
        address = parse(text)
        whole = address.site.whole
        want = f"m{whole.layer}.in@{address.at}"
        read = found.setdefault(want, Reads(want, whole, [], []))
        read.latents.append(address.site.part or 0)
        read.rows.append(row)
    return list(found.values())


def _reader(
    params: Params, metric: Metric, reads: Sequence[Reads], n: int
) -> Callable[[Tensor], Tensor]:
    """From what is swept, [variants, wants, 1, d_model], to scores and metric, [variants, n+1]."""

    def read(values: Tensor) -> Tensor:
        found = torch.zeros(len(values), n + 1, dtype=torch.float64)
        found[:, n] = metric.of_many(values[:, 0], params)[:, 0]
        for i, one in enumerate(reads, 1):
            x = score.seen(params, one.whole, values[:, i, 0])
            found[:, one.rows] = score.of(params.dictionaries[str(one.whole)], x, one.latents)
        return found

    return read
