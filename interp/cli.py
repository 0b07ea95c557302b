"""The command `interp`: questions asked from a terminal. Every answer is also there as --json."""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

import weights
from interp import audit as audits
from interp import cli_debug, metrics, patching, tasks
from interp.audit import page, view
from interp.card import measure
from interp.circuit import Circuit
from interp.effects import Effects
from interp.ioi import page as ioi_page
from interp.ioi import study
from interp.ioi import view as ioi_view
from interp.show import page as report
from interp.show import terminal as show
from interp.tasks import Prompts
from interp.why import why as ask
from minigpt import GPT2, MiniGPTError, Trace
from minigpt.errors import problem
from minigpt.sample import Choice
from minigpt.sample import generate as continued

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        'Why a GPT-2 says what it says. Start with: interp why "When Mary and John went to the '
        'store, John gave a drink to"'
    ),
)
console = Console(highlight=False, soft_wrap=False)
app.command()(cli_debug.debug)

Prompt = Annotated[
    str, typer.Argument(help="the text that the model continues; end it without a space")
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="a name from `interp models`, a folder, or a checkpoint file"
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, ...")]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON instead")]


@app.command()
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
    html: Annotated[
        Path | None, typer.Option(help="also write a page with pictures to this file")
    ] = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Why does the model say A rather than B? Which nodes push for each, where they looked, what
    they wrote."""
    found = ask(_load(model, device), prompt, answer, over, k=k, neurons=neurons)
    _print(found.to_dict(), show.why(found), as_json)
    if html is not None:
        _write(report.why_page(found), html)


Pairs = Annotated[
    Path | None,
    typer.Option("--pairs", help="a file of pairs: JSON lines, CSV, or AutoCircuit's JSON"),
]
Clean = Annotated[str | None, typer.Argument(help="the clean prompt")]
Corrupt = Annotated[
    str | None, typer.Argument(help="the corrupt prompt: as many tokens, one thing changed")
]
Answer = Annotated[
    str | None, typer.Option("--answer", "-a", help="the clean prompt's answer, with its space")
]
Over = Annotated[str | None, typer.Option("--over", "-o", help="the token it is compared with")]
Html = Annotated[
    Path | None, typer.Option("--html", help="also write a page with pictures to this file")
]


@app.command()
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
                "heads, attns, mlps, resid, neurons:m3, each with @ (every position) or @-1; or "
                "addresses side by side"
            )
        ),
    ] = "heads",
    direction: Annotated[
        str, typer.Option(help="denoising (clean into corrupt) or noising (corrupt into clean)")
    ] = "denoising",
    model: Model = "ioi-mini",
    k: Annotated[int, typer.Option("--top", "-k", min=1)] = 12,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Activation patching: what would the answer be, had this node been as on the other prompt?"""
    loaded = _load(model, device)
    given = _pairs(loaded, clean, corrupt, answer, over, pairs)
    found = patching.nodes(
        loaded, given, metrics.logit_diff(given), _addresses(nodes), direction, progress=not as_json
    )
    _show_effects(found, given, k, html, as_json)


