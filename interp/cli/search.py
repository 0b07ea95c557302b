"""Commands on circuits of growing size: search, curve."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from interp import views
from interp.circuit import Circuit, files
from interp.circuit.ablation import Ablation
from interp.circuit.circuit import CircuitError
from interp.circuit.curve import SIZES, Curve, chance, judged, ranked
from interp.circuit.curve import curve as curve_of
from interp.circuit.search import (
    acdc,
    added,
    blocks,
    every_edges,
    exact,
    removed,
    shares_of,
    steps,
    steps_of,
)
from interp.circuit.turns import Turns
from interp.circuit.units import units as units_of
from interp.cli.cuts import Instead, Kept, Number, Out, asked, tell
from interp.cli.inputs import load
from interp.cli.options import (
    Device,
    Html,
    Ids,
    Json,
    Latents,
    Model,
    Pairs,
    Ray,
    Vocabulary,
    Workers,
)
from interp.cli.output import show
from interp.cli.studies import prompts_of
from interp.executor import Where
from interp.tasks import Prompts
from minigpt import GPT2


class By(StrEnum):
    """How a circuit is searched."""

    GREEDY = "greedy"
    BLOCKS = "blocks"
    EXACT = "exact"
    ADDED = "added"
    ACDC = "acdc"


Search = Annotated[
    By,
    typer.Option(
        "--by",
        help="greedy: removed bit by bit, scored anew each time; blocks: the same in MIB's ten "
        "sizes; exact: by each edge's effect on the whole model; added: grown from the output; "
        "acdc: ACDC's order and threshold, with exact effects",
    ),
]
JudgeOn = Annotated[
    Path | None, typer.Option("--judge-on", help="other pairs, on which circuits are judged")
]
Signed = Annotated[
    bool,
    typer.Option(
        "--signed", help="remove first what helps least, instead of what moves the metric least"
    ),
]
Threshold = Annotated[
    float, typer.Option("--threshold", help="acdc: an edge goes where less than this is lost")
]
Of = Annotated[
    str,
    typer.Option(
        "--units",
        help="circuits of these instead of edges: neurons:m3, latents:m3 (with --latents), or "
        "addresses side by side",
    ),
]
Size = Annotated[
    int, typer.Option("--edges", min=1, help="how many edges (or units) the circuit has")
]
Scored = Annotated[Path, typer.Argument(help="a graph with scores: EAP-IG's or MIB's .json or .pt")]


def search(
    by: Search = By.GREEDY,
    pairs: Pairs = None,
    n: Number = 20,
    judge_on: JudgeOn = None,
    source: Instead = "pairs",
    signed: Signed = False,
    threshold: Threshold = 0.01,
    size: Size = 100,
    units: Of = "",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    ids: Ids = False,
    seed: int = 0,
    workers: Workers = 1,
    ray: Ray = "",
    keep: Kept = None,
    out: Out = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Search a circuit of edges, and judge it on other prompts: how much circuits of growing size
    bring back, beside the order by single effects and orders by chance (MIB's CPR and CMD)."""
    loaded = load(model, device, tokenizer, ids, latents)
    prompts = prompts_of(loaded, pairs, n, seed)
    held_out = _held_out(loaded, prompts, pairs, judge_on, seed)
    on, judge = (asked(loaded, each, source, seed) for each in (prompts, held_out))
    if units:
        _alone(by, Where(workers, ray), keep, out)
        inside, shown = _of_parts(on, judge, units, by, signed, size, seed, not as_json)
    else:
        with Turns(on, Where(workers, ray), keep, progress=not as_json) as turns:
            alone, found, inside = _found(turns, by, threshold, signed, size)
        if out is not None:
            files.write(Circuit({}, inside, found), loaded.config, out)
        shown = _judged(judge, by, found, alone, seed, not as_json)
    curves = {name: each.to_dict() for name, each in shown.items()}
    said = [f"{len(inside)} edges are the circuit"] if by is By.ACDC else []
    data = {"by": f"{by}", "circuit": inside, "curves": curves}
    title = f"Circuits{f' of {units}' if units else ''} by {by}"
    show(data, lambda: views.curves(title, shown, said), as_json, html)


