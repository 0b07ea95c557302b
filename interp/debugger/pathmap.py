"""Path patching from every head to the question's receivers, from the other prompt: a map of layers x heads."""

from __future__ import annotations

from dataclasses import dataclass

from interp import patching
from interp.debugger.session import Runs
from minigpt import parse


@dataclass(frozen=True)
class PathMap:
    """cells [layer][head]: how the metric changes (IOI meaning, see patching.paths); receivers and the position as asked."""

    method: str
    metric_name: str
    metric: float
    receivers: tuple[str, ...]
    at: str
    cells: tuple[tuple[float, ...], ...]
    receipt: str


def pathmap(runs: Runs) -> PathMap:
    """The map; QuestionError without another prompt of as many tokens. Of the runs as they are: interventions play no part in it."""
    q, pairs = runs.question, runs.pairs
    at = None if q.at == "all" else parse(f"emb@{q.at}").at
    receivers = q.receivers or ("out",)
    found = patching.paths(runs.model, pairs, runs.left.metric, "heads", receivers, at)
    return PathMap(found.method, found.metric, float(found.base[0]), receivers, q.at, tuple(map(tuple, found.grid().tolist())), str(found.receipt))
