"""How a record shows itself: on a line, and in a notebook as a table under that line.

Knows nothing of any record: each says what its rows are, or they are its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

# Letters of a line, of a value in it, of a cell; rows of a table that is longer.
LINE, VALUE, CELL, ROWS = 118, 60, 200, 12

Row = Sequence[object]

# In the tag itself: a notebook's own styles set every cell to the right.
LEFT, RIGHT = " style='text-align:left'", " class=n style='text-align:right;padding-left:1em'"


class Shown:
    """A record whose `repr` is its text, or its fields, cut to a line; and which in a notebook is a
    table, escaped."""

    def _fields(self) -> Iterator[tuple[str, Any]]:
        known = getattr(self, "__dataclass_fields__", None) or vars(self)
        return ((name, getattr(self, name)) for name in known if not name.startswith("_"))

    def _table(self) -> Iterable[Row]:
        """The names of the columns ('>' before one sets it to the right), then rows."""
        yield "", ""
        yield from self._fields()

    def __repr__(self) -> str:
        if type(self).__str__ is not object.__str__:
            said = repr(str(self))
        else:
            said = ", ".join(f"{name}={short(value)}" for name, value in self._fields())
        return f"{cut(f'{type(self).__name__}({said}', LINE)})"

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        line = escape(repr(self).partition("\n")[0])
        cells = ([escape(short(cell, str, CELL)) for cell in row] for row in rows)
        return f"<div><code>{line}</code>{table([str(name) for name in head], cells)}</div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells that are HTML, under columns that are named in text. Columns whose names begin
    with '>' are set to the right.

    >>> table(['a'], [['x']])
    "<table><tr><th style='text-align:left'>a<tr><td style='text-align:left'>x</table>"
    """
    sides = [RIGHT if name.startswith(">") else LEFT for name in columns]
    head = [escape(name.lstrip(">")) for name in columns]
    lines = [_row("th", sides, head)] if any(head) else []
    return f"<table>{''.join([*lines, *(_row('td', sides, row) for row in rows)])}</table>"


def short(value: object, say: Callable[[object], str] = repr, most: int = VALUE) -> str:
    """A value in a few words: of what is large, its kind and size.

    >>> short(0.123456), short(('a', 1)), short({'IO': 1, 'S2': 2}), short(range(9))
    ('0.1235', "('a', 1)", '{IO, S2}', '9 items')
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + cut(", ".join(map(str, value)), most) + "}"
    if isinstance(value, str):
        return cut(say(value), most)
    return _several(value) if isinstance(value, Sequence) else cut(_line(value), most)


def cut(text: str, most: int) -> str:
    """A text of at most so many letters, the rest as three points."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _row(tag: str, sides: Sequence[str], cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}{side}>{x}" for side, x in zip(sides, cells, strict=True))


def _several(values: Sequence[object]) -> str:
    said = f"({', '.join(map(short, values))})" if len(values) <= 4 else ""
    return said if 0 < len(said) <= VALUE else f"{len(values)} items"


def _line(value: object) -> str:
    return repr(value).partition("\n")[0]
