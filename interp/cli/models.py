"""Commands on models: models, fetch, card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

import weights
from interp.card import measure, measure_dictionaries
from interp.cli.inputs import load
from interp.cli.options import Device, Json, Model
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from minigpt import GPT2, MiniGPTError
from weights.catalog import CONCEPTS, HELD_OUT


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
    loaded = load(model, device)
    figures = measure(loaded, prompts)
    rows = [(name.replace("_", " "), _value(value)) for name, value in figures.items()]
    shown = [terminal.table(Table(model, ("", "measured"), rows))]
    if model == "ioi-mini":
        lit = _dictionaries(loaded, progress=not as_json)
        figures, shown = {**figures, **lit}, [*shown, *map(terminal.table, _lit(lit))]
    say({**figures, KEY: record()}, Group(*shown), as_json)


def _dictionaries(model: GPT2, progress: bool) -> dict[str, Any]:
    """The figures of the embedded dictionaries, on text whose truth is known."""
    lines = [json.loads(line) for line in CONCEPTS.read_text(encoding="utf-8").splitlines()]
    known = weights.load_dictionaries("ioi-mini", model=model)
    return measure_dictionaries(model, known, lines, progress)


def _lit(figures: Mapping[str, Any]) -> Iterator[Table]:
    """The same as tables."""
    columns = ("dictionary", ">latents", ">explained", ">on per token", ">dead", ">loss recovered")
    yield Table(
        "Dictionaries",
        columns,
        [
            (
                name,
                f"{x['latents']:,}",
                f"{x['explained']:.3f}",
                f"{x['l0']:.1f}",
                f"{x['dead']:.1%}",
                f"{x['recovered']:.3f}",
            )
            for name, x in figures["dictionaries"].items()
        ],
    )
    known = figures["concepts_with_a_latent"]
    yield Table(
        f"{len(known)} of {figures['concepts']} concepts have a latent of their own (F1 of 0.9 or "
        f"more on held-out text; with shuffled labels at most {figures['best_shuffled_f1']:.2f})",
        ("concept", "latent", ">F1"),
        [(name, x["latent"], f"{x['f1']:.3f}") for name, x in known.items()],
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number:.3f}" for name, number in value.items())
    return f"{value:g}"
