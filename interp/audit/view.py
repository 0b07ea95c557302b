"""An audit as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interp.audit import charts
from interp.audit.row import Audit, Row
from interp.audit.row import Section as Checked
from interp.show.document import Document, Section, Span, Table, Words

MARKS = {
    True: Span("holds", "good"),
    False: Span("BROKEN", "bad"),
    None: Span("measured", "soft"),
}


def audit(checked: Audit) -> Document:
    """Every section with its rows, tables and pictures, and what it comes to."""
    seconds = sum(section.seconds for section in checked.sections)
    return Document(
        f"Audit of {checked.model}",
        [part for section in checked.sections for part in _parts(section)],
        _verdict(checked),
        f"{checked.prompts}; {checked.machine}; {seconds:.0f} s",
        good=not checked.broken,
    )


def _verdict(checked: Audit) -> list[Words]:
    held, broken, skipped = checked.counts
    counts = f"{held} promises hold, {broken} broken, {skipped} skipped"
    rows = [Span(f"broken: {row.promise}: {row.measured}", "bad") for row in checked.broken]
    return [Span(counts, "bad" if broken else "good"), *rows]


def _parts(section: Checked) -> Iterator[Section]:
    rows = [_rows(section.rows)] if section.rows else []
    took = f"{section.seconds:.1f} s"
    yield Section(section.heading, section.text, [*rows, *section.tables], took)
    for sentence, picture in charts.of(section).items():
        yield Section("", sentence, [picture])


def _rows(rows: Sequence[Row]) -> Table:
    lines = [
        (
            Span("skipped", "warn") if row.is_skipped else MARKS[row.holds],
            Span(row.promise, hint=row.how),
            row.measured.removeprefix("skipped: "),
            Span(row.limit_text, "soft"),
        )
        for row in rows
    ]
    return Table("", ("", "promise", "measured", ">at most"), lines)
