"""A full patched pass of the engine, every row of every layer, for rerun to be compared with bit
for bit.

Shares with rerun how patches are resolved (minigpt.recompute.plan; the NumPy reference checks
that), and nothing of which rows are computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt import GPT2, Site, Trace, ops
from minigpt.model import grouped
from minigpt.patch import Patch
from minigpt.recompute.plan import Plan, plan
from minigpt.recompute.record import Record


def final_stream(model: GPT2, trace: Trace, patch: Patch) -> Tensor:
    """What the final LayerNorm reads [batch, pos, d_model], and what the output port sees."""
    return _Dense(model, trace, plan(trace, [patch])).run()


class _Dense:
    def __init__(self, model: GPT2, trace: Trace, plan: Plan) -> None:
        self.model, self.trace, self.plan, self.config = model, trace, plan, trace.config
        self.wrote: dict[Site, Tensor] = {}

    def run(self) -> Tensor:
        x = self.trace.cells[0].resid.flatten(0, 1).clone()
        for name in ("emb", "pos", "input"):
            self.wrote[Site(name)] = self.trace.write(Site(name)).flatten(0, 1)
        x = self._add("emb", 0, x)
        for layer in range(self.config.n_layer):
            x = self._layer(layer, self._set("resid", layer, x))
        x = self._set("resid", self.config.n_layer, x)
        rows, seen = self._port(Site("out"), None, x)
        x = x.clone()
        x[rows] = seen
        return x.view_as(self.trace.cells[0].resid)

    def _layer(self, layer: int, x: Tensor) -> Tensor:
        b, eps = self.model.params.blocks[layer], self.config.eps
        shape = self.trace.cells[0].resid.shape[:2]
        qkv = ops.settled(ops.layer_norm(x, b.ln1_w, b.ln1_b, eps), b.w_qkv, b.b_qkv)
        for kind in "qkv":
            for head in range(self.config.n_head):
                rows, seen = self._port(Site(kind, layer, head), head, x)
                if len(rows):
                    first = "qkv".index(kind) * self.config.d_model + head * self.config.d_head
                    own = slice(first, first + self.config.d_head)
                    new = ops.settled(
                        ops.layer_norm(seen, b.ln1_w, b.ln1_b, eps), b.w_qkv[:, own], b.b_qkv[own]
                    )
                    qkv[rows, own] = new
        z = self._attention(layer, qkv.view(*shape, -1)).flatten(0, 1)
        z = self._put("z", layer, z)
        write = ops.settled(z, b.w_o, b.b_o)
        for head in range(self.config.n_head):
            own = self.config.head_columns(head)
            self.wrote[Site("attn", layer, head)] = ops.settled(z[:, own], b.w_o[own])
        self.wrote[Site("attn", layer)], self.wrote[Site("attn.b", layer)] = (
            write,
            b.b_o.expand_as(write),
        )
        mid = self._set("mid", layer, self._add("attn", layer, write + x))
        rows, seen = self._port(Site("in", layer), None, mid)
        read = mid.clone()
        read[rows] = seen
        act = ops.gelu(ops.settled(ops.layer_norm(read, b.ln2_w, b.ln2_b, eps), b.w_in, b.b_in))
        act = self._put("act", layer, act)
        write = ops.settled(act, b.w_out, b.b_out)
        for neuron in {t.sender.part for t in self._reads() if t.sender.kind == "mlp"} | {
            t.site.part for t in self.plan.at("mlp", layer)
        }:
            if neuron is not None:
                self.wrote[Site("mlp", layer, neuron)] = (
                    act[:, neuron : neuron + 1] * b.w_out[neuron]
                )
        self.wrote[Site("mlp", layer)], self.wrote[Site("mlp.b", layer)] = (
            write,
            b.b_out.expand_as(write),
        )
        return self._add("mlp", layer, write + mid)

    def _attention(self, layer: int, qkv: Tensor) -> Tensor:
        q, k, v = (ops.split_heads(part, self.config.n_head) for part in qkv.chunk(3, -1))
        z = torch.zeros_like(q)
        for n, rows in grouped(self.trace.batch.lengths):
            weights = ops.pattern(q[rows, :, :n], k[rows, :, :n])
            prompts = torch.arange(len(q))[rows].tolist()
            for record in self.plan.at("pattern", layer):
                for row, value in zip(
                    record.rows.tolist(), record.values(record.rows), strict=True
                ):
                    prompt, t = divmod(row, self.plan.width)
                    if prompt in prompts:
                        part = slice(None) if record.site.part is None else record.site.part
                        weights[prompts.index(prompt), part, t] = value[..., :n]
            z[rows, :, :n] = torch.matmul(weights, v[rows, :, :n])
        return ops.merge_heads(z)

    def _reads(self) -> list[Record]:
        return [record for records in self.plan.reads.values() for record in records]

    def _put(self, name: str, layer: int, cell: Tensor) -> Tensor:
        computed = cell.clone()
        for record in self.plan.at(name, layer):
            rows, own = record.rows, record.columns
            cell[rows, own] = computed[rows, own] if record.values is None else record.values(rows)
        return cell

    def _add(self, kind: str, layer: int, x: Tensor) -> Tensor:
        added, hit = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
        for record in self.plan.at(kind, layer):
            own = self.wrote[record.site][record.rows]
            value = record.values(record.rows)
            added[record.rows] += value - own
            hit[record.rows] = True
            self._overwrite(record, value)
        return torch.where(hit[:, None], x + added, x)

    def _overwrite(self, record: Record, value: Tensor) -> None:
        """From here on the node and the whole that it is part of wrote this."""
        for site in list(self.wrote):
            if site.contains(record.site):
                self.wrote[site] = self.wrote[site].clone()
                self.wrote[site][record.rows] += value - self.wrote[record.site][record.rows]
        self.wrote[record.site] = self.wrote[record.site].clone()
        self.wrote[record.site][record.rows] = value

    def _set(self, stage: str, layer: int, x: Tensor) -> Tensor:
        x = x.clone()
        for record in self.plan.at(stage, layer):
            x[record.rows] = record.values(record.rows)
        return x

    def _port(self, site: Site, head: int | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at which a port sees something else than the stream, and what."""
        seen, hit = x.clone(), torch.zeros(len(x), dtype=torch.bool)
        added = torch.zeros_like(x)
        for record in self.plan.at("port", site.layer or 0):
            if record.site.kind != site.kind or record.site.part not in (None, head):
                continue
            if record.sender is not None:
                added[record.rows] += (
                    record.values(record.rows) - self.wrote[record.sender][record.rows]
                )
            else:
                seen[record.rows] = record.values(record.rows)
        seen = torch.where((added != 0).any(-1, keepdim=True), x + added, seen)
        hit = (seen != x).any(-1)
        rows = hit.nonzero().flatten()
        return rows, seen[rows]
