"""Direct attribution: which writes to the residual stream make up the metric, read straight off one
run.

The final LayerNorm is what it was in the run: out = (x - mean x) / sigma * w + b. So a metric u .
out of a stream x that is a sum of writes is the sum over writes of write . g, with g = (w u -
mean(w u)) / sigma, plus b . u: every term is a node, and the terms sum to the metric with no
remainder. Sums are taken in float64 from the values that the run recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp import rounding
from interp.effects import Effects
from interp.metrics import Metric, MetricError
from interp.numerics import bounds
from interp.parts import Parts, before_norm, granted, named, within
from minigpt import Params, Site, Trace, ops, parse
from minigpt.address import streams
from minigpt.errors import AddressError
from minigpt.shown import Shown

Row = tuple[str, Float[Tensor, "batch"]]


@dataclass(frozen=True, eq=False, repr=False)
class Changed(Shown):
    """What became of every direct effect from one run to another. write: what the nodes' own writes
    changed; scale: what the final LayerNorm's scale did to them. The two sum to the difference."""

    write: Effects
    scale: Effects


def direct(
    trace: Trace,
    metric: Metric,
    *,
    neurons: bool | Sequence[int] = False,
    sources: bool = False,
    latents: Sequence[str] = (),
    scale: Float[Tensor, "batch"] | None = None,
) -> Effects:
    """Every node's direct effect on a metric that is linear in the logits; the rows sum to the
    metric.

    neurons: split the MLPs (True: all; or these layers) into neurons and bias. sources: split every
    head by the position whose value it read ("a9.9.v@5"). latents: split these writes, "m3" or "a5"
    (not with sources), by the model's dictionaries into latents, decoder's bias and error; or one
    stream point, "resid6", whose latents stand for all writes before it. Known in the field as
    direct logit attribution. In a patched run, what an edit wrote into a stream or the
    output's input is a row of its own, as is a vector written to a whole. scale: divide by this,
    the final LayerNorm's scale of another run; then the rows do not sum to the metric, but show
    what the writes alone do.
    """
    split = range(trace.config.n_layer) if neurons is True else neurons or ()
    out = Parts(trace, Site("out"), _reader(trace, metric), gradient(trace, metric, scale))
    wholes = _wholes(trace, latents, sources)
    every = out.cut(split, wholes)
    parts = [part for part in every if not (sources and part[0].kind == "attn")]
    edits = out.edits([*wholes, *(site for site, _ in parts)])
    edits = (part for part in edits if not within(part[0], wholes))
    rows = [
        *named(parts),
        *(_sources(trace, metric, out.toward) if sources else ()),
        ("out.b", _bias(trace, metric)),
        *named(edits),
        *_port(out),
    ]
    return _effects("direct effect", trace, metric, rows)


def _wholes(trace: Trace, latents: Sequence[str], sources: bool) -> list[Site]:
    """The writes, or the stream point, that are split by their dictionaries."""
    sites = [parse(text, trace.config).site for text in dict.fromkeys(latents)]
    for site in sites:
        legal = ("mlp",) if sources else ("mlp", "attn", "resid", "mid")
        if site.kind not in legal or site.part is not None:
            raise AddressError(
                f"latents of '{site}'",
                "what an MLP writes, or (sources=False) an attention layer, or a stream point",
            )
        if within(site, [other for other in sites if other != site]):
            raise AddressError(
                f"latents of '{site}' and of a stream point behind it, which stand for all before",
                "writes behind the stream point, or those alone",
            )
    return sites


def splits(params: Params, *, sources: bool = False) -> list[str]:
    """What `direct` can split at once with the model's dictionaries: all writes that have one (with
    sources: MLPs'); or, where none has, the last stream point."""
    known, kinds = list(params.dictionaries), ("mlp",) if sources else ("mlp", "attn")
    writes = [name for name in known if parse(name).site.kind in kinds]
    return writes or sorted(known, key=lambda name: parse(name).site.stage)[-1:]


def changed(
    before: Trace,
    after: Trace,
    metric: Metric,
    *,
    neurons: bool | Sequence[int] = False,
    sources: bool = False,
    latents: Sequence[str] = (),
) -> Changed:
    """The difference of every node's direct effect between two runs of the same prompts, split into
    *write changed* (at the scale that the final LayerNorm had before) and *scale changed*.

    Ablate a head, and every effect grows as the stream grows shorter: only `write` says who
    responds.
    """

    def read(trace: Trace, scale: Float[Tensor, "batch"] | None) -> Effects:
        return direct(trace, metric, neurons=neurons, sources=sources, latents=latents, scale=scale)

    first, fixed, last = (
        read(before, None),
        read(after, final_scale(before, metric)),
        read(after, None),
    )
    names = tuple(dict.fromkeys((*first.addresses, *last.addresses)))
    a, b, c = (_under(names, effects) for effects in (first, fixed, last))
    return Changed(
        replace(first, method="write changed", addresses=names, per_prompt=b - a),
        replace(first, method="scale changed", addresses=names, per_prompt=c - b),
    )


