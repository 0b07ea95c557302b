"""Tables that grow row by row: printed as they come, kept as JSON lines at once and as one page of
Markdown whenever a section ends, however it ends."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One table: its name, a heading, how to read it, and what measures its rows of a subject.

    A row with "holds" of False is a check that failed.
    """

    name: str
    heading: str
    text: str
    rows: Callable[[Any], Iterator[Row]]


@dataclass(eq=False)
class Report:
    """The tables so far, in a folder: README.md and results.jsonl.

    minutes: after which nothing new is begun.
    """

    folder: Path
    facts: Row
    minutes: float
    tables: list[tuple[Section, list[Row], str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "results.jsonl").write_text("")
        self._line({"table": "facts", **self.facts})

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self.start

    def measure(self, sections: Iterable[Section], subject: object) -> bool:
        """Every section, whatever becomes of the others; whether all went well."""
        for section in sections:
            self.say(f"{section.name}: {section.heading}")
            rows: list[Row] = []
            end = self._rows(section, subject, rows)
            self.tables.append((section, rows, end))
            (self.folder / "README.md").write_text(self.page())
        self.say(f"done; {len(self.faults)} faults" + "".join(f"\n  {x}" for x in self.faults))
        return not self.faults

    def _rows(self, section: Section, subject: object, rows: list[Row]) -> str:
        """Fill in the rows; how it ended, where that is not well."""
        try:
            measuring = section.rows(subject)
            while self.seconds < 60 * self.minutes:
                row = next(measuring, None)
                if row is None:
                    return ""
                rows.append(row)
                self._keep(section, row)
        except Exception as error:
            traceback.print_exc()
            return self._fault(section, f"{type(error).__name__}: {error}".partition("\n")[0])
        return self._fault(section, f"stopped after {self.minutes:g} minutes")

    def _keep(self, section: Section, row: Row) -> None:
        self._line({"table": section.name, **row})
        self.say("  " + ", ".join(f"{key} {text(value)}" for key, value in row.items()))
        if row.get("holds") is False:
            self._fault(section, f"does not hold: {next(iter(row.values()))}")

    def _fault(self, section: Section, what: str) -> str:
        self.faults.append(f"{section.name}: {what}")
        self.say(f"  FAULT {what}")
        return what

    def _line(self, row: Row) -> None:
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def say(self, what: str) -> None:
        """A line of progress."""
        print(f"[{self.seconds:6.1f} s] {what}", flush=True)

    def page(self) -> str:
        """All tables as Markdown."""
        head = [
            "# One device, measured",
            "Made by `python -m benchmarks.gpu`; the same rows stand in `results.jsonl`.",
            table([self.facts]),
        ]
        parts = [
            f"## {section.heading}\n\n{section.text}\n\n{table(rows)}"
            + (f"\n\n**Not complete:** {end}" if end else "")
            for section, rows, end in self.tables
        ]
        return "\n\n".join([*head, *parts]) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, a column a key, numbers to the right."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    sides = ["---:" if _numbers(rows, name) else "---" for name in columns]
    lines = [columns, sides, *([text(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else "Nothing."


def _numbers(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(type(value) in (int, float) for value in values)


def text(value: Any) -> str:
    """A value for a reader: three digits of a number, yes and no, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
