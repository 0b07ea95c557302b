"""Path patching from every head to the question's receivers, from the other prompt: a map of layers x heads."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.session import Runs


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
    """The map; QuestionError without another prompt of as many tokens."""
    raise NotImplementedError
