"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompt = Annotated[
    str, typer.Argument(help="the text that the model continues; end it without a space")
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="a name from `interp models`, a folder, or a checkpoint file"
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, ...")]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON instead")]
Html = Annotated[
    Path | None, typer.Option("--html", help="also write a page with pictures to this file")
]
Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", help="a file of pairs: JSON lines, CSV, or AutoCircuit's JSON"),
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
