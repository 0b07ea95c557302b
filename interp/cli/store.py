"""interp store: what a store is of, its components by what is searched for, whether it is whole;
several made one; all its pages in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli.inputs import EMBEDDED, load
from interp.cli.options import Json, Latents, Model, Vocabulary
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.cli.stores import STORE, corpora, is_of, same, say_what
from interp.debugger.question import Question
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from interp.views.component import nowhere
from minigpt import GPT2, MiniGPTError

Folders = Annotated[
    list[Path], typer.Argument(help=f"{STORE}; a folder of stores; several, to make them one")
]
Find = Annotated[str, typer.Option("--find", help="components that are largest at this token")]
Where = Annotated[str, typer.Option("--where", help="or whose statistics say: 'kurtosis > 50'")]
Say = Annotated[str, typer.Option("--words", help="or whose explanation has these words: 'number'")]
Check = Annotated[
    bool, typer.Option("--check", help="whether its files, and some records, are right")
]
Out = Annotated[Path | None, typer.Option("--out", help="the folder in which several become one")]
Pages = Annotated[
    Path | None, typer.Option("--html", help="a folder of pages, of all or of what is found")
]
Debugger = Annotated[
    str, typer.Option("--debugger", help="where their examples lead: http://localhost:8080")
]


def store(
    folders: Folders,
    find: Find = "",
    where: Where = "",
    words: Say = "",
    check: Check = False,
    out: Out = None,
    html: Pages = None,
    debugger: Debugger = "",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    as_json: Json = False,
) -> None:
    """What a store is of; its components by what is searched for; whether it is whole; several made
    one; all its pages in a folder."""
    search = find or where or words
    _one_thing(folders, out, search, check)
    loaded = load(model, "cpu", tokenizer, latents=latents or EMBEDDED.get(model))
    if out is not None:
        _merge(loaded, folders, out, as_json)
        return
    if not _is_store(folders[0]):
        _list(loaded, folders[0], as_json)
        return
    opened = corpora().Store(folders[0], loaded.words)
    if html is not None:
        found = opened.find(find, where, words, k=len(opened)) if search else []
        chosen = [address for address, _ in found] if search else opened.addresses
        _site(loaded, opened, html, chosen, debugger, as_json)
    elif check:
        _check(opened, loaded, as_json)
    elif search:
        _found(opened, opened.find(find, where, words), as_json)
    else:
        say_what(opened, as_json)


def _one_thing(folders: Sequence[Path], out: Path | None, search: str, check: bool) -> None:
    """MiniGPTError where it is not clear what to do with which."""
    if len(folders) > 1 and out is None:
        raise MiniGPTError(
            f"{len(folders)} stores", "one; or several with --out", "interp store A B --out BOTH"
        )
    if out is not None and (search or check or len(folders) < 2):
        also = " and a search or a check" if search or check else ""
        raise MiniGPTError(
            f"--out with {len(folders)} stores{also}",
            "several stores, which it makes one",
            "interp store A B --out BOTH",
        )


def _is_store(folder: Path) -> bool:
    """Whether it is a store, or may be meant to be one: it has no stores in it."""
    return (folder / "manifest.json").is_file() or not [*folder.glob("*/manifest.json")]


def _list(loaded: GPT2, folder: Path, as_json: bool) -> None:
    """The stores in a folder."""
    paths = sorted(folder.glob("*/manifest.json"))
    found = [corpora().Store(path.parent, loaded.words) for path in paths]
    names = ("model", "documents", "tokens", "components", "megabytes")
    data = [{"folder": s.folder.name, **{n: s.said[n] for n in names}} for s in found]
    rows = [[str(value) for value in row.values()] for row in data]
    head = ("store", "model", *(f">{name}" for name in names[1:]))
    say({"stores": data, KEY: record()}, terminal.table(Table(str(folder), head, rows)), as_json)


def _found(opened: Any, found: Sequence[tuple[str, float]], as_json: bool) -> None:
    each = [(address, by, opened.sentence(address)) for address, by in found]
    rows = [(address, f"{by:.3g}", sentence) for address, by, sentence in each]
    names = ("address", "by", "explanation")
    data = {"found": [dict(zip(names, row, strict=True)) for row in each], KEY: record()}
    say(data, terminal.table(Table("", ("component", ">by", "explanation"), rows)), as_json)


def _merge(loaded: GPT2, folders: Sequence[Path], out: Path, as_json: bool) -> None:
    from interp.corpus.merge import merge  # its libraries are an extra

    made = merge([corpora().Store(folder, loaded.words) for folder in folders], out)
    say_what(made, as_json)


def _check(opened: Any, loaded: GPT2, as_json: bool) -> None:
    """Exit status 1 where something is wrong."""
    from interp.corpus.check import check

    own = loaded if is_of(opened, loaded) else None
    found = check(opened, own)
    rows = [(x.what, ("yes" if x.holds else "NO"), x.found) for x in found]
    title = str(opened.folder) if own else f"{opened.folder} (records: not checked, another model)"
    data = {"checked": [asdict(x) for x in found], KEY: record()}
    say(data, terminal.table(Table(title, ("", "right", ""), rows)), as_json)
    if not all(x.holds for x in found):
        raise SystemExit(1)


def _site(
    loaded: GPT2, opened: Any, folder: Path, chosen: Sequence[str], debugger: str, as_json: bool
) -> None:
    from interp.views.site import Site

    same(opened, loaded)
    base = debugger.rstrip("/")
    link = (lambda c, e: f"{base}/?{_asked(loaded, c, e)}") if base else nowhere
    Site(opened, loaded, folder, chosen, link).write(progress=not as_json)
    where = folder / "index.html"
    say({"pages": len(chosen), "index": str(where), KEY: record()}, "", as_json)
    if not as_json:
        console.print(f"{len(chosen)} pages: open {where}", soft_wrap=True)


def _asked(loaded: GPT2, component: Any, example: Any) -> str:
    """The question at an example's node, as a link has it."""
    node = f"{component.address}@{example.at}"
    asked = Question(model=loaded.name, prompt=example.before, node=node, tab="nodes")
    return asked.to_url()
