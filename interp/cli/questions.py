"""Commands on one prompt: why, trace, generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from torch import Tensor

from interp import views
from interp.cli.inputs import load
from interp.cli.options import Device, Html, Json, Model, Prompt
from interp.cli.output import say, show
from interp.show import terminal
from interp.show.document import Table
from interp.why import why as ask
from minigpt import Trace
from minigpt.sample import Choice
from minigpt.sample import generate as continued


def why(
    prompt: Prompt,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer", "-a", help="token A, with its space; default: the model's top token"
        ),
    ] = None,
    over: Annotated[
        str | None, typer.Option("--over", "-o", help="token B; default: the best of the others")
    ] = None,
    model: Model = "ioi-mini",
    k: Annotated[
        int, typer.Option("--top", "-k", min=1, help="how many nodes to show on each side")
    ] = 6,
    neurons: Annotated[bool, typer.Option("--neurons", help="split the MLPs into neurons")] = False,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Why does the model say A rather than B? Which nodes push for each, where they looked, what
    they wrote."""
    reply = ask(load(model, device), prompt, answer, over, k=k, neurons=neurons)
    show(reply.to_dict(), lambda: views.why(reply), as_json, html)


def trace(
    prompt: Prompt,
    at: Annotated[
        list[str],
        typer.Option(
            "--at",
            help=(
                "an address, e.g. a2.3@-1, resid2, a2.3.pattern, m1.in; may be given several times"
            ),
        ),
    ],
    model: Model = "ioi-mini",
    act: Annotated[
        bool, typer.Option("--act", help="read activations (of m1 or m1.n7) instead of writes")
    ] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="read LayerNorm's scale (at out, m1.in, a2.3.q) instead")
    ] = False,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Read any value of a run by its address."""
    run = load(model, device).run(prompt)
    read = Trace.act if act else Trace.scale if scale else Trace.__getitem__
    values = {address: read(run, address)[0] for address in at}
    plain = {address: x.tolist() for address, x in values.items()}
    say(plain, terminal.table(_values(values)), as_json)


def _values(values: Mapping[str, Tensor]) -> Table:
    rows = [
        (
            address,
            "x".join(map(str, x.shape)) or "one number",
            f"{x.double().norm():.4f}",
            " ".join(f"{v:+.4f}" for v in x.flatten()[:6].tolist()),
        )
        for address, x in values.items()
    ]
    return Table("", ("address", "shape", ">norm", "begins"), rows)


def generate(
    prompt: Prompt,
    n: Annotated[int, typer.Option("--tokens", "-n", min=1, help="how many tokens at most")] = 20,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token")] = 0.0,
    top_k: Annotated[
        int, typer.Option("--top-k", help="choose among the k most probable only; 0: all")
    ] = 0,
    seed: int = 0,
    model: Model = "ioi-mini",
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Continue a text."""
    loaded = load(model, device)
    stop = loaded.tokenizer.encoding.eot_token if loaded.tokenizer else None
    text = continued(loaded, prompt, n, Choice(temperature, top_k, seed), stop)
    say({"prompt": prompt, "continuation": text}, prompt + text, as_json)
