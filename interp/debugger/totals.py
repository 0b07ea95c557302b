"""Exact total effects, a chunk at a time: stop asking, and nothing more is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interp.debugger.both import Both
from interp.debugger.session import Runs


@dataclass(frozen=True)
class Totals:
    """Some of the effects: how the metric changes, by address (None where an intervention already decides that node), and progress."""

    effects: dict[str, Both]
    done: int
    of: int
    receipt: str


def totals(runs: Runs, addresses: Sequence[str] | None = None) -> Iterator[Totals]:
    """The change of the metric when each node is `instead` (0, mean(reference) or other), everything after it computed again.

    addresses: rows' addresses, "a2.6" (everywhere) or "a2.6@13"; without them every head and every MLP, everywhere.
    """
    raise NotImplementedError
