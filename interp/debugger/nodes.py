"""The node table: what every node did at every position, of which the top and the bottom rows of one column are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from interp.debugger.both import Both
from interp.debugger.session import Runs

# What each column means, as a tooltip says it.
DEFINITIONS = {
    "address": "The node, and the position at which it writes.",
    "token": "The token at that position.",
    "looks_at": "Heads: the position that gets most of the attention (or, split by key, the one whose value is meant), and its token.",
    "activation": "Heads: the attention weight of that position. Neurons: the activation after the GELU. Other nodes have none.",
    "norm": "The length of the vector that the node writes to the residual stream.",
    "direct": "What the write adds to the metric along the edge to the output only, the final LayerNorm's scale being the run's. All rows sum to the metric.",
    "total": "How the metric changes when this node is ablated or replaced and everything downstream is computed again.",
}


@dataclass(frozen=True)
class Row:
    """One node at one position. kind: embedding, head, pair, neuron, mlp, bias or edit (what an intervention wrote into a stream)."""

    address: str
    kind: str
    position: int
    token: str
    key: int | None
    looks_at: str
    activation: Both
    norm: Both
    direct: Both
    total: Both


@dataclass(frozen=True)
class Table:
    """Rows as sorted; rest: the direct effects of every row not shown, so that rows + rest = sum = metric.

    gap, bound: how far the sum is from the metric (the worse side), and how far rounding alone may put it. count: rows in all;
    matching: those that `find` keeps.
    """

    sides: tuple[str, ...]
    metric_name: str
    metric: Both
    rows: tuple[Row, ...]
    rest: Both
    sum: Both
    gap: float | None
    bound: float | None
    count: int
    matching: int
    notes: tuple[str, ...]


def table(runs: Runs, totals: Mapping[str, Both] | None = None) -> Table:
    """The table as the question wants it sorted, filtered and split.

    totals: exact total effects known so far (totals.py streams them), by address; only they can be sorted by.
    """
    raise NotImplementedError
