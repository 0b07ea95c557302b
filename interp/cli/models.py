"""Commands on models: models, fetch, card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import weights
from interp.card import measure
from interp.cli.inputs import load
from interp.cli.options import Device, Json, Model
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from minigpt import MiniGPTError
from weights.catalog import HELD_OUT


def models(as_json: Json = False) -> None:
    """Which models are at hand, where from, and how large."""
    known = [vars(entry) for entry in weights.models()]
    plain = [
        {name: str(value) if isinstance(value, Path) else value for name, value in entry.items()}
        for entry in known
    ]
    rows = [
        (
            entry["name"],
            f"{entry['parameters'] / 1e6:,.1f}M",
            f"{entry['bytes'] / 1e6:,.0f} MB",
            str(entry["at_hand"] or f"not here: interp fetch {entry['name']}"),
            entry["source"],
        )
        for entry in known
    ]
    columns = ("name", ">parameters", ">size", "at hand", "from")
    say(plain, terminal.table(Table("models", columns, rows)), as_json)


def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, or any GPT-2 on the hub: "
            "org/name"
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="a branch, a tag or a commit of the repository")
    ] = None,
) -> None:
    """Download a model's weights and tokenizer (resumable), and check them against the hub's
    checksum."""
    console.print(f"{name} is at hand: {weights.fetch(name, revision)}", soft_wrap=True)


def card(
    model: Model = "ioi-mini",
    n: Annotated[int, typer.Option("--prompts", min=1)] = 500,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Measure again what the embedded model's card states: on name pairs and templates that its
    training never saw."""
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    if n > len(lines):
        raise MiniGPTError(f"{n} prompts", f"at most {len(lines)}, which training never saw")
    prompts = [tuple(json.loads(line)) for line in lines[:n]]
    figures = measure(load(model, device), prompts)
    rows = [(name.replace("_", " "), _value(value)) for name, value in figures.items()]
    say({**figures, KEY: record()}, terminal.table(Table(model, ("", "measured"), rows)), as_json)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number:.3f}" for name, number in value.items())
    return f"{value:g}"
