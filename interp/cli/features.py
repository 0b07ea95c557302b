"""The command that draws a question in latents: features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from interp import metrics, views
from interp.cli.inputs import EMBEDDED, load
from interp.cli.options import (
    Answer,
    Device,
    Html,
    Ids,
    Json,
    Latents,
    Model,
    Over,
    Prompt,
    Top,
    Vocabulary,
    writable,
)
from interp.cli.output import show
from interp.features import file
from interp.features.graph import graph
from interp.why import choose

OUT = "also write the graph as Neuronpedia and circuit-tracer read it"
AMONG = "how many latents, and heads, are taken out one by one: those that write most"
HEADS = "how many heads are nodes; 0: only latents, as the graphs of other tools"


def features(
    prompt: Prompt,
    answer: Answer = None,
    over: Over = None,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    ids: Ids = False,
    latents: Latents = None,
    k: Top = 24,
    heads: Annotated[int, typer.Option("--heads", min=0, help=HEADS)] = 8,
    among: Annotated[int, typer.Option("--among", min=1, help=AMONG)] = 1000,
    out: Annotated[Path | None, typer.Option("--out", help=OUT, callback=writable("--out"))] = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Which latents make the answer, and which latents make them: the graph of their exact edges,
    beside the linear ones of the field."""
    loaded = load(model, device, tokenizer, ids, latents or EMBEDDED.get(model))
    words, logits = loaded.words, loaded.run(prompt).logits_at(-1)[0]
    right, wrong = choose(words, logits, answer, over)
    metric = metrics.logit_diff(answers=right, distractors=wrong)
    bar = not as_json
    found = graph(loaded, prompt, metric, latents=k, heads=heads, among=among, progress=bar)
    if out is not None:
        file.save(found, out, layers=loaded.config.n_layer, answer=right, scan=model)
    title = f"Which latents say {words.text(right)!r} rather than {words.text(wrong)!r}?"
    show(asdict(found), lambda: views.features(found, title), as_json, html)
