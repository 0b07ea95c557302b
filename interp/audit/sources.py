"""Section 6: which nodes a narrower type's error comes from. How it is found: blame.py."""

from __future__ import annotations

from typing import Any

import torch

from interp.audit.blame import Blame, blame, curve
from interp.audit.row import Row, Section
from interp.metrics import Metric
from interp.show.document import Table
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
    blamed, name = blame(exact, run, metric, progress=progress), str(dtype)[6:]
    counts = [n for n in COUNTS if n < len(blamed.names)] + [len(blamed.names)]
    left = curve(exact, run, metric, blamed, counts).abs().mean(1)
    rows = (*accounts(blamed, name, metric), *_told(blamed, counts, left.tolist(), metric))
    return Section(
        "sources",
        "Where the error comes from",
        f"The {metric.name} of a {name} run, node by node: a node's cost is the error that its "
        "rounding alone makes in the float64 model; what is gained is how much the run's error "
        "shrinks when that one node is computed in float64. resid2 is the rounding of the sum in "
        "the stream there, and of the product that is added to it.",
        rows,
        _data(blamed, counts, left.tolist(), name),
        (_table(blamed, metric),),
    )


def accounts(blamed: Blame, name: str, metric: Metric) -> tuple[Row, Row]:
    """That nothing is left out of the account: all departures make the run, and the nodes' explain
    it."""
    size, floor = float(blamed.error.abs().max()), float(blamed.floor.max())
    emulated = float((blamed.emulated - blamed.error).abs().max())
    left = float(blamed.left.abs().max())
    return (
        Row.under(
            f"{name}: all departures, put into the float64 model, make this run's {metric.name}",
            emulated,
            REST * size + floor,
            f"error {size:.1e}",
        ),
        Row.under(
            f"{name}: with every one of {len(blamed.names)} nodes in float64, the error is gone",
            left,
            REST * size + floor,
            f"error {size:.1e}",
        ),
    )


def _told(blamed: Blame, counts: list[int], left: list[float], metric: Metric) -> tuple[Row, ...]:
    error = float(blamed.error.abs().mean())
    half = next(
        n for n, rest in zip(counts, left, strict=True) if rest <= error / 2 or n == counts[-1]
    )
    return (
        Row.told(
            f"the error of the {metric.name}", f"{error:.2e}, mean size over prompts", value=error
        ),
        Row.told(
            "costliest nodes that must be exact to halve it",
            f"at most {half} of {len(blamed.names)}",
            value=half,
        ),
    )


def _table(blamed: Blame, metric: Metric) -> Table:
    rows = tuple(
        (
            blamed.names[i],
            f"{float(blamed.cost[i]):.2e}",
            f"{float(blamed.gain[i]):+.2e}",
            f"{float(blamed.gain[i] / blamed.error.abs().mean()):+.0%}",
        )
        for i in blamed.ranked[:SHOWN]
    )
    return Table(
        f"the costliest of {len(blamed.names)} nodes, by {metric.name}",
        ("node", ">cost: it alone rounds", ">gained: it alone is exact", ">of the error"),
        rows,
    )


def _data(blamed: Blame, counts: list[int], left: list[float], name: str) -> dict[str, Any]:
    nodes = {
        blamed.names[i]: {"cost": float(blamed.cost[i]), "gain": float(blamed.gain[i])}
        for i in blamed.ranked
    }
    return {
        "dtype": name,
        "nodes": nodes,
        "grid": blamed.grid().tolist(),
        "left": {"nodes": counts, "error": left},
    }
