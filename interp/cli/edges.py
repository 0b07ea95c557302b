"""Commands on every edge: edges, search, curve."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from interp import metrics, sets, views
from interp.circuit import Circuit, files
from interp.circuit.ablation import Ablation
from interp.circuit.circuit import CircuitError
from interp.circuit.curve import SIZES, Curve, chance, judged, ranked
from interp.circuit.curve import curve as curve_of
from interp.circuit.matrix import ports
from interp.circuit.screen import screen
from interp.circuit.search import (
    acdc,
    added,
    blocks,
    every_edges,
    exact,
    removed,
    steps,
)
from interp.circuit.turns import Turns
from interp.cli.inputs import addresses, load
from interp.cli.options import (
    Device,
    Html,
    Ids,
    Json,
    Latents,
    Model,
    Pairs,
    Ray,
    Top,
    Vocabulary,
    Workers,
    writable,
)
from interp.cli.output import show
from interp.cli.studies import prompts_of
from interp.effects import Effects
from interp.executor import Where
from interp.tasks import Prompts
from minigpt import GPT2, parse


def _graph_file(file: Path | None) -> Path | None:
    """A file that a graph can be written to: asked before the work."""
    if file is not None and file.suffix not in files.ENDINGS:
        raise CircuitError(f"--out {file}", f"a name that ends in {' or '.join(files.ENDINGS)}")
    return writable("--out")(file)


Instead = Annotated[
    str,
    typer.Option(
        "--source",
        help="what an edge that is cut carries: pairs (what its sender writes on the corrupt "
        "prompt), mean, zero, resample",
    ),
]
Number = Annotated[
    int,
    typer.Option(
        "--prompts",
        "-n",
        min=2,
        help="how many prompts of indirect objects, where --pairs are not given",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="also write the graph with all scores, as EAP-IG and MIB read it: .json or .pt",
        callback=_graph_file,
    ),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--keep-in", help="a folder where each piece is kept: the same command goes on there"
    ),
]


class By(StrEnum):
    """How a circuit is searched."""

    GREEDY = "greedy"
    BLOCKS = "blocks"
    EXACT = "exact"
    ADDED = "added"
    ACDC = "acdc"


Senders = Annotated[
    str,
    typer.Option(
        "--senders",
        help="edges from these, instead of all edges: neurons:m3, latents:m3 (with --latents), "
        "heads, mlps, or addresses side by side",
    ),
]
Receivers = Annotated[
    str,
    typer.Option(
        "--receivers", help="with --senders: ports side by side, out a3.4.q; all later ones"
    ),
]
First = Annotated[
    int,
    typer.Option(
        "--screen",
        min=0,
        help="find all edges on so many pairs first, and on all pairs only the largest; what that "
        "misses is measured",
    ),
]
Most = Annotated[int, typer.Option("--most", min=1, help="with --screen: how many")]
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
Size = Annotated[
    int, typer.Option("--edges", min=1, help="how many edges the circuit in --out has")
]
Scored = Annotated[Path, typer.Argument(help="a graph with scores: EAP-IG's or MIB's .json or .pt")]


def edges(
    pairs: Pairs = None,
    n: Number = 20,
    source: Instead = "pairs",
    senders: Senders = "",
    receivers: Receivers = "",
    screened: First = 0,
    most: Most = 3000,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    ids: Ids = False,
    k: Top = 12,
    seed: int = 0,
    workers: Workers = 1,
    ray: Ray = "",
    keep: Kept = None,
    out: Out = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Every edge between heads, MLPs, the input and the output: what is lost when it alone carries
    something else. Exact: a run of the model each."""
    loaded = load(model, device, tokenizer, ids, latents)
    on = _asked(loaded, prompts_of(loaded, pairs, n, seed), source, seed)
    where = Where(workers, ray)
    if senders or receivers:
        _alone(senders, screened, where, keep)
        names, lost, said = *_parts(on, senders, receivers, not as_json), dict[str, Any]()
    else:
        with Turns(on, where, keep, progress=not as_json) as turns:
            names, lost, said = _lost(turns, screened, most, seed)
            _tell(turns)
    effects = _effects(on, names, lost)
    if out is not None:
        scores = dict(zip(names, lost.mean(1).tolist(), strict=True))
        files.write(Circuit({}, names, scores), loaded.config, out)
    data = {**effects.to_dict(), "screened": said}
    show(data, lambda: _shown(effects, k, said), as_json, html)


