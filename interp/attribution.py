"""Direct attribution: which writes to the residual stream make up the metric, read straight off one
run.

The final LayerNorm is what it was in the run: out = (x - mean x) / sigma * w + b. So a metric u .
out of a stream x that is a sum of writes is the sum over writes of write . g, with g = (w u -
mean(w u)) / sigma, plus b . u: every term is a node, and the terms sum to the metric with no
remainder. Sums are taken in float64 from the values that the run recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp import rounding
from interp.effects import Effects
from interp.metrics import Metric, MetricError
from minigpt import Site, Trace, ops
from minigpt.address import streams

Row = tuple[str, Float[Tensor, "batch"]]


def direct(
    trace: Trace, metric: Metric, *, neurons: bool | Sequence[int] = False, sources: bool = False
) -> Effects:
    """Every node's direct effect on a metric that is linear in the logits; the rows sum to the
    metric.

    neurons: split the MLPs (True: all; or these layers) into neurons and bias. sources: split every
    head by the position whose value it read ("a9.9.v@5"). Known in the field as direct logit
    attribution. In a patched run, what an edit wrote into a stream or the output's input is a row
    of its own, as is a vector written to a whole.
    """
    split = range(trace.config.n_layer) if neurons is True else neurons or ()
    read, toward = _reader(trace, metric), gradient(trace, metric)
    rows = [*_embedding(trace, metric, toward)]
    for layer, block in enumerate(trace.params.blocks):
        into_heads = (toward @ block.w_o.double().T).unflatten(-1, (trace.config.n_head, -1))
        rows += (
            _sources(trace, metric, layer, into_heads)
            if sources
            else _heads(trace, layer, read, into_heads)
        )
        rows += [(f"a{layer}.b", toward @ block.b_o.double())]
        rows += _mlp(
            layer,
            read(trace.cells[layer].act).double() * (toward @ block.w_out.double().T),
            toward @ block.b_out.double(),
            layer in split,
        )
    rows += [
        (
            "out.b",
            metric.direction(trace.params).expand(len(toward), -1) @ trace.params.ln_b.double(),
        )
    ]
    return _effects(
        "direct effect", trace, metric, _joined([*rows, *_edits(trace, metric, read, toward)])
    )


def gradient(trace: Trace, metric: Metric) -> Float[Tensor, "batch d_model"]:
    """g: what a unit of each direction of the final stream adds to the metric, the final
    LayerNorm's scale being the run's. float64."""
    if not metric.linear:
        raise MetricError(
            f"direct effects on {metric.name}",
            "a metric that is linear in the logits",
            "metrics.logit_diff or metrics.logit",
        )
    scaled = metric.direction(trace.params) * trace.params.ln_w.double()
    sigma = ops.scale(_reader(trace, metric)(trace.stream(Site("out"))).double(), trace.config.eps)
    return (scaled - scaled.mean(-1, keepdim=True)) / sigma[:, None]


def logit_lens(trace: Trace, metric: Metric) -> Effects:
    """The metric as it would be if the model stopped at each point of the stream (nostalgebraist
    2020): values, not differences."""
    rows = []
    for site in streams(trace.config):
        x = ops.layer_norm(
            trace[f"{site}@{metric.at}"], trace.params.ln_w, trace.params.ln_b, trace.config.eps
        )
        rows.append((str(site), metric.of_output(x, trace.params)))
    return _effects("logit lens", trace, metric, rows)


@dataclass(frozen=True)
class Closure:
    """How well the rows sum to the metric, the worst prompt: the gap, and the a-priori bound on
    what rounding may cause."""

    total: float
    metric: float
    gap: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the gap is under the bound."""
        return self.gap <= self.bound


def closure(trace: Trace, metric: Metric, effects: Effects) -> Closure:
    """Compare the sum of direct effects with the metric, and with the bound of `rounding_bound`."""
    total, bound = effects.per_prompt.sum(0), rounding_bound(trace, metric)
    gap = (total - effects.base).abs()
    worst = int((gap / bound).argmax())
    return Closure(
        float(total.mean()), float(effects.base.mean()), float(gap[worst]), float(bound[worst])
    )


