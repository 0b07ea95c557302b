"""An explanation, its scores, and what nothing and a bare list score."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from interp.explain.explain import Explanation
from interp.explain.scores import Scores
from interp.show.document import Section, Span, Table

NOTHING: Mapping[str, int] = MappingProxyType({})
STATED = (
    "Scores on documents that it was not made of: correlation over all tokens, share of the "
    "variance, the chances that windows, tokens and the odd one out are told apart."
)


def explanation(made: Explanation, cost: Mapping[str, int] = NOTHING) -> Section:
    """The sentence in bold, and a table of scores beside the baselines'; what it cost."""
    rows = [("this explanation", *_numbers(made.scores))]
    rows += [(name, *_numbers(found)) for name, found in made.baselines.items()]
    names = ("simulation", "explained", "detection", "fuzzing", "intruder")
    table = Table(
        f"by {made.kind}: {made.sentence or 'nothing'}", ("", *(f">{n}" for n in names)), rows
    )
    aside = ", ".join(f"{name} {count}" for name, count in cost.items())
    return Section("What explains it", STATED, [table], aside)


def _numbers(found: Scores) -> tuple[Span, ...]:
    return tuple(
        Span("" if value != value else f"{round(value, 2) + 0:.2f}", "strong" if i == 0 else "")
        for i, value in enumerate(vars(found).values())
    )
