"""An audit as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from interp.audit import charts
from interp.audit.row import Audit, Row, Section
from interp.show import page as report

WORDS = {
    True: "<b class=for>holds</b>",
    False: "<b class=against>BROKEN</b>",
    None: "<span class=soft>measured</span>",
}


def audit(found: Audit) -> str:
    """One HTML document: what it comes to, then each section with its rows, tables and pictures."""
    held, broken, skipped = found.counts
    title = f"Audit of {found.model}: {held} promises hold, {broken} broken, {skipped} skipped"
    sections = (
        [report.Section("Broken promises", "These do not hold here.", _rows(found.broken))]
        if broken
        else []
    )
    return report.page(
        title,
        f"{found.prompts}; {found.machine}",
        [*sections, *(part for section in found.sections for part in _parts(section))],
    )


def _parts(section: Section) -> Iterator[report.Section]:
    yield report.Section(
        section.heading,
        section.text,
        (_rows(section.rows) if section.rows else "")
        + "".join(report.table(t.title, t.columns, t.rows) for t in section.tables),
    )
    for sentence, figure in charts.of(section).items():
        yield report.Section("", sentence, figure)


def _rows(rows: Sequence[Row]) -> str:
    skipped = "<span class=soft>skipped</span>"
    lines = [
        f"<tr><td>{skipped if row.is_skipped else WORDS[row.holds]}<td "
        f"title='{escape(row.how, quote=True)}'>{escape(row.promise)}"
        f"<td>{escape(row.measured.removeprefix('skipped: '))}<td class=n>{escape(row.limit_text)}"
        for row in rows
    ]
    return f"<table><tr><th><th>promise<th>measured<th class=n>at most{''.join(lines)}</table>"
