"""A patched pass written out in full: every row of every layer, whatever the patch reaches. `rerun`
must give its bits.

Reads a patch by itself and shares with `rerun` no more than the operations of the pass. Knows the
edits that an audit uses: a head, an MLP, a neuron or a stream point written from a run or zeroed; a
head, an MLP or a bias written as a tensor; an edge and an input read from a run; holds of heads and
MLPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minigpt import GPT2, Patch, Site, Trace, ops
from minigpt.address import Address
from minigpt.model import attention, grouped
from minigpt.patch import Edit, Source


def patched(model: GPT2, trace: Trace, patch: Patch) -> dict[str, Tensor]:
    """Every stream point [batch, width, d_model] of the run after a patch, and, as "out", what the
    output's port sees."""
    return _Pass(model, trace, patch).streams()


class _Pass:
    def __init__(self, model: GPT2, trace: Trace, patch: Patch) -> None:
        self.model, self.trace, self.config = model, trace, model.config
        held = [
            Edit(Address((site,)), hold.source)
            for hold in patch.holds
            for site in hold.sites(model.config)
        ]
        self.edits = [*held, *patch.edits]
        self.z: list[Tensor] = []
        self.act: list[Tensor] = []

    def streams(self) -> dict[str, Tensor]:
        x = self._added(("emb", "pos"), self.trace.cells[0].resid)
        found = {}
        for layer in range(self.config.n_layer):
            found[f"resid{layer}"] = x = self._put(f"resid{layer}", x, partial(_resid, layer))
            found[f"resid{layer}.mid"] = x = self._attention(layer, x)
            x = self._mlp(layer, x)
        last = f"resid{self.config.n_layer}"
        found[last] = x = self._put(last, x, lambda run: run.cells[-1].out)
        return {**found, "out": self._seen("out", x, Site("resid", self.config.n_layer))}

    def _attention(self, layer: int, x: Tensor) -> Tensor:
        """resid{layer}.mid: what heads read, what they write, and the stream after that."""
        b, shape = self.model.params.blocks[layer], x.shape[:2]
        qkv = ops.settled(self._norm1(layer, x), b.w_qkv, b.b_qkv)
        for head, own, third in self._columns():
            seen = self._seen(f"a{layer}.{head}.{'qkv'[third]}", x, Site("resid", layer))
            if seen is not x:
                columns = slice(
                    third * self.config.d_model + own.start, third * self.config.d_model + own.stop
                )
                changed = (seen != x).any(-1)
                qkv[changed] = self._own_columns(
                    qkv[changed], self._norm1(layer, seen[changed]), b.w_qkv, b.b_qkv, columns
                )
        z = attention(qkv, self.config.n_head, grouped(self.trace.batch.lengths), self.model.attend)
        self.z.append(self._cell("a", layer, z, "z", self.config.d_head, self.config.n_head))
        after = ops.settled(self.z[-1], b.w_o, b.b_o).view(*shape, -1).add_(x)
        nodes = (
            f"a{layer}",
            f"a{layer}.b",
            *(f"a{layer}.{head}" for head in range(self.config.n_head)),
        )
        return self._put(
            f"resid{layer}.mid", self._added(nodes, after), lambda run: run.cells[layer].mid
        )

    def _mlp(self, layer: int, mid: Tensor) -> Tensor:
        """The stream after an MLP, which may see something else than the stream."""
        b, seen = (
            self.model.params.blocks[layer],
            self._seen(f"m{layer}.in", mid, Site("mid", layer)),
        )
        act = ops.gelu(
            ops.settled(ops.layer_norm(seen, b.ln2_w, b.ln2_b, self.config.eps), b.w_in, b.b_in)
        )
        self.act.append(self._cell("m", layer, act, "act", 1, self.config.d_mlp))
        return self._added(
            (f"m{layer}", f"m{layer}.b"), ops.settled(self.act[-1], b.w_out, b.b_out).add_(mid)
        )

    # ---- edits

    def _of(
        self, kind: str, names: tuple[str, ...]
    ) -> Iterator[tuple[Edit, Bool[Tensor, "batch width"]]]:
        """The edits of a kind that are of one of these addresses (of an edge: into it), and the
        rows that they are at."""
        for edit in self.edits:
            if edit.kind == kind and str(edit.target.sites[-1]) in names:
                yield edit, self._rows(edit.target.at)

    def _rows(self, at: int | str | None) -> Bool[Tensor, "batch width"]:
        batch, width = self.trace.batch, self.trace.cells[0].resid.shape[1]
        places = torch.arange(width, device=batch.tokens.device)
        return places < batch.lengths[:, None] if at is None else places == batch.index(at)[:, None]

    def _put(self, name: str, x: Tensor, of: Callable[[Trace], Tensor]) -> Tensor:
        """x, or in an edit's rows what a run has there (or zero)."""
        for edit, rows in self._of("write", (name,)):
            if edit.source.value is None:
                given = torch.zeros_like(x) if edit.source.run is None else of(edit.source.run)
                x = torch.where(rows[..., None], given, x)
        return x

    def _cell(self, letter: str, layer: int, x: Tensor, cell: str, each: int, parts: int) -> Tensor:
        """z or activations, after writes of the whole and of its parts."""
        x = self._put(f"{letter}{layer}", x, lambda run: getattr(run.cells[layer], cell)).clone()
        for site in {
            e.target.site
            for e in self.edits
            if e.kind == "write" and e.target.site.kind == {"a": "attn", "m": "mlp"}[letter]
        }:
            if site.layer == layer and site.part is not None and site.part < parts:
                own = slice(site.part * each, (site.part + 1) * each)
                read = partial(_columns, layer, cell, own)
                x[..., own] = self._put(str(site), x[..., own], read)
        return x

    def _added(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        """The stream, with what tensors that are written differ by from the nodes' own writes."""
        for edit, rows in self._of("write", names):
            if edit.source.value is not None:
                x = torch.where(
                    rows[..., None],
                    x + (self._tensor(edit.source, x) - self._wrote(edit.target.site, x)),
                    x,
                )
        return x

    def _seen(self, port: str, x: Tensor, point: Site) -> Tensor:
        """The stream as a port sees it: another run's, or with another write of a sender."""
        for edit, rows in self._of("input", (port,)):
            assert edit.source.run is not None
            x = torch.where(rows[..., None], edit.source.run.stream(point), x)
        for edit, rows in self._of("read", (port,)):
            sender = edit.target.sites[0]
            assert edit.source.run is not None
            x = torch.where(
                rows[..., None], x + (edit.source.run.write(sender) - self._wrote(sender, x)), x
            )
        return x

    def _tensor(self, source: Source, like: Tensor) -> Tensor:
        assert source.value is not None
        value = source.value.to(like)
        missing = like.shape[1] - value.shape[-2] if value.ndim > 1 else 0
        return torch.nn.functional.pad(value, (0, 0, 0, missing)) if missing else value

    def _wrote(self, site: Site, like: Tensor) -> Float[Tensor, "batch width d_model"]:
        """What a node wrote in this pass, before what is written in its place."""
        layer = site.layer or 0
        b = self.model.params.blocks[layer]
        if site.kind == "attn" and site.part is not None:
            own = slice(site.part * self.config.d_head, (site.part + 1) * self.config.d_head)
            return ops.settled(self.z[layer][..., own], b.w_o[own])
        if site.kind in ("attn", "mlp") and site.part is None:
            x, w, bias = (
                (self.z[layer], b.w_o, b.b_o)
                if site.kind == "attn"
                else (self.act[layer], b.w_out, b.b_out)
            )
            return ops.settled(x, w, bias)
        return self.trace.write(site).expand_as(like)

    # ---- arithmetic

    def _columns(self) -> Iterator[tuple[int, slice, int]]:
        """Each head, its columns, and which of queries, keys and values."""
        for head in range(self.config.n_head):
            for third in range(3):
                yield head, slice(head * self.config.d_head, (head + 1) * self.config.d_head), third

    def _norm1(self, layer: int, x: Tensor) -> Tensor:
        b = self.model.params.blocks[layer]
        return ops.layer_norm(x, b.ln1_w, b.ln1_b, self.config.eps)

    def _own_columns(self, qkv: Tensor, x: Tensor, w: Tensor, b: Tensor, columns: slice) -> Tensor:
        """qkv rows of which one head's queries, keys or values are made of other inputs."""
        qkv = qkv.clone()
        qkv[:, columns] = ops.settled(x, w[:, columns], b[columns])
        return qkv


def _resid(layer: int, run: Trace) -> Tensor:
    return run.cells[layer].resid


def _columns(layer: int, cell: str, own: slice, run: Trace) -> Tensor:
    x: Tensor = getattr(run.cells[layer], cell)
    return x[..., own]
