"""The study as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from interp.ioi.part import Part
from interp.ioi.study import Study
from interp.show import terminal as show


def study(found: Study) -> RenderableType:
    """Every part, then the paper's figures beside those measured, then what it comes to."""
    return Group(
        *(piece for part in found.parts for piece in (*_part(part), Text(""))),
        *_claims(found),
        _verdict(found),
    )


def _part(part: Part) -> Iterator[RenderableType]:
    yield Text.assemble((part.heading, "bold"), (f"   {part.where}", "dim"))
    yield Text(part.text, style="dim")
    if part.skipped:
        yield Text(f"skipped: {part.skipped}", style="yellow")
    for table in part.tables:
        yield show.table(table.title, table.columns, table.rows)
    for title, effects in part.maps.items():
        yield Text(f"{title} (rows: layers)", style="bold")
        yield show.heat_map(effects)


def _claims(found: Study) -> Iterator[RenderableType]:
    if found.claims:
        made = Grid(
            title="The paper beside what was measured",
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            header_style="dim",
        )
        for name in ("", "where", "paper", "authors' data", "measured", "within"):
            made.add_column(name, justify="left" if name in ("", "where") else "right")
        for _, claim in found.claims:
            said = [f"{x:.2f}" if x is not None else "" for x in (claim.paper, claim.authors)]
            made.add_row(
                Text(claim.what, style="" if claim.agrees else "bold red"),
                Text(claim.where, style="dim"),
                *said,
                f"{claim.measured:.2f}",
                Text(f"{claim.within:g}", style="green" if claim.agrees else "bold red"),
            )
        yield made


def _verdict(found: Study) -> Panel:
    lines = [Text(line) for line in found.short]
    if found.claims:
        agree = sum(claim.agrees for _, claim in found.claims)
        lines.append(
            Text(
                f"{agree} of {len(found.claims)} figures agree with the paper",
                style="bold green" if agree == len(found.claims) else "bold yellow",
            )
        )
    if found.interrupted:
        lines.append(Text("interrupted: what was finished is above", style="bold yellow"))
    return Panel(
        Group(
            *lines,
            Text(
                f"{found.model}, {found.n} prompts, seed {found.seed}; {found.seconds:.0f} s",
                style="dim",
            ),
        ),
        title="indirect object identification",
        title_align="left",
    )
