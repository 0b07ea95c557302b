"""`interp debug`: the debugger in a browser; with a question, the same answers in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console

import weights
from interp.debugger import export, text
from interp.debugger.question import Question
from interp.debugger.session import Session
from minigpt.errors import MiniGPTError, problem


def debug(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="a name, a folder or a file; may be given several times"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8080,
    host: Annotated[
        str, typer.Option(help="the address to serve on; anything but the loopback lets others in")
    ] = "127.0.0.1",
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="open the page in a browser")
    ] = True,
    ask: Annotated[
        str | None, typer.Option("--ask", help="a prompt: answer here instead of in a browser")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", "-a", help="a token with its space; may be given several times"),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", "-o", help="a token that it is compared with; likewise"),
    ] = None,
    other: Annotated[str, typer.Option(help="a second prompt")] = "",
    patch: Annotated[
        list[str] | None,
        typer.Option(
            "--patch", help="an intervention: 'a2.6@13 = 0', 'm1 = other', 'a2.6 = x0.5'; likewise"
        ),
    ] = None,
    trail: Annotated[
        list[str] | None, typer.Option("--trail", help="a step upstream: 'a3.4.q@13<1'; likewise")
    ] = None,
    link: Annotated[
        str,
        typer.Option(
            help=(
                "a page's link, or what stands after its question mark; the options above are "
                "laid over it"
            )
        ),
    ] = "",
    result: Annotated[
        list[str] | None,
        typer.Option(
            "--result", "-r", help="summary, nodes, totals, upstream, details, ...; likewise"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print everything as JSON instead")
    ] = False,
) -> None:
    """Ask a model why, in the browser: nodes, attention, interventions, circuits. With --ask or
    --link: in the terminal."""
    session = Session({loaded.name: loaded for loaded in map(weights.load, model or ["ioi-mini"])})
    if ask is None and not link:
        _serve(session, host, port, show)
        return
    given = {
        "prompt": ask,
        "answers": answer,
        "distractors": over,
        "other": other,
        "patches": patch,
        "trail": trail,
    }
    asked = _question(
        session,
        link,
        {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if value
        },
    )
    _answer(session, asked, result or ["summary", "upstream" if asked.trail else "nodes"], as_json)


def _serve(session: Session, host: str, port: int, show: bool) -> None:
    try:
        from interp.debugger import start  # its libraries are an extra
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            problem(
                f"a server without {error.name}",
                "the extra that has it",
                "pip install 'minigpt-interp[debugger]'",
            )
        ) from error
    start.serve(session, host, port, show=show)


def _question(session: Session, link: str, given: dict[str, Any]) -> Question:
    """The link's question, with what was given besides; without a link, one of the first model."""
    asked = (
        Question.from_url(link.partition("?")[2] or link)
        if link
        else Question(model=next(iter(session.models)))
    )
    return replace(asked, **given)


def _answer(session: Session, asked: Question, results: Sequence[str], as_json: bool) -> None:
    """Print the results of one question."""
    runs = session.runs(asked)
    found = {name: export.result(runs, name) for name in results}
    if as_json:
        sys.stdout.write(
            "{"
            + ", ".join(
                f"{json.dumps(name)}: {export.as_json(each)}" for name, each in found.items()
            )
            + "}\n"
        )
        return
    for each in found.values():
        Console(highlight=False).print(text.view(each))
