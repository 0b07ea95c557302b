"""Activation patching and path patching: what the metric would be if a node, a stream point, an
edge or a path were another's.

Every effect is exact: the model runs again with the value in place (LayerNorm included), nothing is
linearised. The metric's change is what is returned: patched run less patched-upon run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.effects import Effects
from interp.metrics import Metric
from interp.sets import addresses, parsed
from interp.tasks import Prompts
from minigpt import GPT2, Site, Trace, parse
from minigpt.address import edges as every_edge
from minigpt.errors import AddressError, NoEffectWarning, PatchError
from minigpt.patch import Patch
from minigpt.patch.edit import Source
from minigpt.receipt import Receipt

At = int | str | None
# What path patching may mean, by what becomes of the MLPs.
MEANINGS = {"recompute": "IOI", "frozen": "edge"}


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

    over: "heads", "attns", "mlps", "resid", "neurons", "neurons:m3", "latents", "latents:m3" (those
    that are on in either run, bias and error), with "@" (each position), "@S2" or "@-1"; or
    addresses. direction: "denoising" puts clean values into the corrupt run,
    "noising" corrupt ones into the clean run.
    """
    base, other = _sides(model, pairs, direction)
    names = addresses(base, over, other)
    patches = [Patch.write(name, other) for name in names]
    question = _Question(model, metric, base, progress, _ends(metric, base, other, direction))
    return question.effects(f"patching ({direction})", names, patches)


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
    instead = _ablation(model, prompts, reference or prompts, source, seed)
    names = addresses(base, over)
    patches = [Patch.write(name, instead) for name in names]
    return _Question(model, metric, base, progress).effects(f"knock-out ({source})", names, patches)


