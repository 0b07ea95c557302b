"""The command edges: what is lost without each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from jaxtyping import Float
from torch import Tensor

from interp import sets, views
from interp.circuit import Circuit, files
from interp.circuit.ablation import Ablation
from interp.circuit.circuit import CircuitError
from interp.circuit.matrix import ports
from interp.circuit.screen import screen
from interp.circuit.search import (
    every_edges,
    exact,
)
from interp.circuit.turns import Turns
from interp.cli.cuts import Instead, Kept, Number, Out, asked, tell
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
)
from interp.cli.output import show
from interp.cli.studies import prompts_of
from interp.effects import Effects
from interp.executor import Where
from minigpt import parse

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
    on = asked(loaded, prompts_of(loaded, pairs, n, seed), source, seed)
    where = Where(workers, ray)
    if senders or receivers:
        _alone(senders, screened, where, keep)
        names, lost, said = *_parts(on, senders, receivers, not as_json), dict[str, Any]()
    else:
        with Turns(on, where, keep, progress=not as_json) as turns:
            names, lost, said = _lost(turns, screened, most, seed)
            tell(turns)
    effects = _effects(on, names, lost)
    if out is not None:
        scores = dict(zip(names, lost.mean(1).tolist(), strict=True))
        files.write(Circuit({}, names, scores), loaded.config, out)
    data = {**effects.to_dict(), "screened": said}
    show(data, lambda: _shown(effects, k, said), as_json, html)


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
    few = asked(on.model, on.pairs.rows(range(min(first, len(on.pairs)))), on.name, seed)
    with Turns(few, progress=turns.progress) as early:
        found = screen(early, turns, min(most, len(names)), seed=seed)
    return found.edges, found.lost, found.to_dict()


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
