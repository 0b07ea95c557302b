"""What has to be computed: backward from what is asked for, which rows of each layer the answer can
depend on; and what edits decide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.recompute.plan import Plan, Touch

# Stream points, and the rows (of one run) that are asked for there; None: everything.
Asked = Sequence[tuple[Site, Int[Tensor, "rows"]]] | None


class Wanted:
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
        inside = (torch.arange(width, device=batch.tokens.device) < batch.lengths[:, None]).expand(
            shape
        )
        here = {site: self._rows(rows).view(shape[1:]).expand(shape) for site, rows in asked or ()}
        nothing, last = torch.zeros_like(inside), Site("resid", self.config.n_layer)
        need = inside if asked is None else here.get(last, nothing) | here.get(Site("out"), nothing)
        stream, mids = [need], []
        for layer in reversed(range(self.config.n_layer)):
            mid = need | here.get(Site("mid", layer), nothing)
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
        mask = torch.zeros(self.plan.n, dtype=torch.bool, device=rows.device)
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
        touches = [*self.plan.holds("z", layer), *self.plan.touches("z", layer)]
        if not touches:
            return self.mid[layer]
        fixed = self._heads(self.plan.n)
        for touch in touches:
            fixed[(*_place(touch), touch.rows)] = True
        for touch in self.plan.touches("pattern", layer):
            fixed[(*_place(touch), touch.rows)] = False
        return self.mid[layer] & ~fixed.all(1).flatten()

    def free(self, layer: int, ids: Int[Tensor, "some"]) -> Bool[Tensor, "some"]:
        """Of these rows, those where edits do not decide all of an MLP's activations."""
        touches = [
            t
            for t in (*self.plan.holds("act", layer), *self.plan.touches("act", layer))
            if t.site.part is None
        ]
        fixed = torch.zeros(
            self.plan.variants * self.plan.n if touches else 0, dtype=torch.bool, device=ids.device
        )
        for touch in touches:
            fixed[touch.ids] = True
        return ~fixed[ids] if touches else torch.ones_like(ids, dtype=torch.bool)

    def _closed(self, layer: int) -> Bool[Tensor, "variants"]:
        """Whether attention passes nothing on in this layer: every head is held everywhere."""
        closed = self._heads()
        rows = int(self.plan.trace.batch.lengths.sum())
        for touch in self.plan.holds("z", layer):
            closed[_place(touch)] |= len(touch.rows) == rows
        for touch in self.plan.touches("pattern", layer):
            closed[touch.variants] = False
        return closed.all(1)

    def _heads(self, *more: int) -> Bool[Tensor, "variants head *more"]:
        return torch.zeros(
            self.plan.variants,
            self.config.n_head,
            *more,
            dtype=torch.bool,
            device=self.plan.trace.params.wte.device,
        )


def _place(touch: Touch) -> tuple[Int[Tensor, "variants 1"], slice]:
    """Where in [variants, head, ...] a touch of a head or of all heads stands."""
    part = touch.site.part
    return torch.tensor(touch.variants, device=touch.rows.device)[:, None], slice(
        None
    ) if part is None else slice(part, part + 1)


def _back(mask: Bool[Tensor, "*some pos"]) -> Bool[Tensor, "*some pos"]:
    """Each marked row and those before it in the same prompt."""
    return mask.flip(-1).cummax(-1).values.flip(-1)
