"""Results as documents for a terminal: the same records as on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.debugger import export, numbers
from interp.debugger.both import Both
from interp.debugger.lens import LensTable, Point
from interp.debugger.nodes import Row, Table
from interp.debugger.summary import Summary
from interp.debugger.upstream import Upstream
from interp.show import document
from interp.show.document import Document, Paragraph, Section, Span, Words

# A node table's columns, as many as a terminal has room for; with two sides, what the difference
# is made of.
ONE = {"direct.left": "direct", "lost.left": "lost without", "activation.left": "activation"}
TWO = {
    "direct.left": "direct",
    "direct.right": "after",
    "change.write": "write changed",
    "change.scale": "scale changed",
}
# What the page has and a terminal has no room for: ids, what the address says already, and right
# sides, which the differences tell.
HIDDEN = ("id", "role_right", "position", "key", "kind")


def view(result: Any) -> Document:
    """A result: its rows as a table, and above or below it what they add up to."""
    above, below = map(Paragraph, _above(result)), map(Paragraph, _below(result))
    return Document(_title(result), [Section("", "", [*above, _table(result), *below])])


def _title(result: Any) -> str:
    if isinstance(result, Summary):
        return result.question
    return result.words if isinstance(result, Upstream) else type(result).__name__.lower()


def _table(result: Any) -> document.Table:
    rows = export.rows(result)
    if isinstance(result, Table | LensTable):
        return _nodes(result) if isinstance(result, Table) else _points(result)
    shown = [name for name in (rows[0] if rows else {}) if _is_shown(name, rows)]
    columns = [_heading(name, [row[name] for row in rows]) for name in shown]
    return document.Table("", columns, [[_cell(row[name]) for name in shown] for row in rows])


def _nodes(result: Table) -> document.Table:
    """The node table: what it is sorted by tells which numbers are wanted."""
    wanted = ONE if len(result.sides) == 1 else TWO
    known = {name for name in wanted for row in result.rows if _number(row, name) is not None}
    shown = {name: words for name, words in wanted.items() if name in known}
    rows = [
        [row.address, row.token, row.looks_at, *(_number(row, name) for name in shown)]
        for row in result.rows
    ]
    headings = ["node", "at", "looks at", *(f">{words}" for words in shown.values())]
    return document.Table("", headings, [[_cell(value) for value in row] for row in rows])


def _points(result: LensTable) -> document.Table:
    """A row a point: the metric there, and what it would say at the last position shown."""
    rows = [
        [point.address, _cell(point.metric.left), _cell(point.metric.right), *_first(point)]
        for point in result.points
    ]
    columns = [0, 1, 2, 3] if len(result.sides) > 1 else [0, 1, 3]
    headings = ["point", f">{result.sides[0]}", f">{result.sides[-1]}", "would say"]
    picked = [[row[i] for i in columns] for row in rows]
    return document.Table("", [headings[i] for i in columns], picked)


def _first(point: Point) -> list[str]:
    said = (point.right or point.left)[-1]
    return [", ".join(f"{each.token!r} {each.probability:.1%}" for each in said)]


def _number(row: Row, name: str) -> float | None:
    column, _, side = name.partition(".")
    value: float | None = getattr(getattr(row, column), side)
    return value


def _is_shown(name: str, rows: Sequence[dict[str, Any]]) -> bool:
    hidden = name in HIDDEN or name.endswith(".right")
    return not hidden and any(row[name] not in (None, "") for row in rows)


def _heading(name: str, values: Sequence[Any]) -> str:
    numbers = all(isinstance(value, int | float) for value in values if value is not None)
    words = name.removesuffix(".left").replace(".difference", " diff")
    return f">{words}" if numbers else words


def _cell(value: Any) -> Words:
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else numbers.plain(value)
    return Span(value, "token") if isinstance(value, str) and value[:1] == " " else _plain(value)


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _above(result: Any) -> list[Words]:
    if isinstance(result, Summary):
        notes = [f"note: {note}" for note in result.notes]
        receipt = [Span(result.receipt.words, "soft")] if result.receipt else []
        metric = f"{result.metric_name} {_sides(result.metric, result.sides)}"
        return [metric, result.verdict, *notes, *receipt]
    return [Span(result.stated, "soft")] if isinstance(result, Upstream) else []


def _below(result: Any) -> list[Words]:
    if isinstance(result, Table):
        notes = [f"note: {note}" for note in result.notes]
        return [*_sum(result, result.metric_name, result.metric), *notes]
    return _sum(result, "score", result.score) if isinstance(result, Upstream) else []


def _sum(result: Table | Upstream, name: str, whole: Both) -> list[Words]:
    """What is not in the rows, and that everything adds up."""
    if result.gap is None:
        return []
    rest, total, number = (_sides(x, result.sides) for x in (result.rest, result.sum, whole))
    return [f"everything else {rest}", f"sum of direct effects {total} = {name} {number}"]


def _sides(x: Both, names: tuple[str, ...]) -> str:
    numbers = [
        f"{value:+.6f}{f' ({name})' if len(names) > 1 else ''}"
        for name, value in zip(names, (x.left, x.right), strict=False)
        if value is not None
    ]
    return ", ".join(numbers)
