"""Commands on pairs of prompts: patch, paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp import metrics, patching, views
from interp.cli import inputs
from interp.cli.options import (
    Answer,
    Clean,
    Corrupt,
    Device,
    Html,
    Ids,
    Json,
    Latents,
    Model,
    Over,
    Pairs,
    Top,
    Vocabulary,
)
from interp.cli.output import show
from interp.effects import Effects
from interp.tasks import Prompts


def patch(
    clean: Clean = None,
    corrupt: Corrupt = None,
    answer: Answer = None,
    over: Over = None,
    pairs: Pairs = None,
    nodes: Annotated[
        str,
        typer.Option(
            help=(
                "heads, attns, mlps, resid, neurons:m3, latents, latents:m3, each with @ (every "
                "position) or @-1; or addresses side by side"
            )
        ),
    ] = "heads",
    direction: Annotated[
        str, typer.Option(help="denoising (clean into corrupt) or noising (corrupt into clean)")
    ] = "denoising",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    k: Top = 12,
    latents: Latents = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Activation patching: what would the answer be, had this node been as on the other prompt?"""
    loaded = inputs.load(model, device, tokenizer, ids, latents)
    prompts = inputs.pairs(loaded, clean, corrupt, answer, over, pairs)
    metric, patched = metrics.logit_diff(prompts), inputs.addresses(nodes)
    effects = patching.nodes(loaded, prompts, metric, patched, direction, progress=not as_json)
    _show(effects, prompts, k, html, as_json)


def paths(
    clean: Clean = None,
    corrupt: Corrupt = None,
    answer: Answer = None,
    over: Over = None,
    pairs: Pairs = None,
    senders: Annotated[
        str, typer.Option(help="heads, mlps, neurons:m3, or addresses side by side")
    ] = "heads",
    receivers: Annotated[str, typer.Option(help="ports side by side: out, a3.4.q, m2.in")] = "out",
    at: Annotated[
        str,
        typer.Option(
            help="the position of senders and receivers: END, -1, 10, a name of the pairs; all"
        ),
    ] = "END",
    mlps: Annotated[
        str,
        typer.Option(help="recompute (the IOI paper's meaning) or frozen (the direct edge only)"),
    ] = "recompute",
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    k: Top = 12,
    latents: Latents = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Path patching: what does each sender do to the answer through these receivers only?"""
    loaded = inputs.load(model, device, tokenizer, ids, latents)
    prompts = inputs.pairs(loaded, clean, corrupt, answer, over, pairs)
    ends = inputs.addresses(senders), receivers.split(), inputs.position(at)
    metric = metrics.logit_diff(prompts)
    effects = patching.paths(loaded, prompts, metric, *ends, mlps, progress=not as_json)
    _show(effects, prompts, k, html, as_json)


def _show(effects: Effects, pairs: Prompts, k: int, html: Path | None, as_json: bool) -> None:
    receipt = vars(effects.receipt) if effects.receipt else None
    first = [pairs.pieces(tokens) for tokens in (pairs.clean[0], pairs.corrupted.tokens[0])]
    data = {**effects.to_dict(), "receipt": receipt}
    show(data, lambda: views.effects(effects, k, first), as_json, html)
