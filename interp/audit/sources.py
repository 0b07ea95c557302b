"""Section 6: which nodes a narrower type's error comes from. How it is found: blame.py."""

from __future__ import annotations

from typing import Any

import torch

from interp.audit.blame import Blame, blame, curve
from interp.audit.row import Row, Section, Table
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2

# What may be left of the error once it is explained, as a share of it, besides float64's own
# rounding.
REST = 1e-6
SHOWN = 12
# Of how many of the costliest nodes it is told what is left without their rounding; and of all.
COUNTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)


def section(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    dtype: torch.dtype = torch.bfloat16,
    *,
    progress: bool = False,
) -> Section:
    """The account of one type's error in the metric, node by node, and that it is complete."""
    exact, run = model.to(dtype=torch.float64), model.to(dtype=dtype).run(pairs)
    found, name = blame(exact, run, metric, progress=progress), str(dtype)[6:]
    counts = [n for n in COUNTS if n < len(found.names)] + [len(found.names)]
    left = curve(exact, run, metric, found, counts).abs().mean(1)
    rows = (*accounts(found, name, metric), *_told(found, counts, left.tolist(), metric))
    return Section(
        "sources",
        "Where the error comes from",
        f"The {metric.name} of a {name} run, node by node: a node's cost is the error that its "
        "rounding alone makes in the float64 model; what is gained is how much the run's error "
        "shrinks when that one node is computed in float64. resid2 is the rounding of the sum in "
        "the stream there, and of the product that is added to it.",
        rows,
        _data(found, counts, left.tolist(), name),
        (_table(found, metric),),
    )


def accounts(found: Blame, name: str, metric: Metric) -> tuple[Row, Row]:
    """That nothing is left out of the account: all departures make the run, and the nodes' explain
    it."""
    size, floor = float(found.error.abs().max()), float(found.floor.max())
    emulated = float((found.emulated - found.error).abs().max())
    left = float(found.left.abs().max())
    return (
        Row.under(
            f"{name}: all departures, put into the float64 model, make this run's {metric.name}",
            emulated,
            REST * size + floor,
            f"error {size:.1e}",
        ),
        Row.under(
            f"{name}: with every one of {len(found.names)} nodes in float64, the error is gone",
            left,
            REST * size + floor,
            f"error {size:.1e}",
        ),
    )


def _told(found: Blame, counts: list[int], left: list[float], metric: Metric) -> tuple[Row, ...]:
    error = float(found.error.abs().mean())
    half = next(
        n for n, rest in zip(counts, left, strict=True) if rest <= error / 2 or n == counts[-1]
    )
    return (
        Row.told(
            f"the error of the {metric.name}", f"{error:.2e}, mean size over prompts", value=error
        ),
        Row.told(
            "costliest nodes that must be exact to halve it",
            f"at most {half} of {len(found.names)}",
            value=half,
        ),
    )


def _table(found: Blame, metric: Metric) -> Table:
    rows = tuple(
        (
            found.names[i],
            f"{float(found.cost[i]):.2e}",
            f"{float(found.gain[i]):+.2e}",
            f"{float(found.gain[i] / found.error.abs().mean()):+.0%}",
        )
        for i in found.ranked[:SHOWN]
    )
    return Table(
        f"the costliest of {len(found.names)} nodes, by {metric.name}",
        ("node", ">cost: it alone rounds", ">gained: it alone is exact", ">of the error"),
        rows,
    )


def _data(found: Blame, counts: list[int], left: list[float], name: str) -> dict[str, Any]:
    nodes = {
        found.names[i]: {"cost": float(found.cost[i]), "gain": float(found.gain[i])}
        for i in found.ranked
    }
    return {
        "dtype": name,
        "nodes": nodes,
        "grid": found.grid().tolist(),
        "left": {"nodes": counts, "error": left},
    }
