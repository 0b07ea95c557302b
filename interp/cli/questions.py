"""Commands on one prompt: why, trace, generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from torch import Tensor

from interp import views
from interp.cli.inputs import load, patch_of
from interp.cli.options import Device, Html, Ids, Json, Latents, Model, Prompt, Vocabulary
from interp.cli.output import say, show
from interp.cli.provenance import record
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Table
from interp.why import why as ask
from minigpt import Trace, parse
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
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    k: Annotated[
        int, typer.Option("--top", "-k", min=1, help="how many nodes to show on each side")
    ] = 6,
    neurons: Annotated[bool, typer.Option("--neurons", help="split the MLPs into neurons")] = False,
    latents: Latents = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Why does the model say A rather than B? Which nodes push for each, where they looked, what
    they wrote."""
    loaded = load(model, device, tokenizer, ids, latents)
    reply = ask(loaded, prompt, answer, over, k=k, neurons=neurons, latents=bool(latents))
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
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    act: Annotated[
        bool,
        typer.Option("--act", help="read activations (of m1, m1.n7 or m1.l7) instead of writes"),
    ] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="read LayerNorm's scale (at out, m1.in, a2.3.q) instead")
    ] = False,
    latents: Latents = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Read any value of a run by its address."""
    run = load(model, device, tokenizer, ids, latents).run(prompt)
    read = Trace.act if act else Trace.scale if scale else Trace.__getitem__
    values = {_named(address): read(run, address)[0] for address in at}
    plain = {address: x.tolist() for address, x in values.items()}
    say(plain, terminal.table(_values(values)), as_json)


def _named(address: str) -> str:
    """An address as it was typed, and what another tool's name became."""
    ours = str(parse(address))
    return address if ours == address else f"{address} ({ours})"


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
    patch: Annotated[
        list[str] | None,
        typer.Option(
            "--patch",
            help=(
                "an intervention while each token is chosen: 'a3.4 = 0', 'm1 *= 0.5', "
                "'resid2@-1 += NAME'; may be given several times"
            ),
        ),
    ] = None,
    vector: Annotated[
        list[str] | None,
        typer.Option(
            "--vector", help="NAME=FILE: an array of numbers (.npy) for a patch; likewise"
        ),
    ] = None,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="the prompt is token ids: '464,2068' or '464 2068'")
    ] = False,
    latents: Latents = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Continue a text, under interventions where some are given."""
    loaded = load(model, device, tokenizer, ids, latents)
    stop = loaded.words.end
    given = patch_of(patch or [], vector or [])
    text = continued(loaded, prompt, n, Choice(temperature, top_k, seed), stop, patch=given)
    between = loaded.words.vocabulary.between.decode() if text else ""
    data = {"prompt": prompt, "continuation": text, KEY: record()}
    say(data, f"{prompt}{between}{text}", as_json)
