"""Commands on circuits: ioi, circuit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp import metrics, tasks, views
from interp.circuit import Circuit
from interp.circuit.criteria import Faithfulness, Need, Removal
from interp.cli.inputs import from_file, load, read
from interp.cli.options import (
    Device,
    Html,
    Ids,
    Json,
    Model,
    Pairs,
    Ray,
    Vocabulary,
    Workers,
)
from interp.cli.output import show
from interp.executor import Where
from interp.ioi import study, view
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, MiniGPTError
from minigpt.config import SIZES

Judged = tuple[Faithfulness, list[Removal], list[Need]]
CIRCUIT = "a circuit: lines 'name mover: a9.9@END a9.6@END', or JSON, ours or EAP-IG's"


def ioi(
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    n: Annotated[int, typer.Option("--prompts", "-n", min=30, help="how many prompts")] = 200,
    seed: int = 0,
    circuit_file: Annotated[
        Path | None,
        typer.Option("--circuit", help="look at this circuit instead of the one that is found"),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="as many random and greedy sets as in the paper: minutes at full size",
        ),
    ] = False,
    workers: Workers = 1,
    ray: Ray = "",
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """The paper "Interpretability in the Wild", run on a model: how it tells indirect objects,
    which heads do it, and whether that is all."""
    loaded = load(model, device, tokenizer)
    given = None if circuit_file is None else Circuit.load(read(circuit_file))
    is_gpt2 = loaded.config == SIZES["gpt2"] and Path(model).name == "gpt2"
    done = study(
        loaded,
        model,
        n,
        seed,
        circuit=given,
        is_gpt2=is_gpt2,
        thorough=thorough,
        where=Where(workers, ray),
        progress=not as_json,
    )
    show(done.to_dict(), lambda: view.study(done), as_json, html)
    if done.interrupted:
        raise typer.Exit(130)


def circuit(
    file: Annotated[Path, typer.Argument(help=CIRCUIT)],
    pairs: Pairs = None,
    n: Annotated[
        int,
        typer.Option(
            "--prompts",
            "-n",
            min=2,
            help="how many prompts of indirect objects, where --pairs are not given",
        ),
    ] = 100,
    ablation: Annotated[
        str, typer.Option(help="what replaces the rest: mean, zero, resample, pairs")
    ] = "mean",
    by: Annotated[str, typer.Option(help="nodes, or edges where the circuit has some")] = "nodes",
    over: Annotated[
        str,
        typer.Option(
            help="what is replaced outside of it: heads, or 'heads mlps'; default: MLPs too where "
            "the circuit holds one"
        ),
    ] = "",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    seed: int = 0,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """How faithful, complete and minimal is a circuit?"""
    judged, loaded = Circuit.load(read(file)), load(model, device, tokenizer, ids)
    judged.check(loaded.config)
    prompts = prompts_of(loaded, pairs, n, seed)
    metric = metrics.logit_diff(prompts)
    found = _judge(judged, loaded, prompts, metric, ablation, by, over, seed)
    show(_plain(judged, *found), lambda: views.circuit(judged, *found), as_json, html)


def prompts_of(model: GPT2, file: Path | None, n: int, seed: int) -> Prompts:
    """Pairs from a file, or n of indirect objects, made up from a seed."""
    if file is not None:
        return from_file(file, model)
    if model.tokenizer is None:
        raise MiniGPTError(
            "no pairs, and a model without a vocabulary to make some up", "--pairs FILE"
        )
    return tasks.ioi.prompts(model.tokenizer, n, seed)


def _judge(
    circuit: Circuit,
    model: GPT2,
    prompts: Prompts,
    metric: Metric,
    ablation: str,
    by: str,
    over: str,
    seed: int,
) -> Judged:
    """By its edges only faithfulness is defined."""
    faithful = circuit.faithfulness(model, prompts, metric, ablation, over=over, by=by)
    if by != "nodes":
        return faithful, [], []
    asked = model, prompts, metric, ablation
    complete = circuit.completeness(*asked, draws=20, seed=seed, over=over)
    return faithful, complete, circuit.minimality(*asked, seed=seed, over=over)


def _plain(
    circuit: Circuit, faithful: Faithfulness, complete: list[Removal], minimal: list[Need]
) -> dict[str, Any]:
    return {
        "circuit": circuit.to_dict(),
        "faithfulness": faithful.to_dict(),
        "completeness": [{**vars(removal), "gap": removal.gap} for removal in complete],
        "minimality": [{**vars(need), "change": need.change} for need in minimal],
    }
