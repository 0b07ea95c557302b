"""The command that checks numbers: audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp import audit as audits
from interp.audit import view
from interp.cli.inputs import load
from interp.cli.options import Device, Html, Json, Latents, Model
from interp.cli.output import show
from interp.tasks import Prompts

ONLY = f"one section: {', '.join(audits.SECTIONS)}; may be given several times"
AGAINST = (
    "hf: Hugging Face's code around the same weights; none; or the model that this one is "
    "supposed to be"
)
PROMPTS = "pairs with answers and distractors, as --pairs of `interp patch`"


def audit(
    model: Model = "ioi-mini",
    against: Annotated[str, typer.Option(help=AGAINST)] = "hf",
    prompts: Annotated[Path | None, typer.Option("--prompts", help=PROMPTS)] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help=ONLY)] = None,
    latents: Latents = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Check every promise about the numbers, and measure what is no promise; exit status 1 where a
    promise is broken."""
    loaded = load(model, device, latents=latents)
    done = audits.audit(
        loaded,
        None if prompts is None else Prompts.load(prompts, loaded.tokenizer),
        only=only or audits.SECTIONS,
        against=None if against in ("hf", "none") else load(against, device).params,
        outside=against != "none",
        progress=not as_json,
    )
    show(done.to_dict(), lambda: view.audit(done), as_json, html)
    if done.broken:
        raise typer.Exit(1)