@app.command()
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
    k: Annotated[int, typer.Option("--top", "-k", min=1)] = 12,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Path patching: what does each sender do to the answer through these receivers only?"""
    loaded = _load(model, device)
    given = _pairs(loaded, clean, corrupt, answer, over, pairs)
    place = None if at == "all" else int(at) if at.lstrip("-").isdigit() else at
    found = patching.paths(
        loaded,
        given,
        metrics.logit_diff(given),
        _addresses(senders),
        receivers.split(),
        place,
        mlps,
        progress=not as_json,
    )
    _show_effects(found, given, k, html, as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """Which models are at hand, where from, and how large."""
    known = [vars(m) for m in weights.models()]
    rows = [
        (
            m["name"],
            f"{m['parameters'] / 1e6:,.1f}M",
            f"{m['bytes'] / 1e6:,.0f} MB",
            str(m["at_hand"] or f"not here: interp fetch {m['name']}"),
            m["source"],
        )
        for m in known
    ]
    _print(
        [{k: str(v) if isinstance(v, Path) else v for k, v in m.items()} for m in known],
        show.table("models", ("name", ">parameters", ">size", "at hand", "from"), rows),
        as_json,
    )


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="gpt2, gpt2-medium, gpt2-large, gpt2-xl or distilgpt2")
    ],
) -> None:
    """Download a model's weights (resumable), and check them against the hub's checksum."""
    console.print(f"{name} is at hand: {weights.fetch(name)}", soft_wrap=True)


@app.command()
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
    run = _load(model, device).run(prompt)
    read = Trace.act if act else Trace.scale if scale else Trace.__getitem__
    values = {address: read(run, address)[0] for address in at}
    rows = [
        (
            address,
            "x".join(map(str, x.shape)) or "one number",
            f"{x.double().norm():.4f}",
            " ".join(f"{v:+.4f}" for v in x.flatten()[:6].tolist()),
        )
        for address, x in values.items()
    ]
    _print(
        {address: x.tolist() for address, x in values.items()},
        show.table("", ("address", "shape", ">norm", "begins"), rows),
        as_json,
    )


@app.command()
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
    loaded = _load(model, device)
    stop = loaded.tokenizer.encoding.eot_token if loaded.tokenizer else None
    text = continued(loaded, prompt, n, Choice(temperature, top_k, seed), stop)
    _print({"prompt": prompt, "continuation": text}, prompt + text, as_json)


@app.command()
def card(
    model: Model = "ioi-mini",
    n: Annotated[int, typer.Option("--prompts", min=1)] = 500,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Measure again what the embedded model's card states: on name pairs and templates that its
    training never saw."""
    from recipes import corpus

    rng = random.Random("card")
    drawn = [corpus.indirect_object(rng, corpus.HELD_OUT_TEMPLATES, unseen=True) for _ in range(n)]
    found = measure(
        _load(model, device), [(text.removesuffix(" " + a), a, b) for text, a, b in drawn]
    )
    rows = [
        (
            name.replace("_", " "),
            ", ".join(f"{k} {v:.3f}" for k, v in value.items())
            if isinstance(value, dict)
            else f"{value:g}",
        )
        for name, value in found.items()
    ]
    _print(found, show.table(model, ("", "measured"), rows), as_json)


