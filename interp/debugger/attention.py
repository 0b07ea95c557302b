"""Where a head looks: its pattern over the tokens, and the same weighted by the length of what it
takes from there."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interp.debugger.columns import norms
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from minigpt import Site, parse
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Pattern(Shown):
    """One side: weights and weighted [query][key]; weighted = weight * norm of the value through
    W_O. tokens: of that side."""

    side: str
    tokens: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    weighted: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, repr=False)
class Attention(Shown):
    """A head's patterns on each side."""

    head: str
    sides: tuple[Pattern, ...]


def attention(runs: Runs, head: str) -> Attention:
    """The patterns of a head: "a2.6", or a row's address "a2.6@13"."""
    site = parse(head.partition("@")[0], runs.model.config).site
    if site.kind != "attn" or site.part is None:
        raise QuestionError(f"'{head}' has no pattern", "a head", "'a2.6'")
    return Attention(str(site), tuple(_pattern(side, site) for side in runs.sides))


def _pattern(side: Side, site: Site) -> Pattern:
    weights = side.trace[f"{site}.pattern"][0]
    return Pattern(side.name, side.tokens, _rows(weights), _rows(weights * norms(side.trace, site)))


def _rows(x: Float[Tensor, "pos key"]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, x.tolist()))
