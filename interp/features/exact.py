"""The exact weight of an edge of a feature graph: the model runs again without the sender, what the
MLPs behind it write is held, and the receiver's score is read where its MLP reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp import score
from interp.metrics import Metric
from minigpt import GPT2, Params, Patch, Site, Trace, parse


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
    """What each receiver, a latent "m3.l127@5", and last the metric, loses without each sender
    ("m1.l7@2", "m1.e@2", "emb@2"), which takes the direct way. float64."""
    reads = _reads(receivers)
    wants = [metric.want, *(read.want for read in reads)]
    patches = [without(trace, sender) for sender in senders]
    read = _reader(model.params, metric, reads, len(receivers))
    before = read(torch.stack([trace[want] for want in wants])[None])
    swept = model.rerun(trace, patches, [*wants, metric.want], progress=progress)
    ways = [[leads(sender, receiver) for sender in senders] for receiver in receivers]
    ways.append([True] * len(senders))
    return torch.where(torch.tensor(ways), (before - swept.map(read)).T, 0)


def leads(sender: str, receiver: str) -> bool:
    """Whether a sender can reach a latent: from an earlier layer, and no later position."""
    a, b = parse(sender), parse(receiver)
    assert isinstance(a.at, int)
    assert isinstance(b.at, int)
    return a.site.stage < Site("in", b.site.layer).stage and a.at <= b.at


def without(trace: Trace, sender: str) -> Patch:
    """The sender writes nothing, and MLPs behind it what they wrote in this run."""
    site = parse(sender).site
    first = 0 if site.layer is None else site.layer + 1
    behind = " ".join(f"m{layer}" for layer in range(first, trace.config.n_layer))
    taken = Patch.zero(sender)
    return taken | Patch.hold(behind, trace) if behind else taken


def _reads(receivers: Sequence[str]) -> list[Reads]:
    """The receivers by what their MLP reads at their position."""
    found: dict[str, Reads] = {}
    for row, text in enumerate(receivers):
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
        found = torch.empty(len(values), n + 1, dtype=torch.float64)
        found[:, n] = metric.of_many(values[:, 0], params)[:, 0]
        for i, one in enumerate(reads, 1):
            x = score.seen(params, one.whole, values[:, i, 0])
            found[:, one.rows] = score.of(params.dictionaries[str(one.whole)], x, one.latents)
        return found

    return read
