"""The command that computes an exported answer once more: verify."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli.inputs import read
from interp.cli.options import Json
from interp.cli.output import say
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Document, Section, Table
from minigpt import MiniGPTError

# Where an answer says how long it took, nothing is compared.
CLOCKS = ("seconds",)
# So much a number may differ, as a share of the largest of its kind, and still be the same but for
# rounding.
ROUNDING = 1e-4
Difference = tuple[str, Any, Any]


def verify(
    file: Annotated[Path, typer.Argument(help="an answer that a command wrote with --json")],
    as_json: Json = False,
) -> None:
    """Compute an exported answer once more, with the command that it says it comes from, and say
    what differs; exit status 1 where more than rounding does."""
    before = _answer(file)
    after = _again(before[KEY]["command"])
    made = [*differences(_made(before), _made(after))]
    # a page saves one result alone, of those that the command prints by their names
    now = after[before[KEY]["result"]] if "result" in before[KEY] else after
    found = [*differences(_result(before), _result(now))]
    far = [each for each in found if not near(each)]
    verdict = "the same to the last bit" if not found else "the same but for rounding"
    verdict = f"{len(far)} of the answer's values differ" if far else verdict
    data = {"verdict": verdict, "values": found, "provenance": made}
    say(data, terminal.document(_shown(verdict, far, made)), as_json)
    if far:
        raise typer.Exit(1)


def _shown(verdict: str, far: list[Difference], made: list[Difference]) -> Document:
    """The verdict, what differs by more than rounding, and what was another then."""
    kinds = (("What differs", far), ("What it was made with", made))
    sections = [
        Section(title, "", [Table("", ("where", "in the file", "now"), _rows(some))])
        for title, some in kinds
        if some
    ]
    return Document(verdict[0].upper() + verdict[1:], sections, good=not far)


def _rows(some: list[Difference], most: int = 40) -> list[tuple[str, str, str]]:
    rows = [(place, _short(was), _short(now)) for place, was, now in some[:most]]
    return rows + [(f"and {len(some) - most} more", "", "")] * (len(some) > most)


def _answer(file: Path) -> dict[str, Any]:
    text = read(file)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MiniGPTError(
            f"{file} is no JSON: {error}", "an answer that --json printed"
        ) from error
    made = found.get(KEY) if isinstance(found, dict) else None
    command = made.get("command") if isinstance(made, dict) else None
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise MiniGPTError(
            f"{file} does not say where it comes from",
            "what why, patch, paths, circuit, ioi, audit, generate, card or debug --ask print with "
            "--json, or the debugger's page saves as JSON",
        )
    if why := dict(made or {}).get("partial"):
        raise MiniGPTError(
            f"{file} cannot be computed again by a command: {why}",
            "the same view saved as Python, which is a script with the same numbers",
        )
    return dict(found)


def _again(command: list[str]) -> dict[str, Any]:
    words = [*_without_pages(command)]
    done = subprocess.run(
        [sys.executable, "-m", "interp.cli", *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        return dict(json.loads(done.stdout))
    except ValueError as error:
        raise MiniGPTError(
            f"`interp {' '.join(words)}` gave no answer", "the files and the model as they were"
        ) from error


def _without_pages(command: list[str]) -> Iterator[str]:
    """The command less what only shows its answer."""
    words = iter(command)
    for word in words:
        if word == "--html":
            next(words, None)
        elif word != "--json" and not word.startswith("--html="):
            yield word


def _made(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer was made with, less how the command was worded."""
    names = "models", "files", "versions", "machine"
    return {name: answer[KEY].get(name, {}) for name in names}


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in answer.items() if name not in (KEY, *CLOCKS)}


def differences(was: Any, now: Any, place: str = "") -> Iterator[Difference]:
    """Where two plain values differ: the place, what was there, what is."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in {**was, **now}:
            yield from differences(was.get(name), now.get(name), f"{place}.{name}".lstrip("."))
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for i, (old, new) in enumerate(zip(was, now, strict=True)):
            yield from differences(old, new, f"{place}[{i}]")
    elif was != now and not (was != was and now != now):
        yield place, was, now


def near(difference: Difference) -> bool:
    """Whether a difference is one of rounding."""
    _, was, now = difference
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (was, now))
    return numbers and math.isclose(was, now, rel_tol=ROUNDING, abs_tol=ROUNDING)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
