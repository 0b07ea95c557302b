"""The command that looks at sparse autoencoders: dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp import dictionaries as fits
from interp.cli.inputs import load, read
from interp.cli.options import Device, Json
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from minigpt.dictionary import NORMALISE, Dictionary
from weights.catalog import find
from weights.dictionaries import at_hand, inside, load_dictionary, log_sparsity

SITE = "what it reads, where its file does not say: m3, a5, m3.act, m3.in, resid6, resid6.mid"
SCALE = "the number that its input is multiplied by, where its file does not say"
SOURCE = (
    "its folder or file, or a folder of several; an embedded model's, ioi-mini or ioi-mini:m3; one "
    "on the hub, org/name:folder"
)
MODEL = "the model whose it is; default: the embedded one that it is of, or gpt2"
TEXTS = "a file of prompts, one a line, instead of the dozen here"


def dictionaries(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL)] = None,
    site: Annotated[str | None, typer.Option("--site", help=SITE)] = None,
    normalise: Annotated[str | None, typer.Option("--normalise", help=", ".join(NORMALISE))] = None,
    scale: Annotated[float | None, typer.Option("--scale", help=SCALE)] = None,
    texts: Annotated[Path | None, typer.Option("--prompts", help=TEXTS)] = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Load a sparse autoencoder or transcoder and say how well it fits the model; of a folder of
    several, list them."""
    path, name = at_hand(source), source.partition(":")[0]
    if path.is_dir() and (several := inside(path)):
        found = [f"{source}:{x.name}" if find(source) else str(x) for x in several]
        say(found, terminal.table(Table("dictionaries", ("",), [(x,) for x in found])), as_json)
        return
    loaded = load(model or (name if find(name) else "gpt2"), device)
    known = load_dictionary(source, site=site, model=loaded, normalise=normalise, scale=scale)
    prompts = fits.PROMPTS if texts is None else read(texts).splitlines()
    figures = _figures(known, source, fits.fit(loaded, known, prompts))
    rows = [(name, str(value)) for name, value in figures.items() if name != "advice"]
    say({**figures, KEY: record()}, terminal.table(Table(known.name, ("", ""), rows)), as_json)
    if not as_json and figures["advice"]:
        console.print(figures["advice"], soft_wrap=True)


def _figures(known: Dictionary, source: str, fit: fits.Fit) -> dict[str, Any]:
    """What a dictionary is, and what it does, by name."""
    kept = log_sparsity(source)
    return {
        "reads": known.reads,
        "explains": known.explains,
        "latents": known.n_latents,
        "activation": type(known.activation).__name__,
        "normalise": known.normalise,
        "scale": known.scale,
        "hash": known.hash[:16],
        "tokens": fit.tokens,
        "explained variance": round(fit.explained, 4),
        "explained variance of first tokens": round(fit.explained_first, 4),
        "latents on per token": round(fit.l0, 2),
        "latents never on here": fit.dead,
        "rarer than 1e-6 in training": None if kept is None else int((kept < -6).sum()),
        "loss": round(fit.loss, 4),
        "loss with the reconstruction": round(fit.reconstructed, 4),
        "loss with nothing there": round(fit.zeroed, 4),
        "cross-entropy recovered": round(fit.recovered, 4),
        "advice": fit.advice,
    }
