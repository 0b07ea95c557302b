"""What commands on circuits of edges share: what an edge that is cut carries, on which prompts, and
where pieces and graphs are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from interp import metrics
from interp.circuit import files
from interp.circuit.ablation import Ablation
from interp.circuit.circuit import CircuitError
from interp.circuit.turns import Turns
from interp.cli.options import writable
from interp.tasks import Prompts
from minigpt import GPT2


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


def asked(model: GPT2, prompts: Prompts, source: str, seed: int) -> Ablation:
    """Runs of a model whose edges carry something else, the metric being the logit difference."""
    metric = metrics.logit_diff(prompts)
    return Ablation(model, prompts, metric, source, over="heads mlps", seed=seed)


def tell(turns: Turns) -> None:
    """How far other processes' numbers are from this one's."""
    for machine, far in turns.kept.apart.items():
        if far:
            note = f"note: a piece done at {machine} differs by {far:.1e} from the same done here"
            Console(stderr=True).print(note, soft_wrap=True)
