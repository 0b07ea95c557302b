"""An answer printed as a document or as JSON, and written as a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import page, terminal
from interp.show.document import Document, Section, Table
from minigpt import MiniGPTError

console = Console(highlight=False, soft_wrap=False)


def show(
    data: Mapping[str, Any],
    document: Callable[[], Document],
    as_json: bool,
    html: Path | None = None,
) -> None:
    """Everything as JSON, or what a terminal can show; with html, a page besides. The document,
    whose pictures cost most, is made only where one is drawn."""
    if as_json:
        _print({**data, KEY: record()})
    if as_json and html is None:
        return
    made = document()
    if not as_json:
        console.print(terminal.document(made))
    if html is not None:
        _write(page.document(_signed(made)), html)


def _signed(made: Document) -> Document:
    """A document that says where it comes from."""
    rows = [
        (f"{name} {inner}".strip(), str(value))
        for name, values in record().items()
        for inner, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
    section = Section("Where this comes from", "", [Table("", ("", ""), rows)])
    return replace(made, sections=[*made.sections, section])


def say(data: Any, view: RenderableType, as_json: bool) -> None:
    """One or the other."""
    if as_json:
        _print(data)
    else:
        console.print(view)


def _print(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _write(html: str, path: Path) -> None:
    try:
        page.save(html, path)
    except OSError as error:
        raise MiniGPTError(
            f"--html {path}: {error.strerror}", "a file in a folder that exists and may be written"
        ) from error
    Console(stderr=True).print(f"wrote {path}")
