"""Activation patching and path patching: what the metric would be if a node, a stream point, an
edge or a path were another's.

Every effect is exact: the model runs again with the value in place (LayerNorm included), nothing is
linearised. The metric's change is what is returned: patched run less patched-upon run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.effects import Effects
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Site, Trace, parse
from minigpt.address import edges as every_edge
from minigpt.address import heads, streams
from minigpt.errors import AddressError, PatchError
from minigpt.patch import Patch
from minigpt.patch.edit import Source

At = int | str | None
SETS = ("heads", "attns", "mlps", "resid", "neurons", "neurons:m3")


def nodes(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    over: str | Sequence[str] = "heads",
    direction: str = "denoising",
    *,
    progress: bool = False,
) -> Effects:
    """Activation patching, one node or stream point at a time; every position, or (over="heads@")
    each position by itself.

    over: "heads", "attns", "mlps", "resid", "neurons", "neurons:m3", with "@" (each position),
    "@S2" or "@-1"; or addresses. direction: "denoising" puts clean values into the corrupt run,
    "noising" corrupt ones into the clean run.
    """
    base, other = _sides(model, pairs, direction)
    names = addresses(base, over)
    return _effects(
        f"patching ({direction})",
        model,
        base,
        metric,
        names,
        [Patch.write(name, other) for name in names],
        progress,
    )


def knockout(
    model: GPT2,
    prompts: Prompts,
    metric: Metric,
    over: str | Sequence[str] = "heads",
    source: str = "zero",
    *,
    reference: Prompts | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Effects:
    """Ablation, one node at a time: the clean run without what the node knows.

    source: "zero"; "mean" over the reference prompts (these prompts, unless given); "group", the
    mean over those of the prompt's own group; "resample", what it is on another prompt drawn from
    the reference; "pairs", what it is on the corrupt prompt.
    """
    base = model.run(prompts)
    given = _ablation(model, prompts, reference or prompts, source, seed)
    names = addresses(base, over)
    return _effects(
        f"knock-out ({source})",
        model,
        base,
        metric,
        names,
        [Patch.write(name, given) for name in names],
        progress,
    )


def paths(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    senders: str | Sequence[str] = "heads",
    receivers: Sequence[str] = ("out",),
    at: At = "END",
    mlps: str = "recompute",
    *,
    standing: Patch | None = None,
    direction: str = "noising",
    progress: bool = False,
) -> Effects:
    """Path patching from each sender to a set of receivers taken together, all at one position
    (None: at every position).

    standing: a patch that the patched run has throughout, a knock-out of other heads (figure 15 of
    the paper).

    mlps="recompute": the meaning of Wang et al. 2022 (App. B): all heads held at their own values
    but the sender, MLPs and LayerNorms recomputed; the receivers' inputs are taken from that run
    and everything after them is recomputed. mlps="frozen": the edge meaning: receivers see the
    sender along the direct edges only.
    """
    base, other = _sides(model, pairs, direction)
    kept = standing or Patch()
    base = model.rerun(base, kept) if standing else base
    names = addresses(base, senders)
    ports = [_port(text, model) for text in receivers]
    method = (
        f"path patching to {', '.join(map(str, ports))} "
        f"({'IOI' if mlps == 'recompute' else 'edge'})"
    )
    if mlps == "frozen":
        return _effects(
            method,
            model,
            base,
            metric,
            names,
            [_reads(name, ports, other, at) | kept for name in names],
            progress,
        )
    if mlps != "recompute":
        raise PatchError(
            f"mlps='{mlps}'", "'recompute' (the IOI paper's meaning) or 'frozen' (the edge meaning)"
        )
    sent = [
        Patch.write(_placed(name, at), other) | Patch.hold("heads", base) | kept for name in names
    ]
    if [str(port) for port in ports] == ["out"]:
        return _effects(method, model, base, metric, names, sent, progress)
    points = list(dict.fromkeys(_point(port, model) for port in ports))
    first = model.rerun(base, sent, [_placed(point, at) for point in points], progress=progress)
    seen = first.values if len(points) > 1 else first.values[:, None]
    found = _effects(
        method,
        model,
        base,
        metric,
        names,
        [_inputs(ports, points, each, model, at) | kept for each in seen],
        progress,
    )
    assert found.receipt is not None
    return replace(found, receipt=first.receipt + found.receipt)


def path(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    chain: str,
    at: At = None,
    *,
    direction: str = "noising",
) -> Effects:
    """The effect along one path only, "a5.5>a8.6.v>a9.9.q>out": each sender's change is seen by the
    next port and nobody else.

    at: the position at which the first port reads (None: all); later ports read at all positions.
    """
    base, other = _sides(model, pairs, direction)
    first, *ports = parse(chain, model.config).sites
    run, sender, place = other, first, at
    if not ports or ports[-1].kind != "out":
        raise AddressError(
            f"'{chain}' does not end at the output", "a path to out, as in a5.5>a8.6.v>out"
        )
    for port in ports:
        run = model.rerun(base, Patch.read(_placed(f"{sender}>{port}", place), run))
        sender, place = port.writer if port.kind != "out" else port, None
    return Effects(
        "path patching (tree)",
        metric.name,
        (chain,),
        (metric(run) - metric(base))[None],
        metric(base),
        model.config,
    )


def edges(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    edges: Sequence[str] | None = None,
    *,
    direction: str = "noising",
    progress: bool = False,
) -> Effects:
    """Edge patching, one edge at a time, LayerNorm recomputed; every edge of the graph unless some
    are given."""
    base, other = _sides(model, pairs, direction)
    names = (
        list(every_edge(model.config))
        if edges is None
        else [str(parse(edge, model.config)) for edge in edges]
    )
    given = Source("other", run=other)
    order = sorted(range(len(names)), key=lambda i: str(parse(names[i]).sites[-1]))
    found = _effects(
        f"edge patching ({direction})",
        model,
        base,
        metric,
        [names[i] for i in order],
        [Patch.read(names[i], given) for i in order],
        progress,
    )
    return found.rows(torch.tensor(order, dtype=torch.long).argsort().tolist())


def addresses(trace: Trace, over: str | Sequence[str]) -> list[str]:
    """The addresses that a set's name stands for in this run's model: see `nodes`."""
    if not isinstance(over, str):
        return [str(parse(each, trace.config)) for each in over]
    name, sign, place = over.partition("@")
    sites = [str(site) for site in _set(trace, name)]
    if not sign:
        return sites
    if place:
        return [f"{site}@{place}" for site in sites]
    if trace.batch.ragged:
        raise PatchError(
            f"'{over}': each position, of prompts of lengths "
            f"{sorted(set(trace.batch.lengths.tolist()))}",
            "prompts of one length",
            f"'{name}@END' or another named position",
        )
    return [f"{site}@{t}" for site in sites for t in range(trace.tokens.shape[1])]


def _set(trace: Trace, name: str) -> list[Site]:
    config = trace.config
    if name in ("heads", "attns", "mlps", "resid"):
        return {
            "heads": lambda: list(heads(config)),
            "attns": lambda: [Site("attn", i) for i in range(config.n_layer)],
            "mlps": lambda: [Site("mlp", i) for i in range(config.n_layer)],
            "resid": lambda: list(streams(config)),
        }[name]()
    kind, _, layer = name.partition(":")
    if kind != "neurons" or (
        layer and not (parse(layer, config).site.kind == "mlp" and parse(layer).site.part is None)
    ):
        raise AddressError(
            f"'{name}' is no set of nodes",
            ", ".join(SETS) + ", each with or without @",
            "a list of addresses: ['a9.9', 'm3']",
        )
    layers = [parse(layer).site.layer] if layer else range(config.n_layer)
    return [Site("mlp", i, n) for i in layers for n in range(config.d_mlp)]


def _sides(model: GPT2, pairs: Prompts, direction: str) -> tuple[Trace, Trace]:
    """The run that is patched, and the run that values come from."""
    if direction not in ("noising", "denoising"):
        raise PatchError(
            f"direction='{direction}'",
            "'noising' (corrupt into clean) or 'denoising' (clean into corrupt)",
        )
    clean, corrupt = model.run(pairs), model.run(pairs.corrupted)
    return (clean, corrupt) if direction == "noising" else (corrupt, clean)


def _effects(
    method: str,
    model: GPT2,
    base: Trace,
    metric: Metric,
    names: Sequence[str],
    patches: Sequence[Patch],
    progress: bool,
) -> Effects:
    before = metric(base)
    after, receipt = metric.after(model, base, patches, progress=progress)
    change = after - before
    return Effects(method, metric.name, tuple(names), change, before, model.config, receipt)


def _ablation(
    model: GPT2, prompts: Prompts, reference: Prompts, source: str, seed: int
) -> Source | Trace | float:
    if source == "zero":
        return 0.0
    if source == "pairs":
        return model.run(prompts.corrupted)
    if source in ("mean", "group"):
        if source == "group" and reference.groups is None:
            raise PatchError(
                "source='group', but the prompts have no groups", "prompts with groups=..."
            )
        return Source(
            "reference",
            run=model.run(reference),
            mean=True,
            by=reference.groups if source == "group" else None,
        )
    if source != "resample":
        raise PatchError(f"source='{source}'", "'zero', 'mean', 'group', 'resample' or 'pairs'")
    drawn = torch.randint(
        len(reference), (len(prompts),), generator=torch.Generator().manual_seed(seed)
    )
    batch = reference.batch
    return model.run(Batch(batch.tokens[drawn], batch.lengths[drawn]))


def _placed(address: str, at: At) -> str:
    return address if at is None else f"{address}@{at}"


def _port(text: str, model: GPT2) -> Site:
    site = parse(text, model.config).site
    if site.role != "port":
        raise PatchError(f"the receiver '{text}'", "a port: out, a8.6.q, a8.6.k, a8.6.v, m3.in")
    return site


def _reads(sender: str, ports: Sequence[Site], other: Trace, at: At) -> Patch:
    """The edges from a sender to those of the ports that come after it."""
    patch, node = Patch(), parse(sender).site
    for port in ports:
        if node.stage < port.stage:
            patch |= Patch.read(_placed(f"{node}>{port}", at), other)
    return patch


def _point(port: Site, model: GPT2) -> str:
    """The stream point that a port reads."""
    if port.kind == "out":
        return f"resid{model.config.n_layer}"
    return f"resid{port.layer}.mid" if port.kind == "in" else f"resid{port.layer}"


def _inputs(
    ports: Sequence[Site],
    points: Sequence[str],
    seen: Float[Tensor, "points batch *rest"],
    model: GPT2,
    at: At,
) -> Patch:
    """Every receiver sees the stream that the first run had there."""
    patch = Patch()
    for port in ports:
        patch |= Patch.input(_placed(str(port), at), seen[points.index(_point(port, model))])
    return patch
