"""What an audit says: rows, each a promise with what was measured and what it may be at most,
gathered in sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interp.audit.compare import Gap
from interp.show.document import Table
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Row(Shown):
    """One line: holds is True or False for a promise, None for what is only measured, or was
    skipped (measured says why).

    value and limit are the numbers behind it, where there are any: a promise holds if value <=
    limit.
    """

    promise: str
    measured: str
    limit_text: str = ""
    holds: bool | None = None
    how: str = ""
    value: float | None = None
    limit: float | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether it is a promise that could not be checked here."""
        return self.holds is None and self.measured.startswith("skipped: ")

    @classmethod
    def bitwise(cls, promise: str, gap: Gap, how: str = "") -> Row:
        """A promise that two ways of computing give the same bits."""
        return cls(
            promise,
            str(gap),
            "0 bits",
            gap.differ == 0 and gap.size > 0,
            how,
            float(gap.differ),
            0.0,
        )

    @classmethod
    def under(cls, promise: str, value: float, limit: float, how: str = "", note: str = "") -> Row:
        """A promise that a number stays at or under its limit; NaN does not. Says which share of
        the limit is used."""
        used = f", {_share(value / limit)} of the limit" if limit and value else ""
        return cls(
            promise,
            f"{_number(value)}{used}{', ' + note if note else ''}",
            _number(limit),
            value <= limit,
            how,
            value,
            limit,
        )

    @classmethod
    def told(cls, promise: str, measured: str, how: str = "", value: float | None = None) -> Row:
        """Something measured, without a promise."""
        return cls(promise, measured, how=how, value=value)

    @classmethod
    def skipped(cls, promise: str, why: str, how: str = "") -> Row:
        """A promise that could not be checked here."""
        return cls(promise, f"skipped: {why}", how=how)


@dataclass(frozen=True, repr=False)
class Section(Shown):
    """A part of the audit: its name on the command line, a heading, a sentence or two, rows,
    tables, and plain data for pictures."""

    name: str
    heading: str
    text: str
    rows: tuple[Row, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    seconds: float = 0.0

    @property
    def broken(self) -> tuple[Row, ...]:
        """The promises that do not hold."""
        return tuple(row for row in self.rows if row.holds is False)

    def took(self, seconds: float) -> Section:
        """The same, with the time it took."""
        return replace(self, seconds=seconds)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            **vars(self),
            "rows": [vars(row) for row in self.rows],
            "data": dict(self.data),
            "tables": [table.to_dict() for table in self.tables],
        }


@dataclass(frozen=True, repr=False)
class Audit(Shown):
    """The whole: of which model, on which prompts, and the sections."""

    model: str
    prompts: str
    machine: str
    sections: tuple[Section, ...]

    def _table(self) -> Iterator[Sequence[object]]:
        yield "promise", "measured", "limit", "holds"
        words = {True: "yes", False: "NO", None: ""}
        for section in self.sections:
            yield from ((r.promise, r.measured, r.limit_text, words[r.holds]) for r in section.rows)

    @property
    def broken(self) -> tuple[Row, ...]:
        """The promises that do not hold."""
        return tuple(row for section in self.sections for row in section.broken)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many promises hold, how many do not, how many rows were skipped."""
        rows = [row for section in self.sections for row in section.rows]
        return (
            sum(row.holds is True for row in rows),
            len(self.broken),
            sum(row.is_skipped for row in rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        held, broken, skipped = self.counts
        return {
            "model": self.model,
            "prompts": self.prompts,
            "machine": self.machine,
            "hold": held,
            "broken": broken,
            "skipped": skipped,
            "sections": [section.to_dict() for section in self.sections],
        }


def _number(x: float) -> str:
    return f"{x:.1e}" if x else "0"


def _share(x: float) -> str:
    return f"{x:.0%}" if x >= 0.1 else f"{x:.1%}" if x >= 0.001 else "under 0.1%"
