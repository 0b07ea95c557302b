"""Running a model again after edits, computing only what they reach and what is asked for.

Forward, a row (one variant, prompt, position) is dirty once something in it may differ from the run that is patched; backward,
a row is wanted if the answer can depend on it. Each layer computes dirty and wanted rows only, those of many variants together
in one product. A position never reaches those before it; a held head passes nothing on. Each row is computed by the operations
of the full pass at settled sizes, so that the result is that of a full pass bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt import ops
from minigpt.address import Site
from minigpt.attend import attend
from minigpt.plan import Plan, Read, Touch, columns
from minigpt.rows import Receipt, Rows, summed, union


@dataclass(frozen=True, eq=False)
class Changed:
    """What changed in one layer: the rows of each of its cells that may differ from the patched run's."""

    resid: Rows
    qkv: Rows
    z: Rows
    mid: Rows
    act: Rows
    out: Rows


@dataclass(eq=False)
class Recalculation:
    """One chunk of a plan's variants. wanted: stream points and the rows (of one run) that are asked for there; None: everything."""

    plan: Plan
    wanted: Sequence[tuple[Site, Int[Tensor, "rows"]]] | None = None
    receipt: Receipt = field(default_factory=Receipt)
    ports: dict[Site, list[Rows]] = field(default_factory=dict)
    overrides: dict[Site, list[Rows]] = field(default_factory=dict)
    found: dict[Site, Rows] = field(default_factory=dict)
    most: int = 0

    def __post_init__(self) -> None:
        self.trace, self.n = self.plan.trace, self.plan.n
        self.config, self.params = self.trace.config, self.trace.params
        self.needs = self._needs()
        self._pending: dict[tuple[str, int], list[Read]] = {}
        for (stage, _), touches in self.plan.at.items():
            for touch in touches:
                if stage == "port" and isinstance(touch, Read):
                    self._pending.setdefault((touch.sender.kind.partition(".")[0], touch.sender.layer or 0), []).append(touch)
        self._deltas: dict[int, Tensor] = {}
        self._shared: dict[object, Tensor] = {}

    def run(self) -> list[Changed]:
        """All layers, in order; `found` holds the wanted stream points afterwards."""
        done: list[Changed] = []
        stream = self._embedding()
        for layer in range(self.config.n_layer):
            done.append(self._layer(layer, stream))
            stream = done[-1].out
        last = self.config.n_layer
        stream = self.found[Site("resid", last)] = self._set_stream(Site("resid", last), stream)
        self._additions("out.b", 0, lambda touch: self.params.ln_b.expand(len(touch.rows), -1))
        self.found[Site("out")] = self._port(Site("out"), stream, self._cell("out", last - 1), self.needs[last][0])
        return done

    # ---- the five stages of a layer

    def _layer(self, layer: int, stream: Rows) -> Changed:
        stream = self._set_stream(Site("resid", layer), stream)
        qkv, z = self._attention(layer, stream)
        mid = self._after(layer, "attn", stream, z, self._cell("resid", layer))
        mid = self._set_stream(Site("mid", layer), mid)
        act = self._mlp(layer, mid)
        out = self._after(layer, "mlp", mid, act, self._cell("mid", layer))
        for rows in (stream, mid, act, out):
            self.most = max(self.most, len(rows.ids))
        return Changed(stream, qkv, z, mid, act, out)

    def _embedding(self) -> Rows:
        """resid0 after writes to emb, pos and input: what each differs by is added."""
        added = self._additions("emb", 0, lambda touch: self._clean_write(touch.site)[touch.rows])
        base = self._cell("resid", 0)
        rows = self._keep(added.ids, self.needs[0][0])
        stream = Rows(rows, base[rows % self.n] + added.at(rows))
        for kind in ("emb", "pos", "input"):
            self._settle_reads(kind, 0, Rows.none(base))
        return stream

    def _set_stream(self, site: Site, stream: Rows) -> Rows:
        """Writes to a point of the stream itself; and the point is kept, if it is wanted."""
        stage, layer = site.kind, site.layer or 0
        base = self._cell("out", layer - 1) if layer == self.config.n_layer else self._cell(stage, layer)
        for touch in self.plan.touches(stage, layer):
            ids, values = touch.ids(self.n), touch.values(touch.rows)
            mine = stream.over(base, ids)
            self._count(touch, values, mine)
            differs = (values != mine).any(-1)
            stream = stream.put(base, ids[differs], values[differs])
        if self.wanted is not None and any(site == wanted for wanted, _ in self.wanted):
            self.found[site] = stream
        return stream

    def _attention(self, layer: int, stream: Rows) -> tuple[Rows, Rows]:
        """The queries, keys and values of dirty rows, and the z of every row that they or the edits reach."""
        block, need = self.params.blocks[layer], self.needs[layer][1]
        fixed = self._fixed(layer)
        live = ~fixed.all(1).flatten() if fixed is not None else None
        seen = stream if live is None or self.wanted is None else stream.keep(self._reaches(stream.ids, need & live))
        qkv = Rows(seen.ids, self._linear(self._norm(seen.x, block.ln1_w, block.ln1_b), block.w_qkv, block.b_qkv))
        parts = self._qkv_ports(layer, stream)
        patterns = self.plan.touches("pattern", layer)
        base = self._cell("qkv", layer)
        z = attend(self, layer, qkv, parts, patterns, need if live is None else need & live, base)
        for kind, head, rows in parts:
            first = "qkv".index(kind) * self.config.d_model + head * self.config.d_head
            qkv = qkv.put(base, rows.ids, rows.x, slice(first, first + self.config.d_head))
        return qkv, self._put_all("z", layer, z, need)

    def _after(self, layer: int, kind: str, stream: Rows, cell: Rows, before: Tensor) -> Rows:
        """The stream after the attention or the MLP has written: its product, the stream it adds to, and free vectors."""
        block, need = self.params.blocks[layer], self.needs[layer][1] if kind == "attn" else self.needs[layer + 1][0]
        w, b, name = (block.w_o, block.b_o, "z") if kind == "attn" else (block.w_out, block.b_out, "act")
        added = self._additions(kind, layer, lambda touch: self._own(touch, cell, name, w, b))
        self._settle_reads(kind, layer, cell)
        ids = self._keep(union(stream.ids, cell.ids, added.ids), need)
        fresh = torch.isin(ids, cell.ids, assume_unique=True)
        write = torch.empty(len(ids), w.shape[1], dtype=w.dtype, device=w.device)
        write[fresh] = self._linear(cell.over(self._cell(name, layer), ids[fresh]), w, b)
        if not bool(fresh.all()):
            write[~fresh] = self._clean_write(Site(kind, layer))[ids[~fresh] % self.n]
        return Rows(ids, write.add_(stream.over(before, ids)).add_(added.at(ids)) if len(added.ids) else write.add_(stream.over(before, ids)))

    def _mlp(self, layer: int, mid: Rows) -> Rows:
        """Activations of the rows whose input changed, and those that edits write."""
        block, need = self.params.blocks[layer], self.needs[layer + 1][0]
        fixed = self._fixed_mlp(layer)
        read = self._port(Site("in", layer), mid, self._cell("mid", layer), need)
        if fixed is not None:
            read = read.keep(~fixed[read.ids])
        act = ops.gelu(self._linear(self._norm(read.x, block.ln2_w, block.ln2_b), block.w_in, block.b_in))
        return self._put_all("act", layer, Rows(read.ids, act), need)

    # ---- edits

    def _put_all(self, name: str, layer: int, cell: Rows, need: Tensor) -> Rows:
        """What is held, then what is written, put into the rows of a cell (z or activations)."""
        base = self._cell(name, layer)
        for touch in (*self.plan.holds(name, layer), *self.plan.touches(name, layer)):
            rows, part = touch.rows[need[touch.ids(self.n)]], columns(touch.site, self.trace)
            ids, values, mine = rows + touch.variant * self.n, touch.values(rows), base[rows][:, part]
            if touch.edit is not None:
                self._count(touch, values, mine)
            elif name == "z":
                values = self._unless_patterned(layer, touch, rows, values, cell.over(base, ids)[:, part])
            known = torch.isin(ids, cell.ids)
            keep = known | (values != mine).any(-1)
            cell = cell.put(base, ids[keep], values[keep], part)
        return cell

    def _unless_patterned(self, layer: int, hold: Touch, rows: Tensor, values: Tensor, mine: Tensor) -> Tensor:
        """What is held, but a head's own z where an edit writes its pattern."""
        for touch in self.plan.touches("pattern", layer):
            if touch.variant == hold.variant and (None in (touch.site.part, hold.site.part) or touch.site.part == hold.site.part):
                lifted = torch.isin(rows, touch.rows)
                own = columns(touch.site if hold.site.part is None else Site("attn"), self.trace)
                values = values.clone()
                values[lifted, own] = mine[lifted, own]
        return values

    def _additions(self, kind: str, layer: int, own: Callable[[Touch], Tensor]) -> Rows:
        """Free vectors written by nodes of this kind: what each differs by from what the node itself wrote."""
        found = [Rows.none(self._cell("resid", 0))]
        for touch in self.plan.touches(kind, layer):
            values, mine = touch.values(touch.rows), own(touch)
            self._count(touch, values, mine)
            site = touch.site
            self.overrides.setdefault(site, []).append(Rows(touch.ids(self.n), values))
            differs = (values != mine).any(-1)
            found.append(Rows(touch.ids(self.n)[differs], (values - mine)[differs]))
        return summed(found)

    def _own(self, touch: Touch, cell: Rows, name: str, w: Tensor, b: Tensor) -> Tensor:
        """What a node of this layer wrote in this variant, at the touch's rows."""
        if touch.site.kind.endswith(".b"):
            return b.expand(len(touch.rows), -1)
        layer = touch.site.layer or 0
        if not self._dirty(cell, touch.variant):
            return self._clean_write(touch.site)[touch.rows]
        mine = cell.over(self._cell(name, layer), touch.ids(self.n))
        part = columns(touch.site, self.trace)
        if touch.site.part is None:
            return self._linear(mine, w, b)
        return mine[:, part] * w[touch.site.part] if name == "act" else ops.settled(lambda x: x @ w[part], mine[:, part])

    def _settle_reads(self, kind: str, layer: int, cell: Rows) -> None:
        """For every edge from a node of this kind and layer: what its port sees differs by this from the stream."""
        block = self.params.blocks[layer]
        w, b, name = (block.w_o, block.b_o, "z") if kind == "attn" else (block.w_out, block.b_out, "act")
        for touch in self._pending.get((kind, layer), []):
            sender = Touch(touch.variant, touch.sender, touch.rows, touch.values)
            if not self._dirty(cell, touch.variant) and not self._overridden(sender):
                key = (id(touch.edit.source) if touch.edit else 0, touch.sender, touch.rows.data_ptr(), len(touch.rows))
                if key not in self._shared:
                    self._shared[key] = touch.values(touch.rows) - self._clean_write(touch.sender)[touch.rows]
                self._deltas[id(touch)] = self._shared[key]
            else:
                self._deltas[id(touch)] = touch.values(touch.rows) - self._wrote(sender, cell, name, w, b)

    def _overridden(self, sender: Touch) -> list[tuple[Site, Rows, Tensor]]:
        """Free vectors that edits of this variant put into the sender or its parts, and which of the sender's rows they are at."""
        ids = sender.ids(self.n)
        found = [(site, rows, torch.isin(ids, rows.ids)) for site, many in self.overrides.items()
                 if site == sender.site or sender.site.contains(site) for rows in many]
        return [(site, rows, hit) for site, rows, hit in found if bool(hit.any())]

    def _wrote(self, sender: Touch, cell: Rows, name: str, w: Tensor, b: Tensor) -> Tensor:
        """What a sender wrote in this variant after all edits."""
        ids, mine = sender.ids(self.n), self._own(sender, cell, name, w, b).clone()
        for site, rows, hit in self._overridden(sender):
            part = Touch(sender.variant, site, sender.rows[hit], sender.values)
            mine[hit] = rows.at(ids[hit]) if site == sender.site else mine[hit] + (rows.at(ids[hit]) - self._own(part, cell, name, w, b))
        return mine

    def _port_rows(self, site: Site, head: int | None, stream: Rows, base: Tensor) -> Rows:
        """What a port sees where edits change it, at the rows where that differs from the stream."""
        reads, put = [Rows.none(base)], Rows.none(base)
        for touch in self.plan.touches("port", site.layer or 0):
            if touch.site.kind != site.kind or touch.site.part not in (None, head):
                continue
            if isinstance(touch, Read):
                delta = self._deltas[id(touch)]
                self._count(touch, delta, torch.zeros_like(delta))
                differs = (delta != 0).any(-1)
                reads.append(Rows(touch.ids(self.n)[differs], delta[differs]))
            else:
                values, ids = touch.values(touch.rows), touch.ids(self.n)
                mine = stream.over(base, ids)
                self._count(touch, values, mine)
                differs = (values != mine).any(-1)
                put = put.put(base, ids[differs], values[differs])
        added = summed(reads)
        seen = Rows(added.ids, stream.over(base, added.ids) + added.x)
        return seen.put(base, put.ids, put.x) if len(put.ids) else seen

    def _port(self, site: Site, stream: Rows, base: Tensor, need: Tensor) -> Rows:
        """The whole input of a port that all rows share (an MLP's, the output's): the stream with its edits."""
        seen = self._port_rows(site, None, stream, base)
        if not len(seen.ids):
            return stream.keep(need[stream.ids])
        self.ports.setdefault(site, []).append(seen)
        whole = stream.put(base, seen.ids, seen.x)
        return whole.keep(need[whole.ids])

    def _qkv_ports(self, layer: int, stream: Rows) -> list[tuple[str, int, Rows]]:
        """Queries, keys or values of single heads whose inputs are edited."""
        touches, block = self.plan.touches("port", layer), self.params.blocks[layer]
        base, d, found = self._cell("resid", layer), self.config.d_model, []
        for kind, head in _heads_of((t.site for t in touches if t.site.kind in "qkv"), self.config.n_head):
            seen = self._port_rows(Site(kind, layer, head), head, stream, base)
            if not len(seen.ids):
                continue
            self.ports.setdefault(Site(kind, layer, head), []).append(seen)
            first = "qkv".index(kind) * d + head * self.config.d_head
            own = slice(first, first + self.config.d_head)
            x = self._linear(self._norm(seen.x, block.ln1_w, block.ln1_b), block.w_qkv[:, own], block.b_qkv[own])
            found.append((kind, head, Rows(seen.ids, x)))
        return found

    def _fixed(self, layer: int) -> Bool[Tensor, "variants head rows"] | None:
        """Where a head's z is decided by an edit, so that its attention need not be computed; None where nowhere."""
        touches = [*self.plan.holds("z", layer), *self.plan.touches("z", layer)]
        if not touches:
            return None
        fixed = torch.zeros(self.plan.variants, self.config.n_head, self.n, dtype=torch.bool, device=self.params.wte.device)
        for touch in touches:
            part = slice(None) if touch.site.part is None else slice(touch.site.part, touch.site.part + 1)
            fixed[touch.variant, part, touch.rows] = True
        for touch in self.plan.touches("pattern", layer):
            part = slice(None) if touch.site.part is None else slice(touch.site.part, touch.site.part + 1)
            fixed[touch.variant, part, touch.rows] = False
        return fixed.transpose(0, 1).reshape(1, self.config.n_head, -1)

    def _fixed_mlp(self, layer: int) -> Bool[Tensor, "rows"] | None:
        """Where all of an MLP's activations are decided by an edit."""
        touches = [t for t in (*self.plan.holds("act", layer), *self.plan.touches("act", layer)) if t.site.part is None]
        if not touches:
            return None
        fixed = torch.zeros(self.plan.variants * self.n, dtype=torch.bool, device=self.params.wte.device)
        for touch in touches:
            fixed[touch.ids(self.n)] = True
        return fixed

    # ---- what is wanted

    def _needs(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer, and the end: which rows of its stream, and which of the stream after its attention, are needed."""
        batch, width = self.trace.batch, self.plan.width
        shape = (self.plan.variants, len(batch.tokens), width)
        inside = (torch.arange(width, device=batch.tokens.device) < batch.lengths[:, None]).expand(shape)
        asked: dict[Site, Tensor] = {}
        for site, rows in self.wanted or ():
            mask = torch.zeros(self.n, dtype=torch.bool, device=batch.tokens.device)
            mask[rows] = True
            asked[site] = mask.view(shape[1:]).expand(shape)
        nothing = torch.zeros_like(inside)
        last = Site("resid", self.config.n_layer)
        need = inside if self.wanted is None else asked.get(last, nothing) | asked.get(Site("out"), nothing)
        found = [(need.flatten(), need.flatten())]
        for layer in reversed(range(self.config.n_layer)):
            mid = need | asked.get(Site("mid", layer), nothing)
            need = mid | asked.get(Site("resid", layer), nothing)
            if self.wanted is not None:
                back = mid.flip(-1).cummax(-1).values.flip(-1)
                need = need | (back & ~self._closed(layer)[:, None, None])
            else:
                need = inside
            found.append((need.flatten(), mid.flatten() if self.wanted is not None else inside.flatten()))
        return found[::-1]

    def _closed(self, layer: int) -> Bool[Tensor, "variants"]:
        """Whether attention passes nothing on in this layer: every head is held everywhere."""
        closed = torch.zeros(self.plan.variants, self.config.n_head, dtype=torch.bool, device=self.params.wte.device)
        for touch in self.plan.holds("z", layer):
            closed[touch.variant, slice(None) if touch.site.part is None else touch.site.part] = True
        for touch in self.plan.touches("pattern", layer):
            closed[touch.variant] = False
        return closed.all(1)

    def _reaches(self, ids: Tensor, targets: Tensor) -> Bool[Tensor, "rows"]:
        """Of these rows, those with a target at their own position of the same prompt or after it."""
        back = targets.view(-1, self.plan.width).flip(-1).cummax(-1).values.flip(-1).flatten()
        return back[ids]

    # ---- small tools

    def _cell(self, name: str, layer: int) -> Float[Tensor, "rows width"]:
        cell: Tensor = getattr(self.trace.cells[layer], name)
        return cell.flatten(0, 1)

    def _clean_write(self, site: Site) -> Float[Tensor, "rows d_model"]:
        """What a node wrote in the run that is patched, at every row; computed once."""
        return self.plan.clean_write(site)

    def _keep(self, ids: Tensor, need: Tensor) -> Tensor:
        return ids[need[ids]]

    def _dirty(self, cell: Rows, variant: int) -> bool:
        place = torch.searchsorted(cell.ids, torch.tensor([variant * self.n, (variant + 1) * self.n], device=cell.ids.device))
        return bool(place[0] < place[1])

    def _count(self, touch: Touch, values: Tensor, mine: Tensor) -> Tensor:
        self.receipt.written += values.numel()
        self.receipt.changed += int((values != mine).sum())
        return values

    def _norm(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ops.layer_norm(x, w, b, self.config.eps)

    def _linear(self, x: Float[Tensor, "rows a"], w: Float[Tensor, "a b"], b: Float[Tensor, "b"]) -> Float[Tensor, "rows b"]:
        """x w + b at a settled number of rows, on the bill."""
        if not len(x):
            return x.new_zeros(0, w.shape[1])
        self.receipt.spend(len(x), ops.padded(len(x)), 2 * w.shape[0] * w.shape[1])
        return ops.settled(lambda rows: torch.addmm(b, rows, w), x)


def _heads_of(sites: Iterable[Site], n_head: int) -> list[tuple[str, int]]:
    """Each (port, head) once; a layer-wide port is all of them."""
    pairs = ((site.kind, head) for site in sites for head in (range(n_head) if site.part is None else (site.part,)))
    return list(dict.fromkeys(pairs))