def paths(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    senders: str | Sequence[str] = "heads",
    receivers: str | Sequence[str] = ("out",),
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
    _check_meaning(mlps)
    base, other = _sides(model, pairs, direction)
    kept = standing or Patch()
    base = model.rerun(base, kept) if standing else base
    names, ports = addresses(base, senders), [_port(text, model) for text in _listed(receivers)]
    method = f"path patching to {', '.join(map(str, ports))} ({MEANINGS[mlps]})"
    question = _Question(model, metric, base, progress)
    if mlps == "frozen":
        edges = [_reads(name, ports, other, at) | kept for name in names]
        return question.effects(method, names, edges)
    held = Patch.hold("heads", base) | kept
    sent = [Patch.write(_placed(name, at), other) | held for name in names]
    if [str(port) for port in ports] == ["out"]:
        return question.effects(method, names, sent)
    inputs, bill = question.inputs(ports, at, sent)
    return question.effects(method, names, [patch | kept for patch in inputs], bill)


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
    if not ports or ports[-1].kind != "out":
        raise AddressError(
            f"'{chain}' does not end at the output", "a path to out, as in a5.5>a8.6.v>out"
        )
    run, sender, place = other, first, at
    for port in ports:
        run = model.rerun(base, Patch.read(_placed(f"{sender}>{port}", place), run))
        sender, place = port.writer if port.kind != "out" else port, None
    before, after = metric(base), metric(run)
    change = (after - before)[None]
    return Effects("path patching (tree)", metric.name, (chain,), change, before, model.config)


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
    names = list(every_edge(model.config)) if edges is None else parsed(base, edges)
    # Edges into one port are computed together, so they are asked for one after the other.
    order = sorted(range(len(names)), key=lambda i: str(parse(names[i]).sites[-1]))
    ordered, source = [names[i] for i in order], Source("other", run=other)
    patches = [Patch.read(name, source) for name in ordered]
    question = _Question(model, metric, base, progress, _ends(metric, base, other, direction))
    effects = question.effects(f"edge patching ({direction})", ordered, patches)
    return effects.rows(torch.tensor(order, dtype=torch.long).argsort().tolist())


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    """One address is a list of one."""
    return [texts] if isinstance(texts, str) else texts


def _sides(model: GPT2, pairs: Prompts, direction: str) -> tuple[Trace, Trace]:
    """The run that is patched, and the run that values come from."""
    if direction not in ("noising", "denoising"):
        raise PatchError(
            f"direction='{direction}'",
            "'noising' (corrupt into clean) or 'denoising' (clean into corrupt)",
        )
    if not hasattr(pairs, "corrupted"):
        raise PatchError(
            f"pairs of type {type(pairs).__name__}",
            "Prompts with a clean and a corrupt side",
            "Prompts.from_texts(tokenizer, clean, corrupt, answers, distractors)",
        )
    _warn_of_twins(pairs)
    clean, corrupt = model.run(pairs), model.run(pairs.corrupted)
    return (clean, corrupt) if direction == "noising" else (corrupt, clean)


def _warn_of_twins(pairs: Prompts) -> None:
    """NoEffectWarning where some pairs, not all, are twice the same prompt: of all of them the
    rerun says that nothing changed."""
    assert pairs.corrupt is not None
    outside = torch.arange(pairs.clean.shape[1]) >= pairs.batch.lengths.cpu()[:, None]
    same = ((pairs.clean == pairs.corrupt).cpu() | outside).all(1)
    if bool(same.any()) and not bool(same.all()):
        rows = same.nonzero().flatten().tolist()
        said = (
            f"{len(rows)} of {len(pairs)} pairs are the same prompt on both sides (rows "
            f"{', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}): their effects "
            "are 0, and the means count them"
        )
        warnings.warn(NoEffectWarning(said), stacklevel=4)


def _ends(metric: Metric, base: Trace, other: Trace, direction: str) -> tuple[Tensor, Tensor]:
    """The metric of the clean and of the corrupt run."""
    patched, source = metric(base), metric(other)
    return (patched, source) if direction == "noising" else (source, patched)


@dataclass(frozen=True, eq=False)
class _Question:
    """The run that is patched, and the metric that is read."""

    model: GPT2
    metric: Metric
    base: Trace
    progress: bool
    ends: tuple[Tensor, Tensor] | None = None

    def effects(
        self,
        method: str,
        names: Sequence[str],
        patches: Sequence[Patch],
        earlier: Receipt | None = None,
    ) -> Effects:
        """The metric's change by each patch; earlier: the bill of the runs that patches came
        from."""
        before = self.metric(self.base)
        after, bill = self.metric.after(self.model, self.base, patches, progress=self.progress)
        bill = bill if earlier is None else earlier + bill
        name, config = self.metric.name, self.model.config
        change = after - before
        return Effects(method, name, tuple(names), change, before, config, bill, self.ends)

    def inputs(
        self, ports: Sequence[Site], at: At, sent: Sequence[Patch]
    ) -> tuple[list[Patch], Receipt]:
        """For each patch, one by which the ports alone see what it makes of the stream; and the
        bill."""
        points = list(dict.fromkeys(_point(port, self.model) for port in ports))
        places = [_placed(point, at) for point in points]
        swept = self.model.rerun(self.base, sent, places, progress=self.progress)
        streams = swept.values if len(points) > 1 else swept.values[:, None]
        return [_inputs(ports, points, seen, self.model, at) for seen in streams], swept.receipt


def _ablation(
    model: GPT2, prompts: Prompts, reference: Prompts, source: str, seed: int
) -> Source | Trace | float:
    """What nodes write instead of their own."""
    if source == "zero":
        return 0.0
    if source == "pairs":
        return model.run(prompts.corrupted)
    if source == "mean":
        return Source("reference", run=model.run(reference), mean=True)
    if source == "group":
        return _group_mean(model, reference)
    if source != "resample":
        raise PatchError(f"source='{source}'", "'zero', 'mean', 'group', 'resample' or 'pairs'")
    return model.run(reference.rows(_drawn(prompts, reference, seed)))


def _drawn(prompts: Prompts, reference: Prompts, seed: int) -> list[int]:
    """For each prompt a reference prompt of its length, so that positions mean the same."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(len(prompts), dtype=torch.long)
    for length in prompts.lengths.unique():
        mine, theirs = ((x.lengths == length).nonzero().flatten() for x in (prompts, reference))
        if not len(theirs):
            raise PatchError(
                f"source='resample': no reference prompt of {int(length)} tokens",
                "a reference prompt of the length of each prompt",
            )
        drawn[mine] = theirs[torch.randint(len(theirs), (len(mine),), generator=generator)]
    return [int(i) for i in drawn]


def _group_mean(model: GPT2, reference: Prompts) -> Source:
    if reference.groups is None:
        raise PatchError(
            "source='group', but the prompts have no groups", "prompts with groups=..."
        )
    return Source("reference", run=model.run(reference), mean=True, by=reference.groups)


def _check_meaning(mlps: str) -> None:
    if mlps not in MEANINGS:
        raise PatchError(
            f"mlps='{mlps}'", "'recompute' (the IOI paper's meaning) or 'frozen' (the edge meaning)"
        )


def _placed(address: str, at: At) -> str:
    return address if at is None else f"{address}@{at}"


def _port(text: str, model: GPT2) -> Site:
    site = parse(text, model.config).site
    if site.role != "port":
        raise PatchError(f"the receiver '{text}'", "a port: out, a8.6.q, a8.6.k, a8.6.v, m3.in")
    return site


def _reads(sender: str, ports: Sequence[Site], other: Trace, at: At) -> Patch:
    """The edges from a sender to those of the ports that come after it."""
    node = parse(sender).site
    return Patch.all(
        Patch.read(_placed(f"{node}>{port}", at), other)
        for port in ports
        if node.stage < port.stage
    )


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
    return Patch.all(
        Patch.input(_placed(str(port), at), seen[points.index(_point(port, model))])
        for port in ports
    )
