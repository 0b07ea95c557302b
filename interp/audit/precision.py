"""Section 5: what a narrower type costs, from logits to conclusions: the same model and prompts in
each type, against float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from interp import patching
from interp.audit import measures, oracle
from interp.audit.row import Section
from interp.effects import Effects
from interp.metrics import Metric
from interp.show.document import Table
from interp.tasks import Prompts
from minigpt import GPT2, Trace
from minigpt.address import streams
from minigpt.shown import Shown

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, repr=False)
class Cost(Shown):
    """What one type costs: largest error of a logit, of the metric (relative to its mean size), of
    a patch effect; and flips."""

    logits: float
    metric: float
    kl: float
    flips: int
    predictions: int
    effect: float
    kept: int
    heads: int


def section(model: GPT2, pairs: Prompts, metric: Metric) -> Section:
    """A line for each type; none is a promise, since all depends on the model."""
    exact = model.to(dtype=torch.float64)
    trace, effects = exact.run(pairs), _effects(exact, pairs, metric)
    costs, growth = {}, {}
    for name, low in lower(model):
        with _tf32() if name == "TF32" else nullcontext():
            run = low.run(pairs)
            costs[name], growth[name] = (
                cost(run, trace, _effects(low, pairs, metric), effects, metric),
                grown(run, trace),
            )
    return Section(
        "precision",
        "Precision",
        "The whole run, and activation patching of every head, in each type. Nothing is promised "
        "here: it depends on "
        "the model. The unit roundoff is 6e-8 for float32, 4e-3 for bfloat16, 5e-4 for float16.",
        (),
        {"growth": growth, "costs": {name: vars(c) for name, c in costs.items()}},
        (_table(costs, metric),),
    )


def lower(model: GPT2) -> Iterator[tuple[str, GPT2]]:
    """The model in each type; on a GPU also with TF32 products."""
    for name, dtype in TYPES.items():
        yield name, model.to(dtype=dtype)
    if model.device.type == "cuda":
        yield "TF32", model.to(dtype=torch.float32)


@contextmanager
def _tf32() -> Iterator[None]:
    """Float32 products in TF32 for a while."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def cost(run: Trace, exact: Trace, effects: Effects, right: Effects, metric: Metric) -> Cost:
    """One type's line."""
    a, b = run.logits[exact.batch.mask], exact.logits[exact.batch.mask]
    off = (metric(run) - metric(exact)).abs().max() / metric(exact).abs().mean()
    top = min(10, len(right))
    return Cost(
        float((a.double() - b).abs().max()),
        float(off),
        float(measures.kl(a, b).max()),
        measures.flips(a, b),
        len(a),
        float((effects.per_prompt - right.per_prompt).abs().max()),
        measures.kept(effects, right, top),
        top,
    )


def grown(run: Trace, exact: Trace) -> dict[str, float]:
    """The relative error of every stream point, in order: the largest difference over the largest
    number."""
    mask = exact.batch.mask
    return {
        str(site): oracle.relative(run[str(site)][mask], exact[str(site)][mask].cpu())
        for site in streams(exact.config)
    }


def _effects(model: GPT2, pairs: Prompts, metric: Metric) -> Effects:
    return patching.nodes(model, pairs, metric, over="heads")


def _table(costs: dict[str, Cost], metric: Metric) -> Table:
    def line(name: str, c: Cost) -> tuple[str, ...]:
        return (
            name,
            f"{c.logits:.1e}",
            f"{c.metric:.1e}",
            f"{c.kl:.1e}",
            f"{c.flips} of {c.predictions}",
            f"{c.effect:.1e}",
            f"{c.kept} of {c.heads}",
        )

    return Table(
        "against float64, the largest of all prompts and positions",
        (
            "type",
            ">logit",
            f">{metric.name}, relative",
            ">KL, nats",
            ">top token flips",
            ">patch effect",
            ">top heads kept",
        ),
        tuple(line(*each) for each in costs.items()),
    )
