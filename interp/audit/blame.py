"""Where a run's error comes from, node by node, without gradients.

A run in a narrower type (or of a slightly different model) is the exact model with a small
departure at every node: what the node wrote in that run, less what the exact model (float64) writes
on that run's own input. A departure is a vector; added to what a bias writes, it is a patch of the
exact model. So the whole error can be put in and taken out, one node at a time, and every number in
between is an exact run:

    all departures in the exact model  = the narrower run (checked: nothing is left out of account)
    all but one node's                 = that node computed in float64, the others rounding as ever
    one node's only                    = just that node rounding
    the whole less every node's        = the exact run (checked: the nodes explain the error)

Nodes are heads, MLPs, biases, embeddings; and, since they round too, the stream's points (the sum,
and the product that is added), the final LayerNorm ("out") and the unembedding. Departures are held
fixed: a rounding is not drawn anew when its input moves a little. This is the running error
analysis of Wilkinson (Higham 2002, section 3.3), its errors followed through the whole model rather
than linearised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution import rounding_bound
from interp.metrics import Metric
from minigpt import GPT2, Config, Params, Patch, Site, Trace, ops, parse
from minigpt.address import heads
from minigpt.model import attention, grouped
from minigpt.shown import Shown

Vector = Float[Tensor, "batch width d_model"]
UNEMBED = "unembed"


@dataclass(frozen=True, eq=False, repr=False)
class Departures(Shown):
    """How a run departs from the exact model: `nodes` each by itself, `wholes` by the bias that
    carries them, made independently."""

    nodes: Mapping[str, Vector]
    wholes: Mapping[str, Vector]
    carrier: Mapping[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Blame(Shown):
    """The error of the metric, `error` [batch], and for each node what it is with that node's
    departure only, and without it [nodes, batch].

    emulated: the error with all departures put into the exact model; left: the error once every
    node's is taken out again; floor [batch]: what rounding in the exact model itself may do to the
    metric, a priori (attribution.rounding_bound).
    """

    names: tuple[str, ...]
    error: Float[Tensor, "batch"]
    only: Float[Tensor, "nodes batch"]
    without: Float[Tensor, "nodes batch"] | None
    emulated: Float[Tensor, "batch"]
    left: Float[Tensor, "batch"]
    floor: Float[Tensor, "batch"]
    config: Config

    @property
    def cost(self) -> Float[Tensor, "nodes"]:
        """What each node's rounding alone does to the metric: the mean size over prompts."""
        return self.only.abs().mean(1)

    @property
    def gain(self) -> Float[Tensor, "nodes"]:
        """How much smaller the error is with the node computed exactly; negative where it had
        cancelled others' errors."""
        assert self.without is not None
        return self.error.abs().mean() - self.without.abs().mean(1)

    @property
    def ranked(self) -> list[int]:
        """The nodes from the costliest on."""
        order: list[int] = self.cost.argsort(descending=True, stable=True).tolist()
        return order

    def grid(self) -> Float[Tensor, "layer head"]:
        """The cost of every head."""
        at = {name: i for i, name in enumerate(self.names)}
        flat = torch.stack([self.cost[at[str(head)]] for head in heads(self.config)])
        return flat.view(self.config.n_layer, self.config.n_head)


def departures(exact: GPT2, run: Trace) -> Departures:
    """What each node of a run wrote beyond what the exact model writes on the run's own input; all
    in float64."""
    nodes, wholes, carrier = _stem(exact, run)
    for layer in range(exact.config.n_layer):
        for name, parts, whole in (_attention(exact, run, layer), _mlp(exact, run, layer)):
            nodes |= parts
            wholes[name] = whole
            carrier |= dict.fromkeys(parts, name)
    final = run.cells[-1].out.double()
    wholes["out.b"] = nodes["out"] = _normed_out(
        run.params, run.cells[-1].out
    ).double() - _normed_out(exact.params, final)
    return Departures(nodes, wholes, {**carrier, "out": "out.b"})


def _stem(exact: GPT2, run: Trace) -> tuple[dict[str, Vector], dict[str, Vector], dict[str, str]]:
    low, right = [
        {name: t.write(Site(name)).double() for name in ("emb", "pos")}
        for t in (run, _like(exact, run))
    ]
    stream = run.cells[0].resid.double()
    nodes = {name: low[name] - right[name] for name in low} | {
        "resid0": stream - low["emb"] - low["pos"]
    }
    return nodes, {"emb": stream - (right["emb"] + right["pos"])}, dict.fromkeys(nodes, "emb")


