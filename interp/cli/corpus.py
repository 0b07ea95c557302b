"""Commands on what components do on real text: collate, component, explain."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from interp import views
from interp.cli.inputs import EMBEDDED, load
from interp.cli.options import (
    Device,
    Html,
    Json,
    Latents,
    Model,
    Ray,
    Vocabulary,
    Workers,
    writable,
)
from interp.cli.output import console, say, show
from interp.cli.provenance import record
from interp.cli.stores import StoreFolder, corpora, say_what, store_of
from interp.corpus import exchange
from interp.corpus.component import Component
from interp.corpus.says import says
from interp.executor import Where
from interp.explain.explain import Explanation
from interp.explain.explain import explain as explained
from interp.provenance import KEY
from interp.show import terminal
from interp.show.document import Document, Table
from minigpt import GPT2, MiniGPTError, parse

CORPUS = "files or folders of text: .txt, .md, .jsonl, .csv, .parquet, .arrow; or hf://org/dataset"
EXPLAINER = (
    "a language model that explains instead: an OpenAI-compatible address, "
    "http://localhost:8000/v1; its key is OPENAI_API_KEY"
)
FOR_OTHERS = (
    "also write it for other tools: .json as OpenAI's NeuronRecord, .jsonl or .jsonl.gz as "
    "Neuronpedia's rows of activations"
)
Answers = Annotated[
    Path | None, typer.Option("--answers", help="a file in which its answers are kept")
]
AtOnce = Annotated[
    int, typer.Option(min=1, help="how many questions may wait for its answers together")
]
Memory = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="GiB that all processes may take, 2 each where nothing is said; no number "
        "depends on it",
    ),
]


def collate(
    corpus: Annotated[list[str], typer.Argument(help=CORPUS)],
    out: Annotated[Path, typer.Option("--out", help="the folder of the store")],
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    window: Annotated[int, typer.Option("--window", min=2, help="tokens of a window")] = 64,
    skip: Annotated[
        int, typer.Option("--skip", min=0, help="a window's first tokens, which do not count")
    ] = 1,
    top: Annotated[int, typer.Option("--top", min=1, help="windows kept of the largest")] = 20,
    bottom: Annotated[int, typer.Option("--bottom", min=1, help="and of the smallest")] = 8,
    sample: Annotated[int, typer.Option("--sample", min=1, help="and at random")] = 30,
    dense: Annotated[
        list[str] | None,
        typer.Option(
            "--dense", help="a node of which every number is kept: resid6; may be repeated"
        ),
    ] = None,
    seed: int = 0,
    workers: Workers = 1,
    ray: Ray = "",
    memory: Memory = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Run a corpus once, and keep of every head, neuron and latent what its page shows. The same
    command goes on where it was interrupted."""
    known = corpora()
    loaded = load(model, device, tokenizer, latents=latents or EMBEDDED.get(model))
    settings = known.Settings(window, skip, top, bottom, sample, seed, dense=tuple(dense or ()))
    where = Where(workers, ray)
    budget, bar = memory and memory * 2**30, not as_json
    made = known.make(loaded, corpus, out, settings, where=where, memory=budget, progress=bar)
    say_what(made, as_json)


def component(
    address: Annotated[str, typer.Argument(help="a head, a neuron or a latent: a2.6, m3.n5")],
    folder: StoreFolder = None,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="windows of a kind")] = 8,
    out: Annotated[
        Path | None, typer.Option("--out", help=FOR_OTHERS, callback=writable("--out"))
    ] = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """The page of a component: the windows where it does most, how its numbers are spread, what its
    weights say of tokens."""
    loaded = load(model, "cpu", tokenizer, latents=latents or EMBEDDED.get(model))
    opened = store_of(loaded, folder, not as_json)
    found = opened.component(address)
    said = says(loaded.params, loaded.words, address)
    if out is not None:
        _exported(found, out)
    data = {**asdict(found), "says": said.lists}
    show(data, lambda: views.component(found, said, _of(loaded, opened), k=k), as_json, html)


