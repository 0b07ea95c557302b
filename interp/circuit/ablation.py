"""A model with nodes knocked out, and a model of which nothing but some nodes is left: the metric
of each, prompt by prompt.

Wang et al. 2022, section 2.1: a node that is knocked out writes its mean over the reference prompts
of the same template, position by position. What is left out of a circuit is held at these values at
every position; a circuit's node is free at its own position only. MLPs, LayerNorms and embeddings
always work. Every run is exact; nothing is linearised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp.circuit.state import State
from interp.metrics import Metric
from interp.provenance import fingerprint
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Trace
from minigpt.address import edges as every_edge
from minigpt.errors import PatchError
from minigpt.patch import Patch
from minigpt.patch.edit import ZERO, Source

SOURCES = ("mean", "zero", "resample", "pairs")
Nodes = Sequence[str]
# So many edges are cut faster one by one than all at once (benchmarks/circuits.py: up to 16 on the
# embedded model, up to 64 at full size).
FEW = 16


class Ablation:
    """Runs of a model on `pairs`, nodes replaced by a source: "mean" (by group), "zero", "resample"
    (another prompt of the group), "pairs".

    reference: more prompts, over whose corrupt side (clean, where there is none) means are taken
    along with the pairs' own. over: which nodes a circuit is chosen among, "heads" or "heads mlps";
    all others always work.
    """

    def __init__(
        self,
        model: GPT2,
        pairs: Prompts,
        metric: Metric,
        source: str = "mean",
        *,
        reference: Prompts | None = None,
        over: str = "heads",
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        if source not in SOURCES:
            raise PatchError(f"ablation={source!r}", ", ".join(map(repr, SOURCES)))
        if over not in ("heads", "heads mlps"):
            raise PatchError(f"over={over!r}", "'heads' or 'heads mlps'")
        self.model, self.pairs, self.metric, self.name = model, pairs, metric, source
        self.over, self.progress, self.reference = over, progress, reference
        # What makes the same again, elsewhere.
        self.asked = dict(
            pairs=pairs, metric=metric, source=source, reference=reference, over=over, seed=seed
        )
        self.source = _source(model, pairs, reference, source, seed)
        self._runs: dict[tuple[str, ...], Trace] = {}
        self._states: dict[tuple[str, ...], State] = {}

    @cached_property
    def clean(self) -> Trace:
        """The run in which nothing is knocked out."""
        return self.model.run(self.pairs)

    @cached_property
    def full(self) -> Float[Tensor, "prompts"]:
        """The metric of the whole model, F(M)."""
        return self.metric(self.clean)

    def without(self, sets: Sequence[Nodes]) -> Float[Tensor, "sets prompts"]:
        """The metric of the model without each of these sets of nodes, F(M\\K); a node is knocked
        out at its own position."""
        return self._metric(self.clean, [self.knocked(nodes) if nodes else None for nodes in sets])

    def only(self, circuits: Sequence[Nodes]) -> Float[Tensor, "circuits prompts"]:
        """The metric of each circuit, F(C): every node that is not in it is knocked out,
        everywhere."""
        return self._metric(self.clean, [self._kept(nodes) for nodes in circuits])

    def within(self, circuit: Nodes, sets: Sequence[Nodes]) -> Float[Tensor, "sets prompts"]:
        """F(C\\K) for many K: the circuit's own run is what they are computed from, so that only
        what K changes is computed."""
        base = self._run(tuple(circuit))
        left = [[node for node in circuit if node not in set(nodes)] for nodes in sets]
        whole = len(circuit)
        return self._metric(
            base, [self._kept(some) if len(some) < whole else None for some in left]
        )

    def edges(self, kept: Sequence[str], every: Sequence[str]) -> Float[Tensor, "prompts"]:
        """The metric where each edge that is not kept carries what its sender writes in the source.

        Of the input, under zero and mean ablation, only the token embedding is taken away, as in
        EAP-IG and MIB, whose input node is that; positions are the same on both sides of a pair.
        """
        cut = set(every) - set(kept)
        if len(cut) <= FEW:
            return self._metric(self.clean, [self.cut(sorted(cut)) if cut else None])[0]
        return self.state(e for e in every_edge(self.model.config) if e not in cut).metric

    def state(self, kept: Iterable[str]) -> State:
        """The run in which only these edges are kept; the last one is not made again."""
        edges = tuple(kept)
        if edges not in self._states:
            self._states = {}  # first, so that there is room
            self._states = {edges: State(self.model, self.clean, self.source, self.metric, edges)}
        return self._states[edges]

    def cut(self, edges: Sequence[str]) -> Patch:
        """These edges carry what their senders write in the source."""
        if self.source.run is None or self.source.mean:
            edges = [edge.replace("input>", "emb>", 1) for edge in edges]
        return Patch.all(Patch.read(edge, self.source) for edge in edges)

    @cached_property
    def whole(self) -> State:
        """The run in which every edge is kept."""
        every = tuple(every_edge(self.model.config))
        return State(self.model, self.clean, self.source, self.metric, every)

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of all that its numbers depend on."""
        digest = hashlib.sha256(fingerprint(self.model).encode())
        digest.update(f"{self.name} {self.asked['seed']} {self.metric!r}".encode())
        given = [self.metric.answers, self.metric.distractors]
        for prompts in (self.pairs, self.reference or self.pairs):
            given += [prompts.clean, prompts.corrupt, prompts.lengths, prompts.groups]
            given += [prompts.positions[name] for name in sorted(prompts.positions)]
        for ids in given:
            digest.update(b"-" if ids is None else ids.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _run(self, circuit: tuple[str, ...]) -> Trace:
        """A circuit's own run; the last one is kept, since a search asks for it again and again."""
        if circuit not in self._runs:
            self._runs = {circuit: self.model.rerun(self.clean, self._kept(circuit))}
        return self._runs[circuit]

    def _kept(self, nodes: Nodes) -> Patch:
        return Patch.hold(self.over, self.source, but=" ".join(nodes))

    def knocked(self, nodes: Nodes) -> Patch:
        """The patch that knocks out nodes, each at its own position."""
        return Patch.all(Patch.write(node, self.source) for node in nodes)

    def _metric(
        self, base: Trace, patches: Sequence[Patch | None]
    ) -> Float[Tensor, "variants prompts"]:
        """The metric of the base's run after each patch; None stands for the run as it is."""
        values = self.metric(base).repeat(len(patches), 1)
        changed = {i: patch for i, patch in enumerate(patches) if patch is not None}
        if changed:
            patched = list(changed.values())
            after, _ = self.metric.after(self.model, base, patched, progress=self.progress)
            values[list(changed)] = after
        return values


def _source(
    model: GPT2, pairs: Prompts, reference: Prompts | None, source: str, seed: int
) -> Source:
    """Where the values of knocked-out nodes come from."""
    if source == "zero":
        return ZERO
    if source == "pairs":
        return Source("corrupt", run=model.run(pairs.corrupted))
    batch = _side(pairs)
    if source == "resample":
        return Source("resampled", run=model.run(_resampled(batch, pairs, seed)))
    by = pairs.groups
    if reference is not None:
        batch, by = _together(batch, by, reference)
    return Source("reference", run=model.run(batch), mean=True, by=by)


def _side(prompts: Prompts) -> Batch:
    return prompts.batch if prompts.corrupt is None else prompts.corrupted


def _together(batch: Batch, by: Tensor | None, reference: Prompts) -> tuple[Batch, Tensor | None]:
    """The prompts, then those reference prompts that belong to groups which occur among them."""
    more, theirs = _side(reference), reference.groups
    if (by is None) != (theirs is None):
        raise PatchError(
            "prompts with groups and reference prompts without, or the other way round",
            "groups for both, or for neither",
        )
    if by is None or theirs is None:
        return _joined(batch, more), None
    rows = torch.isin(theirs, by).nonzero().flatten()
    return _joined(batch, Batch(more.tokens[rows], more.lengths[rows])), torch.cat(
        [by, theirs[rows]]
    )


def _joined(batch: Batch, more: Batch) -> Batch:
    """Both, as wide as the first."""
    width, lengths = batch.tokens.shape[1], more.lengths
    if len(lengths) and int(lengths.max()) > width:
        raise PatchError(
            f"reference prompts of up to {int(lengths.max())} tokens for prompts of up to {width}",
            "prompts of a group of one length",
        )
    tokens = more.tokens[:, :width]
    padded = torch.nn.functional.pad(tokens, (0, width - tokens.shape[1]))
    return Batch(torch.cat([batch.tokens, padded]), torch.cat([batch.lengths, lengths]))


def _resampled(batch: Batch, pairs: Prompts, seed: int) -> Batch:
    """For each prompt another one's tokens, drawn among those of its group (of its length, where
    there are no groups)."""
    by = batch.lengths if pairs.groups is None else pairs.groups
    draw, rows = torch.Generator().manual_seed(seed), torch.arange(len(by))
    for group in torch.unique(by):
        mine = (by == group).nonzero().flatten()
        if len(mine) == 1:
            raise PatchError(
                f"ablation='resample': group {int(group)} has one prompt only",
                "two or more prompts in each group",
                "more prompts",
            )
        order = mine[torch.randperm(len(mine), generator=draw)]
        rows[order] = order.roll(1)
    for prompt, other in enumerate(rows.tolist()):
        if batch.lengths[prompt] != batch.lengths[other]:
            raise PatchError(
                f"ablation='resample': prompts of {int(batch.lengths[prompt])} and "
                f"{int(batch.lengths[other])} tokens in one group",
                "groups of prompts of one length, so that positions mean the same",
                "ablation='mean' or 'pairs', or prompts without groups: drawn by length",
            )
    return Batch(batch.tokens[rows], batch.lengths, batch.positions)