def _under(names: Sequence[str], effects: Effects) -> Float[Tensor, "rows batch"]:
    """The effects by these names, 0 where there is no such row."""
    known = dict(zip(effects.addresses, effects.per_prompt, strict=True))
    nothing = torch.zeros_like(effects.per_prompt[0])
    return torch.stack([known.get(name, nothing) for name in names])


def final_scale(trace: Trace, metric: Metric) -> Float[Tensor, "batch"]:
    """The final LayerNorm's standard deviation where the metric reads. float64."""
    return ops.scale(_reader(trace, metric)(trace.stream(Site("out"))).double(), trace.config.eps)


def gradient(
    trace: Trace, metric: Metric, scale: Float[Tensor, "batch"] | None = None
) -> Float[Tensor, "batch d_model"]:
    """g: what a unit of each direction of the final stream adds to the metric, the final
    LayerNorm's scale being the run's (or this one). float64."""
    if not metric.linear:
        raise MetricError(
            f"direct effects on {metric.name}",
            "a metric that is linear in the logits",
            "metrics.logit_diff or metrics.logit",
        )
    sigma = final_scale(trace, metric) if scale is None else scale
    return before_norm(metric.direction(trace.params), trace.params.ln_w, sigma)


def logit_lens(trace: Trace, metric: Metric) -> Effects:
    """The metric as it would be if the model stopped at each point of the stream (nostalgebraist
    2020): values, not differences."""
    rows = []
    for site in streams(trace.config):
        x = ops.layer_norm(
            trace[metric.of_site(site)], trace.params.ln_w, trace.params.ln_b, trace.config.eps
        )
        rows.append((str(site), metric.of_output(x, trace.params)))
    return _effects("logit lens", trace, metric, rows)


@dataclass(frozen=True, repr=False)
class Closure(Shown):
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
    most = bounds.said(float(bound[worst]))
    return Closure(float(total.mean()), float(effects.base.mean()), float(gap[worst]), most)


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
        trace.batch.index(metric.position),
        torch.arange(len(trace.tokens), device=trace.tokens.device),
    )
    return lambda x: x[each, rows]


def _sources(trace: Trace, metric: Metric, toward: Float[Tensor, "batch d_model"]) -> Iterator[Row]:
    """Each head's effect split by where the value came from: attention weight times the value's own
    effect; where an edit is of that very pair, what the head takes after it."""
    here = _reader(trace, metric)
    for layer, block in enumerate(trace.params.blocks):
        into = (toward @ block.w_o.double().T).unflatten(-1, (trace.config.n_head, -1))
        weights = trace[f"a{layer}.pattern@{metric.position}"].double()
        values = trace.heads(layer, "v")[:, :, : weights.shape[-1]].double()
        effects = weights * torch.einsum("bhtd,bhd->bht", values, into)
        for pair, put in trace.pairs.items():
            if pair.layer == layer:
                own = (here(put.values).double() * into[:, pair.part]).sum(-1)
                now = effects[:, pair.part, pair.source]
                effects[:, pair.part, pair.source] = torch.where(here(put.rows), own, now)
        for head, keys in enumerate(effects.unbind(1)):
            yield from ((f"a{layer}.{head}.v@{t}", x) for t, x in enumerate(keys.unbind(1)))


def _bias(trace: Trace, metric: Metric) -> Float[Tensor, "batch"]:
    """What the final LayerNorm's bias adds."""
    bias = _reader(trace, metric)(trace.write(Site("out.b"))).double()
    return (bias * metric.direction(trace.params)).sum(-1)


def _port(out: Parts) -> Iterator[Row]:
    """What the output alone sees, where an edit is of its input."""
    if out.port in out.trace.ports:
        yield "out", out.dot(granted(out.trace, out.port))


def _effects(method: str, trace: Trace, metric: Metric, rows: Sequence[Row]) -> Effects:
    base = metric(trace)
    table = torch.stack([row.expand(len(base)) for _, row in rows])
    return Effects(method, metric.name, tuple(name for name, _ in rows), table, base, trace.config)
