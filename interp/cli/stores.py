"""The stores that commands read: where they are, whose they are, and what they say of
themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import minigpt
from interp.cli.inputs import EMBEDDED
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.provenance import KEY, fingerprint
from interp.show import terminal
from interp.show.document import Table
from minigpt import GPT2, MiniGPTError
from weights.catalog import CONCEPTS, EXPLAINED

STORE = "the folder that `interp collate` made"
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", "-s", help=f"{STORE}; default: the embedded model on its own text"),
]


def stores(models: Sequence[GPT2], folders: Sequence[Path]) -> dict[str, Any]:
    """The stores in some folders by the names of their models; without any, that of the embedded
    model's own text, where it was made before. MiniGPTError for one of another model."""
    every, found = folders or _made(), {}
    known = {fingerprint(model): model for model in models} if every else {}
    for folder in every:
        opened = corpora().Store(folder, models[0].words)
        model = known.get(opened.manifest["parameters"])
        if model is not None:
            found[model.name] = corpora().Store(folder, model.words)
        elif folders:
            same(opened, models[0])
    return found


def _made() -> list[Path]:
    return [own()] if (own() / "records.parquet").is_file() else []


def own() -> Path:
    """Where the store of the embedded model's own text is kept."""
    from interp.corpus.store import FORMAT

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "minigpt-interp" / f"ioi-mini-{minigpt.__version__}-{FORMAT}"


def store_of(model: GPT2, folder: Path | None, progress: bool = True) -> Any:
    """The store that was named; of the embedded model, that of its own text, made when first asked
    for."""
    made = corpora()
    if folder is None and model.name in EMBEDDED:
        found = made.make(model, [CONCEPTS], own(), progress=progress)
        if not found.is_explained and EXPLAINED.is_file():
            shutil.copyfile(EXPLAINED, found.folder / EXPLAINED.name)
        return found
    if folder is None:
        raise MiniGPTError(
            f"a component of {model.name} without a corpus",
            "the folder that `interp collate` made",
            "interp collate CORPUS --out FOLDER, then --store FOLDER",
        )
    found = made.Store(folder, model.words)
    same(found, model)
    return found


def corpora() -> Any:
    """The rooms of a corpus, whose libraries are an extra."""
    try:
        from interp.corpus import make
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"a corpus without {error.name}",
            "the extra that has it",
            "pip install 'minigpt-interp[corpus]'",
        ) from error
    return make


def same(opened: Any, model: GPT2) -> None:
    """MiniGPTError where a store is of another model."""
    if not is_of(opened, model):
        raise MiniGPTError(
            f"{opened.folder} is a store of {opened.manifest['model']}, not of {model.name}",
            "the model that it was made with",
            f"--model {opened.manifest['model']}",
        )


def is_of(opened: Any, model: GPT2) -> bool:
    """Whether a store is of this model."""
    of: str = opened.manifest["parameters"]
    return of == fingerprint(model)


def say_what(opened: Any, as_json: bool) -> None:
    """What a store is of, and what to type next."""
    said = opened.said
    rows = [(name, str(value)) for name, value in said.items()]
    say({**said, KEY: record()}, terminal.table(Table(str(opened.folder), ("", ""), rows)), as_json)
    if not as_json:
        console.print(f"next: interp component {said['for example']} --store {opened.folder}")