def curve(
    file: Scored,
    pairs: Pairs = None,
    n: Number = 20,
    source: Instead = "pairs",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    seed: int = 0,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """How much of the metric circuits of growing size bring back, their edges taken by a file's
    scores: MIB's CPR (of the signed order) and CMD (of the order by size)."""
    graph, loaded = files.read(file), load(model, device, tokenizer, ids)
    graph.check(loaded.config)
    if not graph.scores:
        raise CircuitError(f"{file}: no scores of edges", "a graph of EAP-IG or MIB with scores")
    on = asked(loaded, prompts_of(loaded, pairs, n, seed), source, seed)
    shown = judged(on, graph.scores, progress=not as_json)
    data = {"curves": {name: each.to_dict() for name, each in shown.items()}}
    show(data, lambda: views.curves(f"Circuits by the scores of {file.name}", shown), as_json, html)


def _alone(by: By, where: Where, keep: Path | None, out: Path | None) -> None:
    """Refuse what circuits of neurons and latents are not searched with."""
    if by in (By.ADDED, By.ACDC) or keep or out or where != Where():
        raise CircuitError(
            "--units with --by added, --by acdc, --workers, --ray, --keep-in or --out",
            "--by greedy, blocks or exact, here; --json has the circuit",
            "--units neurons:m3 --by blocks",
        )


def _of_parts(
    on: Ablation,
    judge: Ablation,
    name: str,
    by: By,
    signed: bool,
    size: int,
    seed: int,
    progress: bool,
) -> tuple[list[str], dict[str, Curve]]:
    """The circuit of so many neurons or latents, and the curves of their orders."""
    mine, others = units_of(name, on, judge)
    every = [*mine.names]
    alone = mine.lost(every)
    found = alone if signed else {unit: abs(x) for unit, x in alone.items()}
    if by is not By.EXACT:
        sizes = shares_of(len(every)) if by is By.BLOCKS else steps_of(len(every))
        found = mine.removed(sizes, absolute=not signed, progress=progress)
    orders = _orders(by, found, alone, seed)
    return ranked(found)[:size], {
        name: others.curve(each, progress=progress) for name, each in orders.items()
    }


def _judged(
    on: Ablation,
    by: By,
    found: dict[str, float],
    alone: dict[str, float],
    seed: int,
    progress: bool,
) -> dict[str, Curve]:
    """The curve of what was found, beside that of single effects and of chance."""
    orders = _orders(by, found, alone, seed)
    return {name: curve_of(on, scores, progress=progress) for name, scores in orders.items()}


def _orders(
    by: By, found: dict[str, float], alone: dict[str, float], seed: int
) -> dict[str, dict[str, float]]:
    """What was found, single effects and chance, as scores."""
    orders = {f"{by}": found}
    if by is not By.EXACT:
        orders["single effects"] = {unit: abs(x) for unit, x in alone.items()}
    return {**orders, "chance": chance([*alone], seed)}


def _held_out(
    model: GPT2, prompts: Prompts, given: Path | None, judge_on: Path | None, seed: int
) -> Prompts:
    """Other prompts, of a file or made up anew; where only pairs were given, these themselves."""
    if judge_on is not None or given is None:
        return prompts_of(model, judge_on, len(prompts), seed + 1)
    Console(stderr=True).print("note: judged on the same pairs; other ones: --judge-on FILE")
    return prompts


def _found(
    turns: Turns, by: By, threshold: float, signed: bool, size: int
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Of all edges what is lost without each and their order as scores, and the circuit that is
    written."""
    names = every_edges(turns)
    alone = dict(zip(names, exact(turns).mean(1).tolist(), strict=True))
    found, inside = _searched(turns, by, alone, threshold, signed, size)
    tell(turns)
    return alone, found, inside


def _searched(
    turns: Turns, by: By, alone: dict[str, float], threshold: float, signed: bool, size: int
) -> tuple[dict[str, float], list[str]]:
    """The order of all edges as scores, and the circuit that is written."""
    if by is By.ACDC:
        left = acdc(turns, threshold, absolute=not signed)
        most = max(map(abs, alone.values()), default=0.0)
        return {edge: x + (2 * most + 1) * (edge in set(left)) for edge, x in alone.items()}, left
    if by is By.EXACT:
        scores = alone if signed else {edge: abs(x) for edge, x in alone.items()}
    elif by is By.ADDED:
        scores = added(turns, most=max(size, int(0.1 * len(alone))))
    else:
        sizes = blocks(turns, SIZES) if by is By.BLOCKS else steps(turns)
        scores = removed(turns, sizes, absolute=not signed)
    return scores, ranked(scores)[:size]
