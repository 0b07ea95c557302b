"""Commands on models: models, fetch, card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

import weights
from interp.card import measure, measure_dictionaries, measure_tasks
from interp.cli.inputs import load
from interp.cli.options import Device, Json, Model
from interp.cli.output import console, say
from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from interp.tasks import Prompts
from minigpt import GPT2, MiniGPTError
from weights.catalog import CONCEPTS, HELD_OUT, embedded


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
    training never saw. A folder's own held_out.jsonl, where one lies in it."""
    loaded = load(model, device)
    owns = (folder / HELD_OUT.name for folder in (Path(model), embedded(model)))
    own = next(filter(Path.is_file, owns), HELD_OUT)
    lines = own.read_text(encoding="utf-8").splitlines()
    if "task" in json.loads(lines[0]):
        _tasks(loaded, lines, n, as_json)
        return
    if n > len(lines):
        raise MiniGPTError(f"{n} prompts", f"at most {len(lines)}, which training never saw")
    figures = measure(loaded, [tuple(json.loads(line)) for line in lines[:n]])
    rows = [(name.replace("_", " "), _value(value)) for name, value in figures.items()]
    shown = [terminal.table(Table(model, ("", "measured"), rows))]
    if model == "ioi-mini":
        lit = _dictionaries(loaded, progress=not as_json)
        figures, shown = {**figures, **lit}, [*shown, *map(terminal.table, _lit(lit))]
    say({**figures, KEY: record()}, Group(*shown), as_json)


def _tasks(model: GPT2, lines: Sequence[str], n: int, as_json: bool) -> None:
    """The figures of a model of several tasks, on up to so many prompts of each."""
    known: dict[str, list[Any]] = {}
    for line in lines:
        one = json.loads(line)
        known.setdefault(one.pop("task"), []).append(one)
    pairs = {task: Prompts.from_records(some[:n], model.words) for task, some in known.items()}
    figures = measure_tasks(model, pairs)
    tasks = [
        (task, f"{x['accuracy']:.3f}", f"{x['logit_difference']:+.2f}", str(x["prompts"]))
        for task, x in figures["tasks"].items()
    ]
    others = [(name.replace("_", " "), _value(x)) for name, x in figures.items() if name != "tasks"]
    shown = [
        Table(
            f"{model.name}, held out", ("task", ">accuracy", ">logit difference", ">prompts"), tasks
        ),
        Table("On indirect objects, and by score", ("", "measured"), others),
    ]
    say({**figures, KEY: record()}, Group(*map(terminal.table, shown)), as_json)


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
