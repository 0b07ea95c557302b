"""`interp debug`: the debugger in a browser; with a question, the same answers in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli.inputs import EMBEDDED, load
from interp.cli.options import Ids, Latents, Vocabulary
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.cli.stores import stores
from interp.debugger import export, text
from interp.debugger.question import Question
from interp.debugger.saved import Saved
from interp.debugger.session import Session
from interp.provenance import KEY
from interp.show import terminal
from minigpt import MiniGPTError

Many = list[str] | None
Models = Annotated[
    Many,
    typer.Option("--model", "-m", help="a name, a folder or a file; may be given several times"),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")]
Host = Annotated[
    str, typer.Option(help="the address to serve on; anything but the loopback lets others in")
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="open the page in a browser")]
Ask = Annotated[
    str | None, typer.Option("--ask", help="a prompt: answer here instead of in a browser")
]
Answers = Annotated[
    Many,
    typer.Option("--answer", "-a", help="a token with its space; may be given several times"),
]
Overs = Annotated[
    Many, typer.Option("--over", "-o", help="a token that it is compared with; likewise")
]
Patches = Annotated[
    Many,
    typer.Option(
        "--patch", help="an intervention: 'a2.6@13 = 0', 'm1 = other', 'a2.6 = x0.5'; likewise"
    ),
]
Trail = Annotated[Many, typer.Option("--trail", help="a step upstream: 'a3.4.q@13<1'; likewise")]
Link = Annotated[
    str,
    typer.Option(
        help="a page's link, or what stands after its question mark; the options above are laid "
        "over it"
    ),
]
Results = Annotated[
    Many,
    typer.Option("--result", "-r", help="summary, nodes, totals, upstream, details, ...; likewise"),
]
Views = Annotated[
    Path | None,
    typer.Option("--views", help="a file of yours in which the page keeps views under names"),
]
Other = Annotated[str, typer.Option(help="a second prompt")]
Stores = Annotated[
    list[Path] | None,
    typer.Option(
        "--store", help="a folder that `interp collate` made, for pages of components; likewise"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON instead")]


def debug(
    model: Models = None,
    port: Port = 8080,
    host: Host = "127.0.0.1",
    show: Open = True,
    ask: Ask = None,
    answer: Answers = None,
    over: Overs = None,
    other: Other = "",
    patch: Patches = None,
    trail: Trail = None,
    link: Link = "",
    result: Results = None,
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    latents: Latents = None,
    views: Views = None,
    store: Stores = None,
    as_json: Json = False,
) -> None:
    """Ask a model why, in the browser: nodes, attention, interventions, circuits. With --ask or
    --link: in the terminal."""
    saved = None if views is None else Saved(views)
    if saved is not None:
        saved.all()  # what is wrong with the file is said before a model is loaded

    session = partial(loaded, model, tokenizer, ids, latents, store, saved)
    if ask is None and not link:
        serve(session, host, port, show)
        return
    many = {"answers": answer, "distractors": over, "patches": patch, "trail": trail}
    typed = {
        **{name: text for name, text in (("prompt", ask), ("other", other)) if text},
        **{name: tuple(texts) for name, texts in many.items() if texts},
    }
    models = session()
    _answer(models, _question(models, link, typed), result, as_json)


def loaded(
    model: Many,
    tokenizer: Path | None,
    ids: bool,
    latents: Many,
    store: list[Path] | None,
    saved: Saved | None = None,
) -> Session:
    """The models that were named, or the embedded one, with their stores."""
    found = [
        load(name, vocabulary=tokenizer, ids=ids, latents=latents or EMBEDDED.get(name))
        for name in model or ["ioi-mini"]
    ]
    known = {each.name: each for each in found}
    return Session(known, saved=saved, stores=stores(found, store or []))


def serve(session: Callable[[], Session], host: str, port: int, show: bool, at: str = "/") -> None:
    """The page in a browser; at: which one it begins with."""
    try:
        from interp.debugger import start  # its libraries are an extra
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"a server without {error.name}",
            "the extra that has it",
            "pip install 'minigpt-interp[debugger]'",
        ) from error
    start.serve(session, host, port, show=show, at=at)


def _question(session: Session, link: str, given: dict[str, Any]) -> Question:
    """The link's question, with what was given besides; without a link, one of the first model."""
    asked = (
        Question.from_url(link.partition("?")[2] or link)
        if link
        else Question(model=next(iter(session.models)))
    )
    return replace(asked, **given)


def _answer(session: Session, asked: Question, results: Many, as_json: bool) -> None:
    """Print the results of one question, by default those that answer it."""
    runs, usual = session.runs(asked), ["summary", "upstream" if asked.trail else "nodes"]
    answers = {name: export.result(runs, name) for name in results or usual}
    if as_json:
        plain = {name: asdict(answer) for name, answer in answers.items()}
        say({**plain, KEY: record()}, "", as_json)
        return
    for answer in answers.values():
        console.print(terminal.document(text.view(answer)))
