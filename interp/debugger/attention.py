"""Where a head looks: its pattern over the tokens, and the same weighted by the length of what it takes from there."""

from __future__ import annotations

from dataclasses import dataclass

from interp.debugger.session import Runs


@dataclass(frozen=True)
class Pattern:
    """One side: weights and weighted [query][key]; weighted = weight * norm of the value through W_O. tokens: of that side."""

    side: str
    tokens: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    weighted: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Attention:
    """A head's patterns on each side."""

    head: str
    sides: tuple[Pattern, ...]


def attention(runs: Runs, head: str) -> Attention:
    """The patterns of a head: "a2.6", or a row's address "a2.6@13"."""
    raise NotImplementedError
