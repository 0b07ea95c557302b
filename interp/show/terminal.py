"""A document as a terminal shows it: tables, a heat map of cells, tokens shaded by attention. What
only a page can draw is left out, and what it comes to stands last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from rich import table as grids
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text as TextLine

from interp.show.document import (
    Attention,
    Block,
    Document,
    HeatMap,
    Paragraph,
    Picture,
    Prompt,
    Section,
    Table,
    Texts,
    Words,
    spans,
)
from interp.show.document import Text as Lit

# A smaller share of the strongest has no colour.
FAINT = 0.08
FOR, AGAINST = (88, 166, 235), (235, 100, 100)
STYLES = {
    "strong": "bold",
    "soft": "dim",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "for": "blue",
    "against": "red",
}


def document(shown: Document) -> RenderableType:
    """Title, every section that a terminal can show, and the verdict in a frame."""
    drawn = [part for section in shown.sections for part in _section(section)]
    return Group(TextLine(shown.title, style="bold"), TextLine(""), *drawn, *_verdict(shown))


def block(shown: Block) -> RenderableType:
    """One block alone."""
    match shown:
        case Paragraph(words):
            return text(words)
        case Prompt(tokens):
            return _tokens(tokens)
        case Table():
            return table(shown)
        case HeatMap():
            return heat_map(shown)
        case Attention(tokens, weights):
            return TextLine("\n").join(_shaded(name, tokens, row) for name, row in weights.items())
        case Texts(rows):
            return TextLine("\n").join(map(_lit, rows))
        case Picture(instead=instead):
            return heat_map(instead) if instead else Group()


def table(shown: Table) -> grids.Table:
    """A plain table."""
    drawn = grids.Table(
        title=shown.title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in shown.columns[: shown.narrow]:
        drawn.add_column(
            column.lstrip(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
        )
    for row in shown.rows:
        drawn.add_row(*map(text, row[: shown.narrow]))
    return drawn


def heat_map(shown: HeatMap, width: int = 7) -> TextLine:
    """Layers x heads (or what is named), each cell its number on its colour; in parts below one
    another where it is wider than the terminal."""
    values = shown.values
    rows = list(shown.rows) or [str(layer) for layer in range(len(values))]
    columns = [name[: width - 1] for name in shown.columns] or [*map(str, range(values.shape[1]))]
    margin = max(4, *map(len, rows))
    fit = max(1, (shutil.get_terminal_size((80, 0)).columns - margin - 1) // width)
    drawn = TextLine(shown.title + " (rows: layers)" * (not shown.rows), style="bold")
    for first in range(0, len(columns), fit):
        head = "".join(f"{name:>{width}}" for name in columns[first : first + fit])
        drawn.append(f"\n{'':{margin}} {head}", style="dim not bold")
        for name, row in zip(rows, values[:, first : first + fit].tolist(), strict=True):
            drawn.append(f"\n{name:>{margin}} ", style="dim not bold")
            _cells(drawn, shown, row, width)
    return drawn


def _cells(drawn: TextLine, shown: HeatMap, row: Sequence[float], width: int) -> None:
    """The numbers of one row, each on its colour."""
    sign, side = ("", -1) if shown.costs else ("+", 1)
    most = side * (float(shown.values.nan_to_num().abs().max()) or 1.0)
    for value in row:
        number = f"{value:{sign}.{shown.digits}f}" if value == value else ""
        drawn.append(f"{number:>{width}}", style=f"not bold black on {mix(value / most)}")


def text(words: Words) -> TextLine:
    """A sentence or a cell."""
    return TextLine.assemble(
        *(
            (repr(span.text) if span.style == "token" else span.text, STYLES.get(span.style, ""))
            for span in spans(words)
        )
    )


def mix(share: float) -> str:
    """A colour between white (0) and FOR (1) or AGAINST (-1); NaN is white."""
    end, part = (FOR if share > 0 else AGAINST), min(abs(share), 1.0) if share == share else 0.0
    return "rgb(" + ",".join(str(round(245 + (channel - 245) * part)) for channel in end) + ")"


def _section(section: Section) -> Iterator[RenderableType]:
    blocks = [block(shown) for shown in section.blocks if _can_show(shown)]
    if section.blocks and not blocks:
        return
    if section.heading:
        aside = f"   {section.aside}" if section.aside else ""
        yield TextLine.assemble((section.heading, "bold"), (aside, "dim"))
    if section.text:
        yield TextLine(section.text, style="dim")
    yield from blocks
    yield TextLine("")


def _can_show(shown: Block) -> bool:
    return not isinstance(shown, Picture) or shown.instead is not None


def _verdict(shown: Document) -> Iterator[RenderableType]:
    colour = {True: "green", False: "red", None: "dim"}[shown.good]
    lines = [
        *map(text, shown.verdict),
        *([TextLine(shown.about, style="dim")] if shown.about else []),
    ]
    if lines:
        yield Panel(Group(*lines), border_style=colour)


def _tokens(tokens: Sequence[str]) -> TextLine:
    return TextLine.assemble(
        *((token, "on grey19" if i % 2 else "on grey30") for i, token in enumerate(tokens))
    )


def _lit(row: Lit) -> TextLine:
    """A text on the colours of its tokens, the one that is meant underlined."""
    drawn = TextLine(f"{row.label:>9}  ", style="bold")
    for i, (token, share) in enumerate(zip(row.tokens, row.shares, strict=True)):
        plain = abs(share) < FAINT if share == share else True
        colour = "not bold" if plain else f"not bold black on {mix(share)}"
        line = " underline" if i == row.at else " italic" if i == row.to else ""
        drawn.append(_one_line(token), style=colour + line)
    return drawn


def _one_line(token: str) -> str:
    """A token without its line breaks, which a row has no room for."""
    return token.replace("\r", "").replace("\n", "\u21b5")


def _shaded(address: str, tokens: Sequence[str], weights: Sequence[float]) -> TextLine:
    cells = (
        (token, f"black on {mix(weight)}" if weight >= 0.02 else "dim")
        for token, weight in zip(tokens, weights, strict=True)
    )
    return TextLine.assemble((f"{address:<6} ", "bold"), *cells)