@app.command()
def ioi(
    model: Model = "ioi-mini",
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
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """The paper "Interpretability in the Wild", run on a model: how it tells indirect objects,
    which heads do it, and whether that is all."""
    loaded = _load(model, device)
    is_gpt2 = (loaded.config.n_layer, loaded.config.n_head, loaded.config.n_vocab) == (
        12,
        12,
        50257,
    ) and Path(model).name == "gpt2"
    given = None if circuit_file is None else Circuit.load(_read(circuit_file))
    found = study(
        loaded,
        model,
        n,
        seed,
        circuit=given,
        is_gpt2=is_gpt2,
        thorough=thorough,
        progress=not as_json,
    )
    _print(found.to_dict(), ioi_view.study(found), as_json)
    if html is not None:
        _write(ioi_page.study(found), html)


@app.command()
def circuit(
    file: Annotated[
        Path,
        typer.Argument(
            help="a circuit: lines 'name mover: a9.9@END a9.6@END', or JSON, ours or EAP-IG's"
        ),
    ],
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
    model: Model = "ioi-mini",
    seed: int = 0,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """How faithful, complete and minimal is a circuit?"""
    loaded, wanted = _load(model, device), Circuit.load(_read(file))
    if pairs is not None:
        given = Prompts.load(pairs, loaded.tokenizer)
    elif loaded.tokenizer is not None:
        given = tasks.ioi.prompts(loaded.tokenizer, n, seed)
    else:
        raise MiniGPTError(
            problem("no pairs, and a model without a vocabulary to make some up", "--pairs FILE")
        )
    metric = metrics.logit_diff(given)
    faithful = wanted.faithfulness(loaded, given, metric, ablation, by=by)
    judged = (
        (
            wanted.completeness(loaded, given, metric, ablation, draws=20, seed=seed),
            wanted.minimality(loaded, given, metric, ablation, seed=seed),
        )
        if by == "nodes"
        else ([], [])
    )
    _print(
        {
            "circuit": wanted.to_dict(),
            "faithfulness": faithful.to_dict(),
            "completeness": [{**vars(each), "gap": each.gap} for each in judged[0]],
            "minimality": [{**vars(each), "change": each.change} for each in judged[1]],
        },
        show.circuit(wanted, faithful, *judged),
        as_json,
    )


@app.command()
def audit(
    model: Model = "ioi-mini",
    against: Annotated[
        str,
        typer.Option(
            help=(
                "hf: Hugging Face's code around the same weights; none; or the model that this "
                "one is supposed to be"
            )
        ),
    ] = "hf",
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="pairs with answers and distractors, as --pairs of `interp patch`"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help=f"one section: {', '.join(audits.SECTIONS)}; may be given several times"
        ),
    ] = None,
    html: Html = None,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Check every promise about the numbers, and measure what is no promise; exit status 1 where a
    promise is broken."""
    loaded = _load(model, device)
    pairs = None if prompts is None else Prompts.load(prompts, loaded.tokenizer)
    params = None if against in ("hf", "none") else _load(against, device).params
    found = audits.audit(
        loaded,
        pairs,
        only=only or audits.SECTIONS,
        against=params,
        outside=against != "none",
        progress=not as_json,
    )
    _print(found.to_dict(), view.audit(found), as_json)
    if html is not None:
        _write(page.audit(found), html)
    if found.broken:
        raise typer.Exit(1)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MiniGPTError(
            problem(
                f"{file}: {getattr(error, 'strerror', error)}", "a file of text that can be read"
            )
        ) from error


def _addresses(text: str) -> str | list[str]:
    """A set's name as it is; addresses side by side as a list."""
    name = text.partition("@")[0].partition(":")[0]
    return text if name in ("heads", "attns", "mlps", "resid", "neurons") else text.split()


def _pairs(
    model: GPT2,
    clean: str | None,
    corrupt: str | None,
    answer: str | None,
    over: str | None,
    file: Path | None,
) -> Prompts:
    """Pairs from a file, or the one pair that was typed."""
    if file is not None:
        return Prompts.load(file, model.tokenizer)
    if (
        clean is None
        or corrupt is None
        or answer is None
        or over is None
        or model.tokenizer is None
    ):
        raise MiniGPTError(
            problem(
                "half a question",
                "a clean and a corrupt prompt with --answer and --over, or --pairs FILE",
                "interp patch 'When Mary and John went to the store, John gave a drink to' "
                "'When Mary and John went to the store, Mary gave a drink to' -a ' Mary' -o ' "
                "John'",
            )
        )
    return Prompts.from_texts(model.tokenizer, [clean], [corrupt], [answer], [over])


def _show_effects(found: Effects, pairs: Prompts, k: int, html: Path | None, as_json: bool) -> None:
    with warnings.catch_warnings(record=True):
        view = show.effects(found, k)
    _print(
        {**found.to_dict(), "receipt": vars(found.receipt) if found.receipt else None},
        view,
        as_json,
    )
    if html is not None:
        _write(
            report.effects_page(
                found, [pairs.text(pairs.clean[0]), pairs.text(pairs.corrupted.tokens[0])]
            ),
            html,
        )


def _load(model: str, device: str) -> GPT2:
    try:
        return weights.load(model, device=torch.device(device))
    except RuntimeError as error:
        raise MiniGPTError(
            problem(
                f"--device {device}: {error}".splitlines()[0], "cpu, or cuda where torch sees a GPU"
            )
        ) from error


def _print(data: Any, view: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    else:
        console.print(view)


def _write(html: str, path: Path) -> None:
    try:
        report.save(html, path)
    except OSError as error:
        raise MiniGPTError(
            problem(
                f"--html {path}: {error.strerror}",
                "a file in a folder that exists and may be written",
            )
        ) from error
    Console(stderr=True).print(f"wrote {path}")


def main() -> None:
    """Run the command; an error of this project is a message and exit status 2, never a stack of
    calls."""
    try:
        app()
    except MiniGPTError as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", style="red", markup=False, soft_wrap=True
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
