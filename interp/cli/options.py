"""The arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from minigpt import MiniGPTError

Prompt = Annotated[
    str, typer.Argument(help="the text that the model continues; end it without a space")
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="a name from `interp models`, a folder, or a checkpoint file"
    ),
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        help=(
            "the model's vocabulary, where it does not lie beside the weights: tokenizer.json, "
            "merges.txt, a JSON list of names, nanoGPT's meta.pkl, or a folder with one of them"
        ),
    ),
]
Ids = Annotated[
    bool,
    typer.Option(
        "--tokens", "--ids", help="prompts and answers are token ids: '464,2068' or '464 2068'"
    ),
]
Latents = Annotated[
    list[str] | None,
    typer.Option(
        "--latents",
        help=(
            "a dictionary of the model, or a folder of several: ioi-mini, ioi-mini:m3, a folder or "
            "file as `interp dictionaries` reads, org/name:folder of the hub; may be given several "
            "times"
        ),
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, ...")]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON instead")]


def writable(option: str) -> Callable[[Path | None], Path | None]:
    """An option's file, if it can be written: asked before the work, not after it."""

    def checked(file: Path | None) -> Path | None:
        if file is not None:
            folder = file.parent
            if file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
                what = "is a folder" if file.is_dir() else f"{folder} is no folder to write into"
                raise MiniGPTError(
                    f"{option} {file}: {what}", "a file in a folder that exists and may be written"
                )
        return file

    return checked


Html = Annotated[
    Path | None,
    typer.Option(
        "--html", help="also write a page with pictures to this file", callback=writable("--html")
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        "--pairs", help="a file of pairs: JSON lines, CSV, AutoCircuit's JSON, MIB's parquet"
    ),
]
Clean = Annotated[str | None, typer.Argument(help="the clean prompt")]
Corrupt = Annotated[
    str | None, typer.Argument(help="the corrupt prompt: as many tokens, one thing changed")
]
Answer = Annotated[
    str | None, typer.Option("--answer", "-a", help="the clean prompt's answer, with its space")
]
Over = Annotated[str | None, typer.Option("--over", "-o", help="the token it is compared with")]
Top = Annotated[int, typer.Option("--top", "-k", min=1)]
Workers = Annotated[int, typer.Option("--workers", min=1, help="processes; 1: this one")]
Ray = Annotated[
    str, typer.Option("--ray", help="a Ray cluster instead: its address, auto, or local")
]
