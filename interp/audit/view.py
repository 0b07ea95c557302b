"""An audit as a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from interp.audit.row import Audit, Row, Section
from interp.show import terminal as show

MARKS = {True: ("holds", "green"), False: ("BROKEN", "bold red"), None: ("", "dim")}


def audit(found: Audit) -> RenderableType:
    """Every section, then what it comes to."""
    return Group(
        *(part for section in found.sections for part in (_section(section), Text(""))),
        _verdict(found),
    )


def _section(section: Section) -> RenderableType:
    parts: list[RenderableType] = [
        Text.assemble(
            (section.heading, "bold"),
            (f"  {section.seconds:.1f} s\n", "dim"),
            (section.text, "dim"),
        )
    ]
    parts += [_rows(section.rows)] if section.rows else []
    parts += [show.table("\n" + table.title, table.columns, table.rows) for table in section.tables]
    if section.name == "sources":
        parts += [
            Text("\ncost of each head, in thousandths of the error (rows: layers)", style="bold"),
            _costs(section),
        ]
    return Group(*parts)


def _rows(rows: Sequence[Row]) -> Grid:
    made = Grid(box=None, pad_edge=False, header_style="dim")
    for name, ratio in (("", None), ("promise", 5), ("measured", 5), ("at most", None)):
        made.add_column(name, ratio=ratio, overflow="fold")
    for row in rows:
        made.add_row(
            Text(*_mark(row)),
            Text(row.promise),
            Text(row.measured),
            Text(row.limit_text, style="dim"),
        )
    return made


def _mark(row: Row) -> tuple[str, str]:
    return ("skipped", "yellow") if row.is_skipped else MARKS[row.holds]


def _costs(section: Section) -> Text:
    """Layers x heads, each cell its number on its shade."""
    grid, error = section.data["grid"], section.data["left"]["error"][0]
    most = max(max(row) for row in grid) or 1.0
    text = Text("     " + "".join(f"{head:>6}" for head in range(len(grid[0]))) + "\n", style="dim")
    for layer, row in enumerate(grid):
        text.append(f"{layer:>4} ", style="dim")
        for value in row:
            text.append(
                f"{1000 * value / (error or 1.0):>6.0f}",
                style=f"black on {show.mix(-value / most)}",
            )
        text.append("\n" if layer + 1 < len(grid) else "")
    return text


def _verdict(found: Audit) -> Panel:
    held, broken, skipped = found.counts
    lines = [
        Text(
            f"{held} promises hold, {broken} broken, {skipped} skipped",
            style="bold red" if broken else "bold green",
        )
    ]
    lines += [Text(f"broken: {row.promise}: {row.measured}", style="red") for row in found.broken]
    return Panel(
        Group(
            *lines,
            Text(
                f"{found.model} on {found.prompts}; {found.machine}; "
                f"{sum(s.seconds for s in found.sections):.0f} s",
                style="dim",
            ),
        ),
        title="audit",
        title_align="left",
        border_style="red" if broken else "green",
    )