def _exported(found: Component, out: Path) -> None:
    """A component for other tools, by the file's ending."""
    if out.suffix == ".json":
        out.write_text(json.dumps(exchange.record(found), ensure_ascii=False), encoding="utf-8")
    elif ".jsonl" in out.suffixes:
        source = exchange.source_of(parse(found.address).site)
        exchange.write(out, exchange.activations(found, source))
    else:
        raise MiniGPTError(f"--out {out}", "a name that ends in .json, .jsonl or .jsonl.gz")


def _of(model: GPT2, opened: Any) -> str:
    return f"{model.name} on {opened.name}"


def explain(
    address: Annotated[
        str | None, typer.Argument(help="a head, a neuron or a latent: a2.6, m3.n5")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="all components of the store, kept in it")
    ] = False,
    folder: StoreFolder = None,
    model: Model = "ioi-mini",
    tokenizer: Vocabulary = None,
    latents: Latents = None,
    explainer: Annotated[str | None, typer.Option("--explainer", help=EXPLAINER)] = None,
    explainer_model: Annotated[
        str, typer.Option("--explainer-model", help="that language model's name there")
    ] = "",
    answers: Answers = None,
    at_once: AtOnce = 4,
    seed: int = 0,
    workers: Workers = 1,
    ray: Ray = "",
    as_json: Json = False,
) -> None:
    """What a component stands for, in a sentence that predicts what it does on other documents; and
    how well, beside saying nothing and beside a list of tokens."""
    if (address is None) != every or (every and explainer):
        raise MiniGPTError(
            "what is to be explained",
            "one component, or all without a language model",
            "interp explain a2.6, or interp explain --all",
        )
    loaded = load(model, "cpu", tokenizer, latents=latents or EMBEDDED.get(model))
    opened = store_of(loaded, folder, not as_json)
    if address is None:
        _explain_all(opened, Where(workers, ray), as_json)
        return
    found = opened.component(address)
    if explainer is None:
        made, cost = explained(found), dict[str, int]()
    else:
        made, cost = _told(found, explainer, explainer_model, answers, seed, at_once)
    shown = Document(f"{address} of {loaded.name}", [views.explanation(made, cost)])
    say({**made.to_dict(), "cost": cost, KEY: record()}, terminal.document(shown), as_json)


def _explain_all(opened: Any, where: Where, as_json: bool) -> None:
    """The explanations of a whole store, the best first."""
    from interp.explain.catalogue import catalogue, summary  # its libraries are an extra

    catalogue(opened, where=where, progress=not as_json)
    kinds = summary(opened)
    rows = [(kind, str(n), f"{simulation:.2f}", f"{top:.2f}") for kind, n, simulation, top in kinds]
    head = ("explained by", ">components", ">simulation", ">its top tokens")
    data = [
        dict(zip(("kind", "components", "simulation", "its top tokens"), x, strict=True))
        for x in kinds
    ]
    say({"kinds": data, KEY: record()}, terminal.table(Table("", head, rows)), as_json)
    if not as_json:
        console.print(f"next: interp store {opened.folder} --words name")


def _told(
    found: Component, url: str, name: str, answers: Path | None, seed: int, at_once: int
) -> tuple[Explanation, dict[str, int]]:
    """What a language model says, and what that took."""
    from interp.explain.endpoint import Endpoint  # its library is an extra
    from interp.explain.told import Told, told

    endpoint = Endpoint(url, name, answers, seed, at_once=at_once)
    made = told(found, endpoint)
    failed = made.simulator.failed if isinstance(made.simulator, Told) else []
    names = ("asked", "known", "read", "written")
    counts: dict[str, int] = {each: getattr(endpoint, each) for each in names}
    return made, {**counts, "not understood": len(failed)}
