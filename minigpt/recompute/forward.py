"""Running a model again after edits, computing only what they reach and what is asked for.

Forward, a row (one variant, prompt, position) is dirty once something in it may differ from the run
that is patched; backward, a row is needed if the answer can depend on it. Each layer computes dirty
and needed rows only, those of many variants together in one product. A position never reaches those
before it; a held head passes nothing on. Each row is computed by the operations of the full pass at
settled sizes, so that the result is that of a full pass bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt import ops
from minigpt.address import Site
from minigpt.device import sent
from minigpt.receipt import Receipt
from minigpt.recompute.attention import HeadInput, attend
from minigpt.recompute.edits import Edits, Own
from minigpt.recompute.latents import Latents
from minigpt.recompute.needed import Asked, Needed
from minigpt.recompute.plan import Plan
from minigpt.recompute.record import cell_columns
from minigpt.recompute.rows import Rows, same, summed, taken, union
from minigpt.split import Split


@dataclass(frozen=True, eq=False)
class Changed:
    """What changed in one layer: the rows of each of its cells that may differ from the patched
    run's."""

    resid: Rows
    qkv: Rows
    z: Rows
    mid: Rows
    act: Rows
    out: Rows


class Recalculation:
    """One chunk of a plan's variants, calculated. `layers`: what changed in each; `points`: of the
    stream, and as MLPs and the output see it, those that were asked for.

    most: the most rows that a product had. seen: what the port of the MLP at hand sees.
    """

    def __init__(self, plan: Plan, asked: Asked = None) -> None:
        self.plan, self.trace = plan, plan.trace
        self.config, self.params = self.trace.config, self.trace.params
        self.needed, self.receipt = Needed(plan, asked), Receipt()
        self.edits = Edits(plan, self.receipt)
        self.points: dict[Site, Rows] = {}
        self.layers: list[Changed] = []
        self.most = 0
        self.seen = Rows.none(plan.cell("resid", 0))
        self._run()

    def _run(self) -> None:
        stream, last = self._embedding(), self.config.n_layer
        for layer in range(last):
            self.layers.append(self._layer(layer, stream))
            stream = self.layers[-1].out
        stream = self.points[Site("resid", last)] = self._point(Site("resid", last), stream)
        self.edits.vectors("out.b", 0, lambda _, ids: self.params.ln_b.expand(len(ids), -1))
        self.points[Site("out")] = self.edits.port(
            Site("out"), stream, self.plan.cell("out", last - 1), self.needed.stream[last]
        )

    def passes(self, port: Site) -> Rows:
        """The rows of the stream at a port that may differ from the patched run's."""
        if port.kind == "out":
            return self.points[Site("resid", self.config.n_layer)]
        layer = self.layers[port.depth]
        return layer.mid if port.kind == "in" else layer.resid

    def anew(self, site: Site) -> Int[Tensor, "rows"]:
        """The rows where what stands at a node, a stream point or inside a head is computed anew,
        whatever an edit of the patched run wrote there."""
        kind, nothing = site.kind.partition(".")[0], torch.empty(0, dtype=torch.long)
        if site.layer is None:
            return nothing
        if site.layer == self.config.n_layer:
            return self.points[Site("resid", site.layer)].ids
        layer = self.layers[site.layer]
        cells = {"resid": layer.resid, "mid": layer.mid, "mlp": layer.act}
        return cells.get(kind, layer.z).ids

    # ---- the five stages of a layer

    def _layer(self, layer: int, stream: Rows) -> Changed:
        stream = self._point(Site("resid", layer), stream)
        qkv, z = self._attention(layer, stream)
        mid = self._after(Site("attn", layer), stream, z)
        mid = self._point(Site("mid", layer), mid)
        act = self._mlp(layer, mid)
        out = self._after(Site("mlp", layer), mid, act)
        self.most = max(self.most, *(len(rows.ids) for rows in (stream, mid, act, out)))
        return Changed(stream, qkv, z, mid, act, out)

    def _embedding(self) -> Rows:
        """resid0 after writes to emb, pos and input: what each differs by is added."""
        own: Own = self._clean
        added = self.edits.vectors("emb", 0, own)
        ids = added.ids[self.needed.stream[0][added.ids]]
        for kind in ("emb", "pos", "input"):
            self._send(kind, 0, ids[:0], own)
        return Rows(ids, taken(self.plan.cell("resid", 0), ids % self.plan.n) + added.at(ids))

    def _point(self, site: Site, stream: Rows) -> Rows:
        """A point of the stream, after writes to itself and to its latents; it is kept, if it is
        asked for."""
        last = self.config.n_layer
        name, layer = ("out", last - 1) if site.layer == last else (site.kind, site.depth)
        base = self.plan.cell(name, layer)
        stream = self._lit(site, self.edits.stream(site, stream, base), base)
        if site in self.needed.sites:
            self.points[site] = stream
        return stream

    def _lit(self, site: Site, stream: Rows, base: Float[Tensor, "n d_model"]) -> Rows:
        """The same after edits of what a dictionary makes of it."""

        def split(part: Site, ids: Tensor) -> Split:
            x = stream.at(ids)
            return Split(self.params.dictionary(part), x, x)

        latents = Latents(self.plan, stream.ids, split)
        added = self.edits.lit(site, stream, latents)
        self._send(site.kind, site.depth, latents.rows, latents.own)
        ids = union(stream.ids, added.ids)
        return Rows(ids, stream.over(base, ids) + added.at(ids)) if len(added.ids) else stream

    def _attention(self, layer: int, stream: Rows) -> tuple[Rows, Rows]:
        """The queries, keys and values of dirty rows, and the z of every row that they or the edits
        reach."""
        block, targets = self.params.blocks[layer], self.needed.attended(layer)
        if self.needed.everything:
            seen = stream
        else:
            seen = stream.keep(self.needed.reach(stream.ids, targets))
        x = self._norm(seen.x, block.ln1_w, block.ln1_b)
        qkv = Rows(seen.ids, self.receipt.linear(x, block.w_qkv, block.b_qkv))
        inputs = self._head_inputs(layer, stream)
        z = attend(self.edits, layer, qkv, inputs, targets)
        for own in inputs if self.needed.everything else ():
            columns = self.config.qkv_columns(own.kind, own.head)
            qkv = qkv.put(self.plan.cell("qkv", layer), own.rows.ids, own.rows.x, columns)
        return qkv, self.edits.cells("z", layer, z, self.needed.mid[layer])

    def _head_inputs(self, layer: int, stream: Rows) -> list[HeadInput]:
        """Queries, keys or values of single heads whose inputs are edited."""
        block, base = self.params.blocks[layer], self.plan.cell("resid", layer)
        sites = [record.site for record in self.plan.at("port", layer) if record.site.kind in "qkv"]
        inputs = []
        for kind, head in _single(sites, self.config.n_head):
            seen = self.edits.seen(Site(kind, layer, head), head, stream, base)
            own = self.config.qkv_columns(kind, head)
            x = self._norm(seen.x, block.ln1_w, block.ln1_b)
            x = self.receipt.linear(x, block.w_qkv[:, own], block.b_qkv[own])
            inputs.append(HeadInput(kind, head, Rows(seen.ids, x)))
        return [own for own in inputs if len(own.rows.ids)]

    def _mlp(self, layer: int, mid: Rows) -> Rows:
        """Activations of the rows whose input changed, and those that edits write."""
        block, need, port = (
            self.params.blocks[layer],
            self.needed.stream[layer + 1],
            Site("in", layer),
        )
        read = self.edits.port(port, mid, self.plan.cell("mid", layer), self.needed.mid[layer])
        self.seen = read
        if port in self.needed.sites:
            self.points[port] = read
        read = read.keep(need[read.ids] & self.needed.computed(layer, read.ids))
        x = self._norm(read.x, block.ln2_w, block.ln2_b)
        act = ops.gelu(self.receipt.linear(x, block.w_in, block.b_in))
        return self.edits.cells("act", layer, Rows(read.ids, act), need)

    def _after(self, node: Site, stream: Rows, cell: Rows) -> Rows:
        """The stream after the attention or the MLP has written: its product, the stream it adds
        to, and free vectors."""
        layer, attn = node.depth, node.kind == "attn"
        need = self.needed.mid[layer] if attn else self.needed.stream[layer + 1]
        nodes: Own = lambda site, ids: self._own(site, ids, cell)  # noqa: E731
        added = self.edits.vectors(node.kind, layer, nodes)
        latents = self._latents(node, cell, added, nodes)
        own: Own = lambda site, ids: (latents.own if site.is_latent else nodes)(site, ids)  # noqa: E731
        split = self.edits.vectors(f"{node.kind}.l", layer, own, latents.unit)
        added = summed([added, split])
        self._send(node.kind, layer, latents.rows, own)
        ids = union(stream.ids, cell.ids, added.ids)
        ids = ids[need[ids]]
        x = self._written(node, ids, cell).add_(
            stream.over(self.plan.cell("resid" if attn else "mid", layer), ids)
        )
        return Rows(ids, x.add_(added.at(ids)) if len(added.ids) else x)

    # ---- what nodes write

    def _latents(self, node: Site, cell: Rows, added: Rows, own: Own) -> Latents:
        """What dictionaries make of what the attention or the MLP writes, these free vectors in
        it."""
        rows = cell.ids
        if self.params.dictionaries:
            rows = union(rows, added.ids, *[self.seen.ids] * (node.kind == "mlp"))
        return Latents(self.plan, rows, partial(self._split, node, cell, added, own))

    def _split(
        self, node: Site, cell: Rows, added: Rows, own: Own, part: Site, ids: Tensor
    ) -> Split:
        """The parts of what it writes at these rows."""
        base = self.trace.split(part)
        known, clean = base.dictionary, base.wrote.flatten(0, 1)
        wrote = self._written(node, ids, cell, taken(clean, ids % self.plan.n)) + added.at(ids)
        if known.reads.endswith(".act"):
            act = cell.over(self.plan.cell("act", node.depth), ids)
            bias = self.edits.wrote(Site("mlp.b", node.layer), ids, own)
            return Split(known, act, wrote, base.through, bias)
        if known.reads.endswith(".in"):
            block, read = self.params.blocks[node.depth], base.x.flatten(0, 1)
            x = Rows(self.seen.ids, self._norm(self.seen.x, block.ln2_w, block.ln2_b))
            return Split(known, x.over(read, ids), wrote)
        return Split(known, wrote, wrote)

    def _written(
        self, node: Site, ids: Tensor, cell: Rows, clean: Tensor | None = None
    ) -> Float[Tensor, "ids d_model"]:
        """What the attention or the MLP writes at these rows: a product where its cell is new, as
        it was (or these values, used up) elsewhere. To be used up."""
        w, b = self._weights(node)
        if same(ids, cell.ids):
            return self.receipt.linear(cell.x, w, b)
        write = self._clean(node, ids) if clean is None else clean
        if not len(cell.ids):
            return write
        hit, place = cell.find(ids)
        new = self.receipt.linear(taken(cell.x, place), w, b)
        return write.index_copy_(0, sent(hit.nonzero().flatten(), write), new)

    def _own(self, site: Site, ids: Tensor, cell: Rows) -> Float[Tensor, "ids d_model"]:
        """What a node wrote, or a part of it, before edits put free vectors in its place."""
        if not len(cell.ids) and not site.kind.endswith(".b"):
            return self._clean(site, ids)
        own = self._computed(site, ids, cell)
        if not self.trace.overrides:
            return own
        # The run that is patched may have free vectors of its own: they stand in its streams,
        # wherever the cell is not new.
        new = cell.find(ids)[0] if len(cell.ids) else torch.zeros_like(ids, dtype=torch.bool)
        return torch.where(sent(new, own)[:, None], own, self._clean(site, ids))

    def _clean(self, site: Site, ids: Tensor) -> Float[Tensor, "ids d_model"]:
        """What a node wrote in the run that is patched, at the rows that these are of."""
        return taken(self.plan.clean_write(site), ids % self.plan.n)

    def _computed(self, site: Site, ids: Tensor, cell: Rows) -> Float[Tensor, "ids d_model"]:
        """What a node writes by its cell."""
        w, b = self._weights(site)
        if site.kind.endswith(".b"):
            return b.expand(len(ids), -1)
        if site.kind == "pair":
            return ops.settled(self._taken(site, ids), w[cell_columns(site, self.config)])
        x = cell.over(self.plan.cell("z" if site.kind == "attn" else "act", site.depth), ids)
        if site.part is None:
            return self.receipt.linear(x, w, b)
        own = cell_columns(site, self.config)
        return x[:, own] * w[own] if site.kind == "mlp" else ops.settled(x[:, own], w[own])

    def _taken(self, pair: Site, ids: Tensor) -> Float[Tensor, "ids d_head"]:
        """What a head takes from one source, before W_O."""
        clean = self.trace.taken(pair, self.trace.keys(pair)).flatten(0, 1)
        x = taken(clean, ids % self.plan.n)
        for rows in self.edits.pairs.get(pair, ()):
            x = rows.into(x, ids)
        return x

    def _send(self, kind: str, layer: int, dirty: Tensor, own: Own) -> None:
        """Settle the edges from nodes of this kind and layer."""
        if reads := self.plan.reads.get((kind, layer)):
            self.edits.send(reads, set(torch.unique(dirty // self.plan.n).tolist()), own)

    # ---- small tools

    def _weights(self, site: Site) -> tuple[Tensor, Tensor]:
        block = self.params.blocks[site.depth]
        return (block.w_out, block.b_out) if site.kind.startswith("mlp") else (block.w_o, block.b_o)

    def _norm(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.layer_norm(x, w, b, self.config.eps)


def _single(sites: Iterable[Site], n_head: int) -> list[tuple[str, int]]:
    """Each (port, head) once; a layer-wide port is all of them."""
    pairs = (
        (site.kind, head)
        for site in sites
        for head in (range(n_head) if site.part is None else (site.part,))
    )
    return list(dict.fromkeys(pairs))
