"""Results as a terminal shows them: the same records as on the page."""

from __future__ import annotations

import csv
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from interp.debugger.both import Both
from interp.debugger.export import as_csv
from interp.debugger.nodes import Table
from interp.debugger.summary import Summary
from interp.debugger.upstream import Upstream
from interp.show import terminal as show

# What the page has and a terminal has no room for: ids, what the address says already, and right
# sides, which the differences tell.
HIDDEN = ("id", "role_right", "position", "key", "kind")


def view(found: Any) -> RenderableType:
    """A result: its rows as a table, and above or below it what they add up to."""
    rows = list(csv.DictReader(as_csv(found).splitlines()))
    full = [
        name
        for name in (rows[0] if rows else {})
        if any(row[name] for row in rows) and name not in HIDDEN and not name.endswith(".right")
    ]
    numbers = {name for name in full if all(_is_number(row[name]) for row in rows if row[name])}
    titles = [
        (">" if name in numbers else "")
        + name.removesuffix(".left").replace(".difference", " diff")
        for name in full
    ]
    return Group(
        *_above(found),
        show.table(
            "", titles, [[_cell(row[name], name in numbers) for name in full] for row in rows]
        ),
        *_below(found),
    )


def _above(found: Any) -> list[RenderableType]:
    if isinstance(found, Summary):
        lines = [
            found.question,
            f"{found.metric_name} {_sides(found.metric, found.sides)}",
            *(f"note: {note}" for note in found.notes),
        ]
        receipt = [Text(found.receipt.words, style="dim")] if found.receipt else []
        return [Text(lines[0], style="bold"), *map(Text, lines[1:]), *receipt]
    return (
        [Text(found.words, style="bold"), Text(found.stated, style="dim")]
        if isinstance(found, Upstream)
        else []
    )


def _below(found: Any) -> list[RenderableType]:
    if not isinstance(found, (Table, Upstream)):
        return []
    name, whole = (
        (found.metric_name, found.metric) if isinstance(found, Table) else ("score", found.score)
    )
    rest, total, number = (_sides(x, found.sides) for x in (found.rest, found.sum, whole))
    lines = [f"everything else {rest}", f"sum of direct effects {total} = {name} {number}"]
    notes = [f"note: {note}" for note in found.notes] if isinstance(found, Table) else []
    return [Text(line) for line in (*(lines if found.gap is not None else ()), *notes)]


def _sides(x: Both, names: tuple[str, ...]) -> str:
    numbers = [
        f"{value:+.6f}{f' ({name})' if len(names) > 1 else ''}"
        for name, value in zip(names, (x.left, x.right), strict=False)
        if value is not None
    ]
    return ", ".join(numbers)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(text: str, number: bool) -> str:
    return (
        f"{float(text):.3f}"
        if number and "." in text
        else text
        if number or not text.startswith(" ")
        else repr(text)
    )
