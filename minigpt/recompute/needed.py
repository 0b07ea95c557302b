"""What has to be computed: backward from what is asked for, which rows of each layer the answer can
depend on; and what edits decide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.recompute.plan import Plan
from minigpt.recompute.record import Record

# Stream points, and the rows (of one run) that are asked for there; None: everything.
Asked = Sequence[tuple[Site, Int[Tensor, "rows"]]] | None


class Needed:
    """stream[layer] and mid[layer]: masks over all rows, of the stream that a layer reads and of
    that after its attention."""

    def __init__(self, plan: Plan, asked: Asked) -> None:
        self.plan, self.config, self.everything = plan, plan.trace.config, asked is None
        self.sites = {site for site, _ in asked or ()}
        self.stream: list[Bool[Tensor, "rows"]] = []
        self.mid: list[Bool[Tensor, "rows"]] = []
        self._mark(asked)

    def _mark(self, asked: Asked) -> None:
        batch, width = self.plan.trace.batch, self.plan.width
        shape = (self.plan.variants, len(batch.tokens), width)
        inside = batch.inside.expand(shape)
        here = {site: self._rows(rows).view(shape[1:]).expand(shape) for site, rows in asked or ()}
        nothing, last = torch.zeros_like(inside), Site("resid", self.config.n_layer)
        need = inside if asked is None else here.get(last, nothing) | here.get(Site("out"), nothing)
        stream, mids = [need], []
        for layer in reversed(range(self.config.n_layer)):
            mid = (
                need | here.get(Site("mid", layer), nothing) | here.get(Site("in", layer), nothing)
            )
            need = (
                mid
                | here.get(Site("resid", layer), nothing)
                | (_back(mid) & ~self._closed(layer)[:, None, None])
            )
            stream.append(inside if asked is None else need)
            mids.append(inside if asked is None else mid)
        self.stream, self.mid = (
            [mask.flatten() for mask in masks[::-1]] for masks in (stream, mids)
        )

    def _rows(self, rows: Int[Tensor, "rows"]) -> Bool[Tensor, "n"]:
        mask = torch.zeros(self.plan.n, dtype=torch.bool)
        mask[rows] = True
        return mask

    def reach(
        self, ids: Int[Tensor, "some"], targets: Bool[Tensor, "rows"]
    ) -> Bool[Tensor, "some"]:
        """Of these rows, those with a target at their own position of the same prompt or after
        it."""
        return _back(targets.view(-1, self.plan.width)).flatten()[ids]

    def attended(self, layer: int) -> Bool[Tensor, "rows"]:
        """The rows whose z is needed, less those where edits decide every head's."""
        records = self.plan.at("z", layer)
        if not records:
            return self.mid[layer]
        decided = self._heads(self.plan.n)
        for record in records:
            decided[(*_place(record), record.rows)] = record.decides
        return self.mid[layer] & ~decided.all(1).flatten()

    def computed(self, layer: int, ids: Int[Tensor, "some"]) -> Bool[Tensor, "some"]:
        """Of these rows, those where edits do not decide all of an MLP's activations."""
        records = [
            record for record in self.plan.at("act", layer) if record.whole and record.decides
        ]
        if not records:
            return torch.ones_like(ids, dtype=torch.bool)
        decided = torch.zeros(self.plan.variants * self.plan.n, dtype=torch.bool)
        for record in records:
            decided[record.ids] = True
        return ~decided[ids]

    def _closed(self, layer: int) -> Bool[Tensor, "variants"]:
        """Whether attention passes nothing on in this layer: every head is decided everywhere."""
        closed, rows = self._heads(), int(self.plan.trace.batch.lengths.sum())
        for record in self.plan.at("z", layer):
            if not record.decides:
                closed[_place(record)] = False
            elif len(record.rows) == rows:
                closed[_place(record)] = True
        return closed.all(1)

    def _heads(self, *more: int) -> Bool[Tensor, "variants head *more"]:
        return torch.zeros(self.plan.variants, self.config.n_head, *more, dtype=torch.bool)


def _place(record: Record) -> tuple[Int[Tensor, "variants 1"], slice]:
    """Where in [variants, head, ...] a record of a head or of all heads stands."""
    part = record.site.part
    heads = slice(None) if part is None else slice(part, part + 1)
    return torch.tensor(record.variants)[:, None], heads


def _back(mask: Bool[Tensor, "*some pos"]) -> Bool[Tensor, "*some pos"]:
    """Each marked row and those before it in the same prompt."""
    return mask.flip(-1).cummax(-1).values.flip(-1)
