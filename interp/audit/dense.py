"""A patched pass written out in full: every row of every layer, whatever the patch reaches. `rerun`
must give its bits.

Shares with `rerun` what a patch means (the records of minigpt.recompute.plan, which the NumPy
reference checks) and the operations of the pass; nothing of which rows and columns are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minigpt import GPT2, Patch, Site, Trace, ops
from minigpt.dictionary import Dictionary
from minigpt.model import grouped
from minigpt.recompute.plan import plan
from minigpt.recompute.record import Record
from minigpt.split import Split

Rows = Float[Tensor, "rows _columns"]
NOTHING: Mapping[str, Rows] = MappingProxyType({})


def patched(model: GPT2, trace: Trace, patch: Patch) -> dict[str, Tensor]:
    """Every stream point [batch, width, d_model] of the run after a patch, and, as "out", what the
    output's port sees."""
    shape = trace.cells[0].resid.shape
    return {name: x.view(shape) for name, x in _Pass(model, trace, patch).points()}


class _Pass:
    """One pass, all prompts' rows below each other. wrote: what each node has written so far; took:
    what heads of the layer at hand took from single sources, where edits act."""

    def __init__(self, model: GPT2, trace: Trace, patch: Patch) -> None:
        self.model, self.trace, self.config = model, trace, model.config
        self.plan = plan(trace, [patch])
        self.shape = trace.cells[0].resid.shape[:2]
        self.wrote: dict[Site, Rows] = {}
        self.took: dict[Site, Rows] = {}

    def points(self) -> Iterator[tuple[str, Rows]]:
        """The stream points in order, and what the output's port sees."""
        for name in ("emb", "pos", "input"):
            self.wrote[Site(name)] = self.trace.write(Site(name)).flatten(0, 1)
        x = self._added("emb", 0, self.trace.cells[0].resid.flatten(0, 1))
        for layer in range(self.config.n_layer):
            x = self._set("resid", layer, x)
            yield f"resid{layer}", x
            x = self._set("mid", layer, self._attn(layer, x))
            yield f"resid{layer}.mid", x
            x = self._mlp(layer, x)
        x = self._set("resid", self.config.n_layer, x)
        yield f"resid{self.config.n_layer}", x
        yield "out", self._seen(Site("out"), x)[0]

    def _attn(self, layer: int, x: Rows) -> Rows:
        b, c = self.model.params.blocks[layer], self.config
        self.took = {}
        z = self._put("z", layer, self._z(layer, self._qkv(layer, x)))
        heads = {n: (z[:, own], b.w_o[own]) for n, own in enumerate(map(c.head_columns, self._h))}
        for pair, took in self.took.items():
            self.wrote[pair] = ops.settled(took, heads[pair.part or 0][1])
        self.wrote |= {Site("attn", layer, n): ops.settled(*pair) for n, pair in heads.items()}
        write = ops.settled(z, b.w_o, b.b_o)
        self.wrote |= {Site("attn", layer): write, Site("attn.b", layer): b.b_o.expand_as(write)}
        return self._added("attn", layer, write + x, {"": write})

    @property
    def _h(self) -> range:
        return range(self.config.n_head)

    def _qkv(self, layer: int, x: Rows) -> Rows:
        """Queries, keys and values: of each head's ports that see something else than the stream,
        its own columns again."""
        b, eps = self.model.params.blocks[layer], self.config.eps
        norm = partial(ops.layer_norm, w=b.ln1_w, b=b.ln1_b, eps=eps)
        qkv = ops.settled(norm(x), b.w_qkv, b.b_qkv)
        for site in (Site(kind, layer, head) for kind in "qkv" for head in self._h):
            own, (seen, rows) = self.config.qkv_columns(site.kind, site.part), self._seen(site, x)
            if rows.any():
                qkv[rows, own] = ops.settled(norm(seen[rows]), b.w_qkv[:, own], b.b_qkv[own])
        return qkv

    def _z(self, layer: int, qkv: Rows) -> Rows:
        """Every head's weighted values, prompts of one length together."""
        thirds = qkv.view(*self.shape, -1).chunk(3, -1)
        q, k, v = (ops.split_heads(third, self.config.n_head) for third in thirds)
        z = torch.zeros_like(q)
        for n, prompts in grouped(self.trace.batch.lengths):
            weights = ops.pattern(q[prompts, :, :n], k[prompts, :, :n])
            self._patterns(layer, weights, torch.arange(len(q))[prompts].tolist())
            values = v[prompts, :, :n]
            z[prompts, :, :n] = torch.matmul(weights, values)
            self._pairs(layer, z, weights, values, torch.arange(len(q))[prompts].tolist())
        return ops.merge_heads(z).flatten(0, 1)

    def _patterns(self, layer: int, weights: Tensor, prompts: list[int]) -> None:
        for record in self.plan.at("pattern", layer):
            part = slice(None) if record.site.part is None else record.site.part
            for row, value in zip(record.rows.tolist(), record.given(record.rows), strict=True):
                prompt, at = divmod(row, self.plan.width)
                if prompt in prompts:
                    here, keys = weights[prompts.index(prompt), part, at], weights.shape[-1]
                    here[:] = record.laid(value[..., :keys], here)

    def _pairs(
        self, layer: int, z: Tensor, weights: Tensor, values: Tensor, prompts: list[int]
    ) -> None:
        """What heads take from single sources, each put in its sum."""
        for record in self.plan.at("pair", layer):
            part, key = record.site.part or 0, record.site.source
            took = self.took.setdefault(record.site, z.new_zeros(self.plan.n, z.shape[-1]))
            for row in record.rows.tolist():
                prompt, at = divmod(row, self.plan.width)
                if prompt in prompts:
                    here = prompts.index(prompt), part
                    own = weights[*here, at, key] * values[*here, key]
                    given = None if record.values is None else record.given(torch.tensor([row]))[0]
                    new = own if given is None else record.laid(given, own)
                    z[prompt, part, at] += new - own
                    took[row] = new

    def _mlp(self, layer: int, mid: Rows) -> Rows:
        b, (seen, _) = self.model.params.blocks[layer], self._seen(Site("in", layer), mid)
        read = ops.layer_norm(seen, b.ln2_w, b.ln2_b, self.config.eps)
        act = self._put("act", layer, ops.gelu(ops.settled(read, b.w_in, b.b_in)))
        write = ops.settled(act, b.w_out, b.b_out)
        for n in self._neurons(layer):
            self.wrote[Site("mlp", layer, n)] = act[:, n : n + 1] * b.w_out[n]
        self.wrote |= {Site("mlp", layer): write, Site("mlp.b", layer): b.b_out.expand_as(write)}
        return self._added("mlp", layer, write + mid, {"": write, ".act": act, ".in": read})

    def _neurons(self, layer: int) -> set[int]:
        """The neurons whose own writes some edit needs."""
        senders = (record.sender for some in self.plan.reads.values() for record in some)
        written = (record.site for record in self.plan.at("mlp", layer))
        return {
            s.part for s in (*senders, *written) if s and s.kind == "mlp" and s.part is not None
        }

    # ---- edits

    def _put(self, cell: str, layer: int, x: Rows) -> Rows:
        """z or activations, after writes of the whole and of its parts; a hold that gives way to an
        edit leaves what was computed."""
        put = x.clone()
        for record in self.plan.at(cell, layer):
            rows, own = record.rows, record.columns
            now = x[rows, own]
            put[rows, own] = now if record.values is None else self._values(record, now)
        return put

    def _added(self, kind: str, layer: int, x: Rows, reads: Mapping[str, Rows] = NOTHING) -> Rows:
        """The stream, with what vectors that are written differ by from the nodes' own writes; then
        the same of latents, by what a dictionary can read."""
        added, hit = self._changes(kind, layer, x)
        more, too = self._lit(kind, layer, reads, added)
        return torch.where((hit | too)[:, None], x + (added + more), x)

    def _lit(
        self, kind: str, layer: int, reads: Mapping[str, Rows], added: Rows
    ) -> tuple[Rows, Bool[Tensor, "rows"]]:
        """What edits of latents add up to, by what a dictionary can read, these vectors in it."""
        if known := self.model.params.dictionaries.get(str(Site(kind, layer))):
            split = self._split(known, layer, reads, added)
            return self._changes(f"{kind}.l", layer, added, split)
        return torch.zeros_like(added), torch.zeros_like(added[:, 0], dtype=torch.bool)

    def _changes(
        self, kind: str, layer: int, x: Rows, split: Split | None = None
    ) -> tuple[Rows, Bool[Tensor, "rows"]]:
        """What the vectors of a stage add up to, and the rows that they are of."""
        added, hit = torch.zeros_like(x), x.new_zeros(len(x), dtype=torch.bool)
        for record in self.plan.at(kind, layer):
            rows, mine = record.rows, self.wrote[record.site][record.rows]
            given = record.given(rows)
            if split and record.activates:
                given = given * split.unit(record.site).expand_as(x)[rows]
            written = record.laid(given, mine)
            change = written - mine
            added[rows] += change
            hit[rows] = True
            self._overwrite(record, written, change)
        return added, hit

    def _split(
        self, known: Dictionary, layer: int, reads: Mapping[str, Rows], added: Rows
    ) -> Split:
        """The parts by a dictionary, of which those are kept that some edit needs."""
        wrote, within = reads[""] + added, known.reads.removeprefix(known.explains)
        split = Split(known, reads[within] if within else wrote, wrote)
        if within == ".act":
            w_out, bias = self.model.params.blocks[layer].w_out, self.wrote[Site("mlp.b", layer)]
            split = replace(split, through=w_out, beside=bias)
        senders = (record.sender for some in self.plan.reads.values() for record in some)
        written = (record.site for stage in self.plan.stages.values() for record in stage)
        for site in {s for s in (*senders, *written) if s and s.is_latent}:
            if str(site.whole) == known.explains:
                self.wrote[site] = split.write(site).expand_as(wrote)
        return split

    def _overwrite(self, record: Record, written: Rows, change: Rows) -> None:
        """From here on the node wrote this, and so did the whole that it is part of."""
        wholes = [site for site in self.wrote if site.contains(record.site)]
        for site in (*wholes, record.site):
            self.wrote[site] = self.wrote[site].clone()
        for site in wholes:
            self.wrote[site][record.rows] += change
        self.wrote[record.site][record.rows] = written

    def _set(self, stage: str, layer: int, x: Rows) -> Rows:
        """The stream, in rows where it is written, and where its latents are."""
        set_, records = x.clone(), self.plan.at(stage, layer)
        for record in records:
            set_[record.rows] = self._values(record, x[record.rows])
        added, hit = self._lit(stage, layer, {"": set_}, torch.zeros_like(x))
        return torch.where(hit[:, None], set_ + added, set_)

    def _seen(self, port: Site, x: Rows) -> tuple[Rows, Bool[Tensor, "rows"]]:
        """The stream as a port sees it: another run's, or with another write of a sender; and the
        rows of these edits, even where a difference is lost in the sum's last bit."""
        put, added = x.clone(), torch.zeros_like(x)
        for record in self.plan.at("port", port.depth):
            if record.site.kind != port.kind or record.site.part not in (None, port.part):
                continue
            rows = record.rows
            if record.sender is None:
                put[rows] = self._values(record, x[rows])
            else:
                wrote = self.wrote[record.sender][rows]
                added[rows] += self._values(record, wrote) - wrote
        sent = (added != 0).any(-1)
        return torch.where(sent[:, None], x + added, put), sent | (put != x).any(-1)

    def _values(self, record: Record, computed: Tensor) -> Tensor:
        return record.laid(record.given(record.rows), computed)
