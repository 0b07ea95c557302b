"""The answer in a sentence: what speaks for the answer and what against it; after interventions, or
on another prompt, whose writes changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from interp.debugger.nodes import Row, Table, table
from interp.debugger.numbers import SMALL, signed
from interp.debugger.session import Runs

SHOWN = 3


def verdict(runs: Runs) -> str:
    """The sentence, however the table itself is sorted, filtered and split."""
    asked = replace(runs.question, sort="", find="", split=(), k=4 * SHOWN)
    found = table(replace(runs, question=asked))
    return _change(runs, found) if runs.right is not None else _ends(found)


def _ends(found: Table) -> str:
    """What pushes most for the answer, and what against it."""
    rows = [row for row in found.rows if abs(row.direct.left or 0.0) >= SMALL]
    ends = {
        "Most for it": [row for row in rows if (row.direct.left or 0.0) > 0][:SHOWN],
        "Most against it": [row for row in reversed(rows) if (row.direct.left or 0.0) < 0][:SHOWN],
    }
    pushes = [
        f"{words}: {_listed(some, lambda row: row.direct.left)}."
        for words, some in ends.items()
        if some
    ]
    return " ".join(pushes)


def _change(runs: Runs, found: Table) -> str:
    """How far the metric moved, and whose writes moved it."""
    moved = _moved(runs, found)
    decided = {_target(line).partition("@")[0] for line in runs.question.patches}
    rows = sorted(
        (row for row in found.rows if abs(row.change.write or 0.0) >= SMALL),
        key=lambda row: -abs(row.change.write or 0.0),
    )
    others = [row for row in rows if _node(row) not in decided][:SHOWN]
    if found.gap is None:
        return moved
    said = _listed(others, lambda row: row.change.write) or "none"
    did = "differ" if runs.right is runs.other else "changed"
    return f"{moved} Writes that {did} most: {said}."


def _moved(runs: Runs, found: Table) -> str:
    """What makes the two sides differ, and by how much."""
    left, right, lines = found.metric.left or 0.0, found.metric.right or 0.0, runs.question.patches
    if runs.right is runs.other:
        return f"{found.sides[0].capitalize()} {signed(left)}, {found.sides[1]} {signed(right)}."
    without = all(line.partition("=")[2].strip() == "0" for line in lines)
    cause = (
        f"Without {' and '.join(map(_target, lines))}" if without else f"With {'; '.join(lines)}"
    )
    return f"{cause}: {signed(right - left)}."


def _target(line: str) -> str:
    """The address that a line edits."""
    return line.partition("=")[0].rstrip(" +*")


def _listed(rows: Sequence[Row], number: Callable[[Row], float | None]) -> str:
    return ", ".join(f"{_node(row)} {signed(number(row) or 0.0)}{_looks(row)}" for row in rows)


def _node(row: Row) -> str:
    return row.address.partition("@")[0]


def _looks(row: Row) -> str:
    return f" (looks at {row.looks_at.partition(' ')[2]})" if row.looks_at else ""