def rounding_bound(trace: Trace, metric: Metric) -> Float[Tensor, "batch"]:
    """An a-priori bound on |sum of direct effects - metric|, from the run's own numbers: what
    rounding may do to the final stream, and then to its LayerNorm (interp.rounding)."""
    read, out, params = _reader(trace, metric), Site("out"), trace.params
    norm = rounding.normed(read(trace.stream(out)), params.ln_w, params.ln_b, trace.config.eps)
    error = rounding.stream(trace, out, read) * gradient(trace, metric).abs()
    return error.sum(-1) + (norm * metric.direction(params).abs()).sum(-1)


def _reader(trace: Trace, metric: Metric) -> Callable[[Tensor], Tensor]:
    """Takes the metric's position out of [batch, pos, ...]."""
    rows, each = (
        trace.batch.index(metric.at),
        torch.arange(len(trace.tokens), device=trace.tokens.device),
    )
    return lambda x: x[each, rows]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b).sum(-1)


def _embedding(trace: Trace, metric: Metric, toward: Tensor) -> list[Row]:
    computed = replace(trace, overrides={})
    return [(name, _dot(computed[f"{name}@{metric.at}"], toward)) for name in ("emb", "pos")]


def _edits(
    trace: Trace, metric: Metric, read: Callable[[Tensor], Tensor], toward: Tensor
) -> list[Row]:
    """What edits put in the place of what nodes wrote or a stream was: the difference it makes, by
    what was written."""
    computed, rows, output = replace(trace, overrides={}, ports={}), [], Site("out")
    for site, override in trace.overrides.items():
        if site.kind != "pattern":
            own = unwritten(trace, site) if site.role == "stream" else computed.write(site)
            differs = torch.where(
                read(override.rows)[:, None], read(override.values).double() - read(own).double(), 0
            )
            rows.append(
                (
                    str(site),
                    _dot(
                        differs, metric.direction(trace.params) if site.kind == "out.b" else toward
                    ),
                )
            )
    if output in trace.ports:
        rows.append(
            (
                "out",
                _dot(
                    read(trace.ports[output]).double() - read(computed.stream(output)).double(),
                    toward,
                ),
            )
        )
    return rows


def unwritten(trace: Trace, site: Site) -> Float[Tensor, "batch pos d_model"]:
    """A point of the stream as the nodes before it left it."""
    layer = site.depth
    if site.kind == "mid":
        return trace.cells[layer].resid + trace.write(Site("attn", layer))
    if layer:
        return trace.cells[layer - 1].mid + trace.write(Site("mlp", layer - 1))
    return trace.write(Site("input"))


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Rows of one name added up."""
    found: dict[str, Tensor] = {}
    for name, values in rows:
        found[name] = found[name] + values if name in found else values
    return list(found.items())


def _heads(
    trace: Trace,
    layer: int,
    read: Callable[[Tensor], Tensor],
    into: Float[Tensor, "batch head d_head"],
) -> list[Row]:
    effects = _dot(read(trace.cells[layer].z).unflatten(-1, into.shape[1:]), into)
    return [(str(Site("attn", layer, head)), effects[:, head]) for head in range(into.shape[1])]


def _sources(
    trace: Trace, metric: Metric, layer: int, into: Float[Tensor, "batch head d_head"]
) -> list[Row]:
    """Each head's effect split by where the value came from: attention weight times the value's own
    effect."""
    weights = trace[f"a{layer}.pattern@{metric.at}"].double()
    values = trace.heads(layer, "v")[:, :, : weights.shape[-1]].double()
    effects = weights * torch.einsum("bhtd,bhd->bht", values, into)
    return [
        (f"a{layer}.{head}.v@{t}", effects[:, head, t])
        for head in range(effects.shape[1])
        for t in range(effects.shape[2])
    ]


def _mlp(
    layer: int, neurons: Float[Tensor, "batch d_mlp"], bias: Float[Tensor, "batch"], split: bool
) -> list[Row]:
    if not split:
        return [(f"m{layer}", neurons.sum(-1) + bias)]
    return [
        *((f"m{layer}.n{n}", effect) for n, effect in enumerate(neurons.unbind(1))),
        (f"m{layer}.b", bias),
    ]


def _effects(method: str, trace: Trace, metric: Metric, rows: Sequence[Row]) -> Effects:
    base = metric(trace)
    table = torch.stack([row.expand(len(base)) for _, row in rows])
    return Effects(method, metric.name, tuple(name for name, _ in rows), table, base, trace.config)