def search(
    by: Search = By.GREEDY,
    pairs: Pairs = None,
    n: Number = 20,
    judge_on: JudgeOn = None,
    source: Instead = "pairs",
    signed: Signed = False,
    threshold: Threshold = 0.01,
    size: Size = 100,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
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
    loaded = load(model, device, tokenizer, ids)
    prompts = prompts_of(loaded, pairs, n, seed)
    held_out = _held_out(loaded, prompts, pairs, judge_on, seed)
    on, judge = (_asked(loaded, each, source, seed) for each in (prompts, held_out))
    with Turns(on, Where(workers, ray), keep, progress=not as_json) as turns:
        names = every_edges(turns)
        alone = dict(zip(names, exact(turns).mean(1).tolist(), strict=True))
        found, inside = _found(turns, by, alone, threshold, signed, size)
        _tell(turns)
    if out is not None:
        files.write(Circuit({}, inside, found), loaded.config, out)
    shown = _judged(judge, by, found, alone, seed, not as_json)
    curves = {name: each.to_dict() for name, each in shown.items()}
    said = [f"{len(inside)} edges are the circuit"] if by is By.ACDC else []
    data = {"by": f"{by}", "circuit": inside, "curves": curves}
    show(data, lambda: views.curves(f"Circuits by {by}", shown, said), as_json, html)


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
    on = _asked(loaded, prompts_of(loaded, pairs, n, seed), source, seed)
    shown = judged(on, graph.scores, progress=not as_json)
    data = {"curves": {name: each.to_dict() for name, each in shown.items()}}
    show(data, lambda: views.curves(f"Circuits by the scores of {file.name}", shown), as_json, html)


def _alone(senders: str, screened: int, where: Where, keep: Path | None) -> None:
    """Refuse what edges from parts of nodes are not asked with."""
    if not senders or screened or keep or where != Where():
        raise CircuitError(
            "--senders with --screen, --workers, --ray or --keep-in, or --receivers alone",
            "--senders, --receivers: here, all of them",
            "--senders neurons:m3 --receivers out",
        )


def _parts(
    on: Ablation, senders: str, receivers: str, progress: bool
) -> tuple[list[str], Float[Tensor, "edges prompts"]]:
    """What is lost without each edge from some nodes, neurons or latents."""
    starts = sets.addresses(on.clean, addresses(senders), on.source.run)
    ends = receivers.split() or ports(on.model.config)
    names = [
        f"{sender}>{port}"
        for sender in starts
        for port in ends
        if parse(sender).site.stage < parse(port).site.stage
    ]
    if not names:
        raise CircuitError(f"no edge from {senders} to {receivers or 'a later port'}", "--senders")
    patches = [on.cut([name]) for name in names]
    after, _ = on.metric.after(on.model, on.clean, patches, progress=progress)
    return names, on.full - after


def _effects(on: Ablation, names: list[str], lost: Float[Tensor, "edges prompts"]) -> Effects:
    """As effects of cutting, between the metric of the model and that of no edge at all."""
    ends = on.full, on.state(()).metric
    named = "edges cut one at a time", on.metric.name, tuple(names)
    return Effects(*named, -lost, on.full, on.model.config, ends=ends)


def _lost(
    turns: Turns, first: int, most: int, seed: int
) -> tuple[list[str], Float[Tensor, "edges prompts"], dict[str, Any]]:
    """What is lost without each edge; of the largest on the first pairs only, where these are to
    be looked at first, and what that misses."""
    names, on = every_edges(turns), turns.on
    if not first:
        return names, exact(turns), {}
    few = _asked(on.model, on.pairs.rows(range(min(first, len(on.pairs)))), on.name, seed)
    with Turns(few, progress=turns.progress) as early:
        found = screen(early, turns, min(most, len(names)), seed=seed)
    return found.edges, found.lost, found.to_dict()


def _judged(
    on: Ablation,
    by: By,
    found: dict[str, float],
    alone: dict[str, float],
    seed: int,
    progress: bool,
) -> dict[str, Curve]:
    """The curve of what was found, beside that of single effects and of chance."""
    orders = {f"{by}": found}
    if by is not By.EXACT:
        orders["single effects"] = {edge: abs(x) for edge, x in alone.items()}
    orders["chance"] = chance([*alone], seed)
    return {name: curve_of(on, scores, progress=progress) for name, scores in orders.items()}


def _asked(model: GPT2, prompts: Prompts, source: str, seed: int) -> Ablation:
    """Runs of a model whose edges carry something else, the metric being the logit difference."""
    metric = metrics.logit_diff(prompts)
    return Ablation(model, prompts, metric, source, over="heads mlps", seed=seed)


def _held_out(
    model: GPT2, prompts: Prompts, given: Path | None, judge_on: Path | None, seed: int
) -> Prompts:
    """Other prompts, of a file or made up anew; where only pairs were given, these themselves."""
    if judge_on is not None or given is None:
        return prompts_of(model, judge_on, len(prompts), seed + 1)
    Console(stderr=True).print("note: judged on the same pairs; other ones: --judge-on FILE")
    return prompts


def _found(
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


def _shown(effects: Effects, k: int, said: dict[str, Any]) -> Any:
    made = views.effects(effects, k)
    if not said:
        return made
    text = (
        f"{said['kept']:,} of {said['kept'] + said['out']:,} edges were found on all pairs. Of the "
        f"{said['wanted']:,} largest about {said['missed']:.0f} are expected among the others: "
        f"{said['larger']} of {said['drawn']} of these, drawn by chance, were as large."
    )
    return replace(made, about=f"{made.about}. {text}")


def _tell(turns: Turns) -> None:
    """How far other processes' numbers are from this one's."""
    for machine, far in turns.kept.apart.items():
        if far:
            note = f"note: a piece done at {machine} differs by {far:.1e} from the same done here"
            Console(stderr=True).print(note, soft_wrap=True)
