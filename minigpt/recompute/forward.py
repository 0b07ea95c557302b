"""Running a model again after edits, computing only what they reach and what is asked for.

Forward, a row (one variant, prompt, position) is dirty once something in it may differ from the run
that is patched; backward, a row is wanted if the answer can depend on it. Each layer computes dirty
and wanted rows only, those of many variants together in one product. A position never reaches those
before it; a held head passes nothing on. Each row is computed by the operations of the full pass at
settled sizes, so that the result is that of a full pass bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt import ops
from minigpt.address import Site
from minigpt.receipt import Receipt
from minigpt.recompute.attention import Part, attend
from minigpt.recompute.edits import Applied, Own
from minigpt.recompute.needed import Asked, Wanted
from minigpt.recompute.plan import Plan, Read, columns, qkv_columns
from minigpt.recompute.rows import Rows, same, union


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
    """One chunk of a plan's variants, calculated. `layers`: what changed in each; `found`: the
    points that were asked for.

    most: the most rows that a product had.
    """

    def __init__(self, plan: Plan, asked: Asked = None) -> None:
        self.plan, self.trace = plan, plan.trace
        self.config, self.params = self.trace.config, self.trace.params
        self.wanted, self.receipt = Wanted(plan, asked), Receipt()
        self.edits = Applied(plan, self.receipt)
        self._reads = _by_sender(plan)
        self.found: dict[Site, Rows] = {}
        self.layers: list[Changed] = []
        self.most = 0
        self._run()

    def _run(self) -> None:
        stream, last = self._embedding(), self.config.n_layer
        for layer in range(last):
            self.layers.append(self._layer(layer, stream))
            stream = self.layers[-1].out
        stream = self.found[Site("resid", last)] = self._point(Site("resid", last), stream)
        self.edits.vectors("out.b", 0, lambda _, ids: self.params.ln_b.expand(len(ids), -1))
        self.found[Site("out")] = self.edits.port(
            Site("out"), stream, self.plan.cell("out", last - 1), self.wanted.stream[last]
        )

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
        own: Own = lambda site, ids: self.plan.clean_write(site)[ids % self.plan.n]  # noqa: E731
        added = self.edits.vectors("emb", 0, own)
        ids = added.ids[self.wanted.stream[0][added.ids]]
        for kind in ("emb", "pos", "input"):
            self._send(kind, 0, ids[:0], own)
        return Rows(ids, self.plan.cell("resid", 0)[ids % self.plan.n] + added.at(ids))

    def _point(self, site: Site, stream: Rows) -> Rows:
        """A point of the stream, after writes to itself; it is kept, if it is wanted."""
        last = site.layer == self.config.n_layer
        base = (
            self.plan.cell("out", self.config.n_layer - 1)
            if last
            else self.plan.cell(site.kind, site.layer or 0)
        )
        stream = self.edits.stream(site, stream, base)
        if site in self.wanted.sites:
            self.found[site] = stream
        return stream

    def _attention(self, layer: int, stream: Rows) -> tuple[Rows, Rows]:
        """The queries, keys and values of dirty rows, and the z of every row that they or the edits
        reach."""
        block, targets = self.params.blocks[layer], self.wanted.attended(layer)
        seen = (
            stream
            if self.wanted.everything
            else stream.keep(self.wanted.reach(stream.ids, targets))
        )
        qkv = Rows(
            seen.ids,
            self.receipt.linear(
                self._norm(seen.x, block.ln1_w, block.ln1_b), block.w_qkv, block.b_qkv
            ),
        )
        parts = self._parts(layer, stream)
        z = attend(self.edits, layer, qkv, parts, targets)
        for part in parts if self.wanted.everything else ():
            qkv = qkv.put(
                self.plan.cell("qkv", layer),
                part.rows.ids,
                part.rows.x,
                qkv_columns(self.config, part.kind, part.head),
            )
        return qkv, self.edits.cells("z", layer, z, self.wanted.mid[layer])

    def _parts(self, layer: int, stream: Rows) -> list[Part]:
        """Queries, keys or values of single heads whose inputs are edited."""
        block, found = self.params.blocks[layer], []
        sites = [
            touch.site for touch in self.plan.touches("port", layer) if touch.site.kind in "qkv"
        ]
        for kind, head in _single(sites, self.config.n_head):
            seen = self.edits.seen(
                Site(kind, layer, head), head, stream, self.plan.cell("resid", layer)
            )
            own = qkv_columns(self.config, kind, head)
            x = self.receipt.linear(
                self._norm(seen.x, block.ln1_w, block.ln1_b), block.w_qkv[:, own], block.b_qkv[own]
            )
            found.append(Part(kind, head, Rows(seen.ids, x)))
        return [part for part in found if len(part.rows.ids)]

    def _mlp(self, layer: int, mid: Rows) -> Rows:
        """Activations of the rows whose input changed, and those that edits write."""
        block, need = self.params.blocks[layer], self.wanted.stream[layer + 1]
        read = self.edits.port(Site("in", layer), mid, self.plan.cell("mid", layer), need)
        read = read.keep(self.wanted.free(layer, read.ids))
        act = ops.gelu(
            self.receipt.linear(
                self._norm(read.x, block.ln2_w, block.ln2_b), block.w_in, block.b_in
            )
        )
        return self.edits.cells("act", layer, Rows(read.ids, act), need)

    def _after(self, node: Site, stream: Rows, cell: Rows) -> Rows:
        """The stream after the attention or the MLP has written: its product, the stream it adds
        to, and free vectors."""
        layer, attn = node.layer or 0, node.kind == "attn"
        need = self.wanted.mid[layer] if attn else self.wanted.stream[layer + 1]
        own: Own = lambda site, ids: self._own(site, ids, cell)  # noqa: E731
        added = self.edits.vectors(node.kind, layer, own)
        self._send(node.kind, layer, cell.ids, own)
        ids = union(stream.ids, cell.ids, added.ids)
        ids = ids[need[ids]]
        x = self._written(node, ids, cell).add_(
            stream.over(self.plan.cell("resid" if attn else "mid", layer), ids)
        )
        return Rows(ids, x.add_(added.at(ids)) if len(added.ids) else x)

    # ---- what nodes write

    def _written(self, node: Site, ids: Tensor, cell: Rows) -> Float[Tensor, "ids d_model"]:
        """What the attention or the MLP writes at these rows: a product where its cell is new, as
        it was elsewhere. To be given up."""
        w, b = self._weights(node)
        if same(ids, cell.ids):
            return self.receipt.linear(cell.x, w, b)
        hit, place = (
            cell.find(ids) if len(cell.ids) else (torch.zeros_like(ids, dtype=torch.bool), ids[:0])
        )
        write = self.plan.clean_write(node).index_select(0, ids % self.plan.n)
        return write.index_copy_(
            0, hit.nonzero().flatten(), self.receipt.linear(cell.x.index_select(0, place), w, b)
        )

    def _own(self, site: Site, ids: Tensor, cell: Rows) -> Float[Tensor, "ids d_model"]:
        """What a node wrote, or a part of it, before edits put free vectors in its place."""
        if not len(cell.ids) and not site.kind.endswith(".b"):
            return self.plan.clean_write(site)[ids % self.plan.n]
        own = self._computed(site, ids, cell)
        if not self.trace.overrides:
            return own
        # The run that is patched may have free vectors of its own: they stand in its streams,
        # wherever the cell is not new.
        new = cell.find(ids)[0] if len(cell.ids) else torch.zeros_like(ids, dtype=torch.bool)
        return torch.where(new[:, None], own, self.plan.clean_write(site)[ids % self.plan.n])

    def _computed(self, site: Site, ids: Tensor, cell: Rows) -> Float[Tensor, "ids d_model"]:
        """What a node writes by its cell."""
        w, b = self._weights(site)
        if site.kind.endswith(".b"):
            return b.expand(len(ids), -1)
        x = cell.over(self.plan.cell("z" if site.kind == "attn" else "act", site.layer or 0), ids)
        if site.part is None:
            return self.receipt.linear(x, w, b)
        part = columns(site, self.trace)
        return x[:, part] * w[site.part] if site.kind == "mlp" else ops.settled(x[:, part], w[part])

    def _send(self, kind: str, layer: int, dirty: Tensor, own: Own) -> None:
        """Settle the edges from nodes of this kind and layer."""
        reads = self._reads.get((kind, layer), [])
        if reads:
            self.edits.send(reads, set(torch.unique(dirty // self.plan.n).tolist()), own)

    # ---- small tools

    def _weights(self, site: Site) -> tuple[Tensor, Tensor]:
        block = self.params.blocks[site.layer or 0]
        return (
            (block.w_o, block.b_o) if site.kind.startswith("attn") else (block.w_out, block.b_out)
        )

    def _norm(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.layer_norm(x, w, b, self.config.eps)


def _by_sender(plan: Plan) -> dict[tuple[str, int], list[Read]]:
    """The edges by the kind (of the whole) and the layer of their senders."""
    found: dict[tuple[str, int], list[Read]] = {}
    reads = (
        touch
        for (stage, _), touches in plan.at.items()
        if stage == "port"
        for touch in touches
        if isinstance(touch, Read)
    )
    for touch in reads:
        found.setdefault((touch.sender.kind.partition(".")[0], touch.sender.layer or 0), []).append(
            touch
        )
    return found


def _single(sites: Iterable[Site], n_head: int) -> list[tuple[str, int]]:
    """Each (port, head) once; a layer-wide port is all of them."""
    pairs = (
        (site.kind, head)
        for site in sites
        for head in (range(n_head) if site.part is None else (site.part,))
    )
    return list(dict.fromkeys(pairs))
