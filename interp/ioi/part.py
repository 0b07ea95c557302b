"""One part of the study: what was asked, in words, and what was found: tables, maps of heads,
pictures, and claims held against the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp.effects import Effects
from interp.figures import Figure
from interp.show.document import Table
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Claim(Shown):
    """A figure of the paper (or of its authors' stored data) beside the one measured here; how far
    they may lie apart."""

    what: str
    where: str
    measured: float
    paper: float | None = None
    authors: float | None = None
    within: float = 0.35

    @property
    def agrees(self) -> bool:
        """Whether the measured figure is within the tolerance of either."""
        return any(
            abs(self.measured - said) <= self.within
            for said in (self.paper, self.authors)
            if said is not None
        )


@dataclass(frozen=True, repr=False)
class Part(Shown):
    """A heading, the paper's figure or section, a text for a reader who has not read it, and what
    was found; `skipped`: why nothing was."""

    name: str
    heading: str
    where: str
    text: str
    tables: Sequence[Table] = ()
    maps: Mapping[str, Effects] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain values."""
        return {
            "heading": self.heading,
            "where": self.where,
            **self.data,
            **({"skipped": self.skipped} if self.skipped else {}),
            "maps": {title: effects.to_dict() for title, effects in self.maps.items()},
            "claims": [{**vars(claim), "agrees": claim.agrees} for claim in self.claims],
        }
