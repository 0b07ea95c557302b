"""What the stream that a port reads is made of: every write before it, and what edits put in, each
measured along a direction.

A number that is linear in the stream x is toward . x; a write w adds toward . w to it, so all parts
sum to it. Attribution's `toward` is the gradient of a metric, the debugger's that of a score.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt import Site, Trace
from minigpt.address import heads, nodes
from minigpt.shown import Shown

Part = tuple[Site, Float[Tensor, "rows"]]


@dataclass(frozen=True, eq=False, repr=False)
class Parts(Shown):
    """The writes before a port, at the rows that `pick` takes out of [batch, pos, ...], along
    `toward` (float64), a direction for each row."""

    trace: Trace
    port: Site
    pick: Callable[[Tensor], Tensor]
    toward: Float[Tensor, "rows d_model"]

    def nodes(self, neurons: Collection[int] = ()) -> Iterator[Part]:
        """Every node's write as the run has it: embeddings, heads, MLPs and biases, in order; of
        these layers' MLPs every neuron's, and the bias."""
        for site in nodes(self.trace.config):
            if site.stage >= self.port.stage or site.kind == "out.b":
                continue
            if site.kind == "mlp":
                yield from self._neurons(site) if site.depth in neurons else [self._mlp(site)]
            elif site.kind == "attn":
                yield from self._heads(site.depth) if site.part == 0 else ()
            else:
                yield site, self.dot(self.trace.write(site))

    def cut(self, neurons: Collection[int], wholes: Sequence[Site]) -> Iterator[Part]:
        """The same, but these writes, or all before a stream point, by their dictionaries."""
        yield from (part for part in self.nodes(neurons) if not within(part[0], wholes))
        for whole in wholes:
            if whole.stage < self.port.stage:
                yield from self.latents(whole)

    def latents(self, whole: Site) -> Iterator[Part]:
        """The parts of a write by a dictionary: latents that are on at some of the rows or that an
        edit wrote, the decoder's bias, the error; and the layer's own bias where that is none of
        them."""
        split = self.trace.split(Site(f"{whole.kind}.ls", whole.layer))
        on = self.pick(split.act).flatten(0, -2).any(0).nonzero().flatten().tolist()
        kind = f"{whole.kind}.l"
        edited = {
            s.part or 0 for s in self.trace.overrides if (s.kind, s.layer) == (kind, whole.layer)
        }
        sites = [Site(kind, whole.layer, n) for n in sorted({*on, *edited})]
        sites += [Site(f"{whole.kind}.{part}", whole.layer) for part in ("l.b", "e")]
        sites += [Site("mlp.b", whole.layer)] * (split.beside is not None)
        yield from ((site, self.dot(self.trace.write(site))) for site in sites)

    def edits(self, listed: Collection[Site]) -> Iterator[Part]:
        """The difference that edits make beyond the writes of the nodes that are listed: in a
        stream, and in a whole whose parts are listed."""
        computed = replace(self.trace, overrides={})
        for site, override in self.trace.overrides.items():
            is_in = site in listed or any(node.contains(site) for node in listed)
            if site.kind == "pattern" or is_in or site.stage >= self.port.stage:
                continue
            own = unwritten(self.trace, site) if site.role == "stream" else computed.write(site)
            change = self.pick(override.values).double() - self.pick(own).double()
            here = torch.where(self.pick(override.rows)[..., None], change, 0)
            yield site, (here * self.toward).sum(-1)

    def dot(self, write: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "rows"]:
        """A write along the direction."""
        return (self.pick(write).double() * self.toward).sum(-1)

    def _heads(self, layer: int) -> Iterator[Part]:
        w_o = self.trace.params.blocks[layer].w_o.double()
        through = self.pick(self.trace.cells[layer].z).double() * (self.toward @ w_o.T)
        for site in heads(self.trace.config, layer):
            own = self.trace.config.head_columns(site.part or 0)
            yield site, self._put(site, through[:, own].sum(-1))

    def _mlp(self, mlp: Site) -> Part:
        bias = self.trace.params.blocks[mlp.depth].b_out.double()
        computed = self._activations(mlp).sum(-1) + self.toward @ bias
        return mlp, self._put(mlp, computed)

    def _neurons(self, mlp: Site) -> Iterator[Part]:
        for n, effect in enumerate(self._activations(mlp).unbind(-1)):
            site = Site("mlp", mlp.layer, n)
            yield site, self._put(site, effect)
        bias = Site("mlp.b", mlp.layer)
        yield bias, self.dot(self.trace.write(bias))

    def _activations(self, mlp: Site) -> Float[Tensor, "rows d_mlp"]:
        w_out = self.trace.params.blocks[mlp.depth].w_out.double()
        return self.pick(self.trace.cells[mlp.depth].act).double() * (self.toward @ w_out.T)

    def _put(self, site: Site, computed: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
        """What the cells say of a node, or, where an edit wrote it or a part of it, what
        the run has."""
        edited = any(site == other or site.contains(other) for other in self.trace.overrides)
        return self.dot(self.trace.write(site)) if edited else computed


def within(site: Site, wholes: Sequence[Site]) -> bool:
    """Whether one of these is the site, or contains it, or is a stream point behind it."""
    later = (whole for whole in wholes if whole.role == "stream")
    return any(whole == site or whole.contains(site) for whole in wholes) or any(
        site.stage < point.stage for point in later
    )


def unwritten(trace: Trace, site: Site) -> Float[Tensor, "batch pos d_model"]:
    """A point of the stream as the nodes before it left it."""
    layer = site.depth
    if site.kind == "mid":
        return trace.cells[layer].resid + trace.write(Site("attn", layer))
    if layer:
        return trace.cells[layer - 1].mid + trace.write(Site("mlp", layer - 1))
    return trace.write(Site("input"))


def named(parts: Iterable[Part]) -> Iterator[tuple[str, Float[Tensor, "rows"]]]:
    """The parts by their addresses."""
    return ((str(site), values) for site, values in parts)


def before_norm(
    toward: Float[Tensor, "*#rows d_model"],
    weight: Float[Tensor, "d_model"],
    sigma: Float[Tensor, "*#rows"],
) -> Float[Tensor, "*_rows d_model"]:
    """What a unit of each direction before a LayerNorm adds, where `toward` is what one behind it
    does and its scale stays sigma. float64."""
    scaled = toward * weight.double()
    return (scaled - scaled.mean(-1, keepdim=True)) / sigma.double()[..., None]


def granted(trace: Trace, port: Site) -> Float[Tensor, "batch pos d_model"]:
    """What edits add to the stream as this port alone sees it. float64."""
    return trace.stream(port).double() - replace(trace, ports={}).stream(port).double()
