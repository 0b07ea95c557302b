"""Section 7: what small changes of the model itself do: int8 weights, another epsilon in LayerNorm,
the exact GELU.

Each change is a new model (a value) run in float64, so that nothing but the change shows; blame.py
says at which nodes it acts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp import attribution
from interp.audit import measures
from interp.audit.blame import Blame, blame
from interp.audit.row import Row, Section
from interp.audit.sources import accounts
from interp.effects import Effects
from interp.metrics import Metric
from interp.show.document import Table
from interp.tasks import Prompts
from minigpt import GPT2, Params, Trace, build, ops
from minigpt.model import layer
from minigpt.params import tensors


def section(model: GPT2, pairs: Prompts, metric: Metric, *, progress: bool = False) -> Section:
    """A line for each change: the metric, the ranking of heads by direct effect, and the nodes at
    which the change acts."""
    exact = model.to(dtype=torch.float64)
    base = exact.run(pairs)
    heads = attribution.direct(base, metric).heads()
    rows: list[Row] = []
    lines, data = [], {}
    for name, run in changed(exact, base):
        blamed = blame(exact, run, metric, without=False, progress=progress)
        rows += accounts(blamed, name, metric)
        direct = attribution.direct(run, metric).heads()
        lines.append(_line(name, run, base, metric, direct, heads, blamed))
        data[name] = {blamed.names[i]: float(blamed.cost[i]) for i in blamed.ranked}
    return Section(
        "sensitivity",
        "Sensitivity",
        "Other models, all in float64. The ranking of heads is by direct effect. int8: every "
        "matrix rounded to 255 levels, a scale for each output channel (for each token in the "
        "embedding). The exact GELU is x Phi(x).",
        tuple(rows),
        data,
        (_table(lines, metric),),
    )


def _table(lines: Sequence[tuple[str, ...]], metric: Metric) -> Table:
    numbers = (metric.name, "change", "KL, nats", "top heads kept", "rank correlation")
    columns = ("change", *(f">{name}" for name in numbers), "acts most at")
    return Table("what a change does", columns, tuple(lines))


def changed(exact: GPT2, base: Trace) -> Iterator[tuple[str, Trace]]:
    """The runs of the changed models."""
    yield "int8 weights", replace(exact, params=int8(exact.params)).run(base.batch)
    for eps in (0.0, 10 * exact.config.eps):
        params = replace(exact.params, config=replace(exact.config, eps=eps))
        run = replace(exact, params=params).run(base.batch)
        yield f"epsilon {eps:g} for {exact.config.eps:g}", run
    yield "the exact GELU", exact_gelu(exact, base)


def int8(params: Params) -> Params:
    """Every matrix rounded to -127 .. 127 times a scale of its own for each output channel."""
    tokenwise = ("wte.weight", "wpe.weight", "lm_head.weight")
    coarse = {
        name: rounded(x, dim=1 if name in tokenwise else 0) if x.ndim == 2 else x
        for name, x in tensors(params).items()
    }
    return build(params.config, coarse)


def rounded(w: Float[Tensor, "a b"], dim: int) -> Float[Tensor, "a b"]:
    """A matrix on an even grid of 255 levels; one scale for all numbers along `dim`, the largest of
    them being 127."""
    scale = w.abs().amax(dim, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny) / 127
    return (w / scale).round() * scale


def exact_gelu(model: GPT2, base: Trace) -> Trace:
    """The run of the same parameters with x Phi(x) in the place of its tanh form: the pass, its
    last two lines written anew."""
    x, cells, lengths = base.cells[0].resid, [], base.batch.lengths
    groups = [(int(n), (lengths == n).nonzero().flatten()) for n in torch.unique(lengths)]
    for block in model.params.blocks:
        tanh = layer(block, model.config, x, groups, model.attend, ops.settled)
        seen = ops.layer_norm(tanh.mid, block.ln2_w, block.ln2_b, model.config.eps)
        act = F.gelu(ops.settled(seen, block.w_in, block.b_in))
        x = ops.settled(act, block.w_out, block.b_out).add_(tanh.mid)
        cells.append(replace(tanh, act=act, out=x))
    return Trace(model.params, base.batch, tuple(cells))


def _line(
    name: str, run: Trace, base: Trace, metric: Metric, heads: Effects, right: Effects, found: Blame
) -> tuple[str, ...]:
    top = min(10, len(right))
    kl = float(measures.kl(run.logits_at(metric.position), base.logits_at(metric.position)).max())
    acts = ", ".join(f"{found.names[i]} {float(found.cost[i]):.1e}" for i in found.ranked[:3])
    return (
        name,
        f"{float(metric(run).mean()):+.4f}",
        f"{float((metric(run) - metric(base)).mean()):+.1e}",
        f"{kl:.1e}",
        f"{measures.kept(heads, right, top)} of {top}",
        f"{measures.rank_correlation(heads, right):.4f}",
        acts,
    )
