"""Section 2: parts sum to their whole, each sum held to what rounding may do at most.

The gap of a sum is taken from values that the run recorded, in float64 or better; its bound is a
priori, of the very operations that made these values (interp/bounds.py): a write is a product,
gamma(n + 1) (|x| |w| + |b|), the stream after it an addition, u |result|; a head's own write is a
product of d_head terms; a neuron's one multiplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp import attribution, rounding, split
from interp.audit.row import Row, Section
from interp.metrics import Metric
from interp.numerics import bounds
from minigpt import Site, Trace
from minigpt.address import heads, nodes
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Shown):
    """One whole against the sum of its parts: how far they are apart, and how far they may be,
    number by number."""

    name: str
    gap: Float[Tensor, "*axes"]
    bound: Float[Tensor, "*axes"]

    @property
    def shares(self) -> Float[Tensor, "numbers"]:
        """The share of the bound that each number uses."""
        return (self.gap / self.bound.clamp(min=torch.finfo(torch.float64).tiny)).flatten()

    @property
    def used(self) -> float:
        """The largest of them."""
        return float(self.shares.max())


def section(trace: Trace, metric: Metric) -> Section:
    """Heads to layers, neurons to MLPs, writes to streams, direct effects to the metric; latents to
    what a dictionary of the model splits."""
    first, *others = streams(trace)
    kinds = {
        "a layer's heads and bias sum to its write": list(layers(trace)),
        "an MLP's neurons and bias sum to its write": list(mlps(trace, metric.position)),
        "token and position sum to the stream's beginning (one addition)": [first],
        "all writes before it sum to the stream, at every later point": others,
    }
    if trace.params.dictionaries:
        kinds["latents, decoder's bias and error sum to what is split"] = list(splits(trace))
    rows = [_row(promise, sums) for promise, sums in kinds.items()]
    rows += [_to_metric(trace, metric, by_neurons) for by_neurons in (False, True)]
    return Section(
        "closure",
        "Closure",
        "Every bias is a node, so that nothing is left over but rounding, and no term is defined "
        "as the rest. Bounds are "
        "a priori: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., equations 2.5 "
        "and 3.5, lemma 3.1.",
        tuple(rows),
        {"sums": [_plain(s) for s in chain(*kinds.values())]},
    )


def splits(trace: Trace) -> Iterator[Sum]:
    """Each write or stream point that has a dictionary, against its latents, bias and error."""
    for name in trace.params.dictionaries:
        found = split.closure(trace, name)
        yield Sum(name, found.gap, found.bound)


def layers(trace: Trace) -> Iterator[Sum]:
    """Each attention layer's write against its heads' and its bias."""
    for layer in range(trace.config.n_layer):
        whole, parts = Site("attn", layer), _parts(trace, layer)
        gap = (
            bounds.compensated([trace.write(part).double() for part in parts])
            - trace.write(whole).double()
        ).abs()
        yield Sum(
            str(whole),
            _inside(trace, gap),
            _inside(trace, _heads_error(trace, whole) + _product_error(trace, whole)),
        )


def mlps(trace: Trace, at: int | str) -> Iterator[Sum]:
    """Each MLP's write at one position of each prompt against its neurons' and its bias; a neuron's
    is one rounded multiplication."""
    dtype = trace.params.wte.dtype
    for layer, block in enumerate(trace.params.blocks):
        act = trace.act(f"m{layer}@{at}")
        writes = torch.cat(
            [act[..., None] * block.w_out, trace[f"m{layer}.b@{at}"][:, None]], dim=1
        ).double()
        allowed = (
            bounds.product(act, block.w_out, dtype, block.b_out)
            + bounds.added(writes, dtype).sum(1)
            + bounds.summed(writes.mT, torch.float64)
        )
        yield Sum(f"m{layer}", (writes.sum(1) - trace[f"m{layer}@{at}"].double()).abs(), allowed)


def streams(trace: Trace) -> Iterator[Sum]:
    """Every stream point against the sum of all nodes' writes before it, taken as if in twice
    float64's precision."""
    dtype, points = trace.params.wte.dtype, _points(trace)
    total, lost, bound = (
        torch.zeros_like(trace.stream(Site("resid", 0)), dtype=torch.float64) for _ in range(3)
    )
    for node in nodes(trace.config):
        if node.kind != "out.b":
            total, rest = bounds.two_sum(total, trace.write(node).double())
            lost = lost + rest
        if (last := str(node)) in points:
            whole = trace.stream(points[last])
            bound = bound + _write_error(trace, node) + bounds.added(whole, dtype)
            yield Sum(
                str(points[last]),
                _inside(trace, (total + lost - whole.double()).abs()),
                _inside(trace, bound),
            )


def _points(trace: Trace) -> dict[str, Site]:
    """The stream point that is complete once a node has written."""
    points = {"pos": Site("resid", 0)}
    for layer in range(trace.config.n_layer):
        points |= {f"a{layer}.b": Site("mid", layer), f"m{layer}": Site("resid", layer + 1)}
    return points


def _parts(trace: Trace, layer: int) -> list[Site]:
    return [*heads(trace.config, layer), Site("attn.b", layer)]


def _write_error(trace: Trace, last: Site) -> Tensor:
    """How far the products of the writes that end with this node may be off: as the pass made them,
    and as they are read off."""
    if last.kind == "pos":
        return torch.zeros((), dtype=torch.float64)
    if last.kind == "mlp":
        return 2 * _product_error(trace, last)
    whole = Site("attn", last.layer)
    return _heads_error(trace, whole) + _product_error(trace, whole)


def _product_error(trace: Trace, layer: Site) -> Tensor:
    return rounding.write(trace, layer, lambda x: x)


def _heads_error(trace: Trace, layer: Site) -> Tensor:
    z, w = trace.cells[layer.depth].z, trace.params.blocks[layer.depth].w_o
    n = trace.config.n_head
    each = [
        bounds.product(part, own, z.dtype)
        for part, own in zip(z.chunk(n, dim=-1), w.chunk(n), strict=True)
    ]
    return torch.stack(each).sum(0)


def _inside(trace: Trace, x: Float[Tensor, "batch width d_model"]) -> Float[Tensor, "rows d_model"]:
    """The rows that prompts have."""
    return x[:, : trace.tokens.shape[1]][trace.batch.mask]


def _row(promise: str, sums: Sequence[Sum]) -> Row:
    """The sum that uses most of its bound, where it does."""
    worst = max(sums, key=lambda s: s.used)
    gap, bound = (x.flatten()[worst.shares.argmax()] for x in (worst.gap, worst.bound))
    return Row.under(
        promise,
        float(gap),
        float(bound),
        f"{len(sums)} sum{'s; the one that uses most of its bound' if len(sums) > 1 else ''}",
        f"at {worst.name}",
    )


def _to_metric(trace: Trace, metric: Metric, neurons: bool) -> Row:
    effects = attribution.direct(trace, metric, neurons=neurons)
    found = attribution.closure(trace, metric, effects)
    return Row.under(
        f"direct effects of all nodes{', neurons one by one,' if neurons else ''} sum to the "
        f"{metric.name}",
        found.gap,
        found.bound,
        f"{len(effects)} nodes; the bound is attribution.rounding_bound",
    )


def _plain(s: Sum) -> dict[str, Any]:
    return {
        "name": s.name,
        "gap": float(s.gap.max()),
        "bound": float(s.bound.max()),
        "used": s.used,
    }