def _attention(exact: GPT2, run: Trace, layer: int) -> tuple[str, dict[str, Vector], Vector]:
    """A layer's heads, bias, and the sum into the stream; and all of it at once."""
    low, right, cells = _block(run.params, layer), exact.params.blocks[layer], run.cells[layer]
    x, z, mid = (cell.double() for cell in (cells.resid, cells.z, cells.mid))
    c, normed = exact.config, ops.layer_norm(x, right.ln1_w, right.ln1_b, exact.config.eps)
    qkv = ops.linear(normed, right.w_qkv, right.b_qkv)
    better = attention(qkv, c.n_head, grouped(run.batch.lengths), ops.eager)
    wrote, writes = _per_head(z, low["w_o"], c.n_head), _per_head(better, right.w_o, c.n_head)
    nodes = {f"a{layer}.{h}": wrote[h] - writes[h] for h in range(c.n_head)}
    nodes[f"a{layer}.b"] = (low["b_o"] - right.b_o).expand_as(x)
    nodes[f"resid{layer}.mid"] = mid - (x + ops.linear(z, low["w_o"], low["b_o"]))
    return f"a{layer}.b", nodes, mid - (x + ops.linear(better, right.w_o, right.b_o))


def _mlp(exact: GPT2, run: Trace, layer: int) -> tuple[str, dict[str, Vector], Vector]:
    """A layer's MLP, bias, and the sum into the stream; and all of it at once."""
    low, right, cells = _block(run.params, layer), exact.params.blocks[layer], run.cells[layer]
    mid, act, out = cells.mid.double(), cells.act.double(), cells.out.double()
    normed = ops.layer_norm(mid, right.ln2_w, right.ln2_b, exact.config.eps)
    better = ops.gelu(ops.linear(normed, right.w_in, right.b_in))
    nodes = {
        f"m{layer}": act @ low["w_out"] - better @ right.w_out,
        f"m{layer}.b": (low["b_out"] - right.b_out).expand_as(mid),
        f"resid{layer + 1}": out - (mid + ops.linear(act, low["w_out"], low["b_out"])),
    }
    return f"m{layer}.b", nodes, out - (mid + ops.linear(better, right.w_out, right.b_out))


def blame(
    exact: GPT2, run: Trace, metric: Metric, *, without: bool = True, progress: bool = False
) -> Blame:
    """Each node's part in the error of a metric that is linear in the logits. without=False leaves
    out the runs of all but one node."""
    base, parts = exact.run(run.batch), departures(exact, run)
    right, wrong = (metric.direction(params) for params in (exact.params, run.params))
    names = tuple(parts.nodes)

    def errors(patches: Sequence[Patch], direction: Tensor) -> Tensor:
        out = exact.rerun(base, patches, f"out@{metric.position}", progress=progress).values
        return (out * direction).sum(-1) - metric(base)

    single = [_patch(base, {parts.carrier[name]: x}) for name, x in parts.nodes.items()]
    rest = [_patch(base, _less(parts, [name])) for name in names]
    whole = _patch(base, parts.wholes)
    unembedded = (base[f"out@{metric.position}"] * (wrong - right)).sum(-1)
    only = torch.cat([errors(single, right), unembedded[None]])
    kept = torch.cat([errors(rest, wrong), errors([whole], right)]) if without else None
    return Blame(
        (*names, UNEMBED),
        metric(run) - metric(base),
        only,
        kept,
        errors([whole], wrong)[0],
        errors([_patch(base, _less(parts, names))], right)[0],
        rounding_bound(base, metric),
        exact.config,
    )


def curve(
    exact: GPT2, run: Trace, metric: Metric, blamed: Blame, counts: Sequence[int]
) -> Float[Tensor, "counts batch"]:
    """The error that is left once the costliest nodes, so many of them, are computed exactly."""
    base, parts = exact.run(run.batch), departures(exact, run)
    order = [blamed.names[i] for i in blamed.ranked]
    patches = [_patch(base, _less(parts, order[:n])) for n in counts]
    out = exact.rerun(base, patches, f"out@{metric.position}").values
    directions = torch.stack(
        [metric.direction((exact if UNEMBED in order[:n] else run).params) for n in counts]
    )
    return (out * directions).sum(-1) - metric(base)


def _less(parts: Departures, names: Sequence[str]) -> dict[str, Vector]:
    """The wholes, less some nodes' own."""
    left = dict(parts.wholes)
    for name in names:
        if name != UNEMBED:
            left[parts.carrier[name]] = left[parts.carrier[name]] - parts.nodes[name]
    return left


def _patch(base: Trace, writes: Mapping[str, Vector]) -> Patch:
    """Each carrier writes what it writes anyway, and this on top."""
    width = base.tokens.shape[1]
    return Patch.all(
        Patch.write(name, (base.write(parse(name).site) + x)[:, :width])
        for name, x in writes.items()
    )


def _like(exact: GPT2, run: Trace) -> Trace:
    """The run's tokens in the exact model's embeddings."""
    return Trace(exact.params, run.batch, tuple(run.cells))


def _block(params: Params, layer: int) -> dict[str, Tensor]:
    return {name: x.double() for name, x in vars(params.blocks[layer]).items()}


def _per_head(z: Tensor, w: Tensor, n_head: int) -> list[Tensor]:
    return [part @ own for part, own in zip(z.chunk(n_head, dim=-1), w.chunk(n_head), strict=True)]


def _normed_out(params: Params, x: Tensor) -> Tensor:
    return ops.layer_norm(x, params.ln_w, params.ln_b, params.config.eps)
