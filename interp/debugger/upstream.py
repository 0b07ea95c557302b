"""Why does a head look there, why is a neuron on: the score taken apart into every earlier write, and each edge's exact effect.

A step: "a3.1.q@13<9" the score of head a3.1 at query 13, key 9 through its query (.k: its key; "a3.1@13<9": both);
"a3.1.v@13<9" what it takes from position 9 ("a3.1.v@13": from all), measured by the metric or by the step before it;
"m2.n17@5" a neuron's activation before the GELU.
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.both import Both
from interp.debugger.session import Runs


@dataclass(frozen=True)
class Source:
    """An earlier write at a position: the edge to the score's port, its direct effect (they sum to the score), its exact effect.

    exact: how the score changes when this edge alone carries `instead`, LayerNorm computed again. None for the port's own biases.
    step: what "trace this one" would add to the trail, where it is a head ("a2.6") or a neuron.
    """

    edge: str
    address: str
    kind: str
    position: int
    token: str
    direct: Both
    exact: Both


@dataclass(frozen=True)
class Upstream:
    """One step. words: the question it asks; stated: what is frozen; trail: every step's words; rest, sum, gap, bound as in a Table."""

    step: str
    words: str
    stated: str
    trail: tuple[str, ...]
    sides: tuple[str, ...]
    score: Both
    sources: tuple[Source, ...]
    rest: Both
    sum: Both
    gap: float
    bound: float


def upstream(runs: Runs, depth: int | None = None) -> Upstream:
    """The last step of the question's trail (or the one at `depth`, from 0): the top and bottom k sources, by direct effect."""
    raise NotImplementedError


def steps(runs: Runs, address: str) -> dict[str, str]:
    """The steps that can be taken from a row's address, and the question each asks in words."""
    raise NotImplementedError
