"""What edits do to the rows of each stage: cells and streams they write, free vectors they add,
streams that single ports see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.receipt import Receipt
from minigpt.recompute.plan import Plan, Read, Touch, columns
from minigpt.recompute.rows import Rows, find, summed, union

# What a node of the layer at hand wrote, by its site and rows (numbers among all variants).
Own = Callable[[Site, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Put:
    """Values for some columns of a cell, at rows some of which differ from the patched run's."""

    ids: Int[Tensor, "ids"]
    values: Float[Tensor, "ids part"]
    differs: Bool[Tensor, "ids"]
    part: slice


@dataclass(frozen=True, eq=False)
class Delta:
    """What an edge's port sees differs by, at rows of one run; how many numbers that is of, and how
    many differ."""

    rows: Rows
    written: int
    changed: int


class Applied:
    """The edits of a plan as a recalculation meets them, stage by stage.

    overrides: vectors that edits put in place of what a node wrote or a stream was, and patterns.
    ports: what single ports saw.
    """

    def __init__(self, plan: Plan, receipt: Receipt) -> None:
        self.plan, self.trace, self.receipt = plan, plan.trace, receipt
        self.overrides: dict[Site, list[Rows]] = {}
        self.ports: dict[Site, list[Rows]] = {}
        self._sent: dict[int, Rows] = {}
        self._shared: dict[object, Delta] = {}

    # ---- whole rows of a cell or a stream

    def cells(self, name: str, layer: int, cell: Rows, need: Bool[Tensor, "rows"]) -> Rows:
        """What is held, then what is written, put into the rows of a cell (z or activations), which
        is given up."""
        base = self.plan.cell(name, layer)
        puts = [
            self._held(name, layer, touch, cell, need) for touch in self.plan.holds(name, layer)
        ]
        for touch in self.plan.touches(name, layer):
            ids, part = touch.ids[need[touch.ids]], columns(touch.site, self.trace)
            values = touch.at(ids)
            puts.append(Put(ids, values, self.count(values, self._base(base, ids, part)), part))
        return _all_put(cell, base, puts) if puts else cell

    def _held(self, name: str, layer: int, touch: Touch, cell: Rows, need: Tensor) -> Put:
        base, part = self.plan.cell(name, layer), columns(touch.site, self.trace)
        ids = touch.ids[need[touch.ids]]
        if touch.own:
            ids = ids[torch.isin(ids, cell.ids)] if len(cell.ids) else cell.ids
        values = (
            self._unless_patterned(layer, touch, ids, touch.at(ids), cell)
            if name == "z"
            else touch.at(ids)
        )
        old = self._base(base, ids, part)
        return Put(
            ids, values, (values != old).any(-1) if touch.own else self.count(values, old), part
        )

    def _unless_patterned(
        self, layer: int, hold: Touch, ids: Tensor, values: Tensor, cell: Rows
    ) -> Tensor:
        """What is held, but a head's own z where an edit writes its pattern."""
        base, part = self.plan.cell("z", layer), columns(hold.site, self.trace)
        for touch in self.plan.touches("pattern", layer):
            if None in (touch.site.part, hold.site.part) or touch.site.part == hold.site.part:
                lifted = torch.isin(ids, touch.ids)
                own = columns(touch.site if hold.site.part is None else Site("attn"), self.trace)
                values = values.clone()
                values[lifted, own] = cell.over(base, ids[lifted])[:, part][:, own]
        return values

    def stream(self, site: Site, stream: Rows, base: Float[Tensor, "n d_model"]) -> Rows:
        """Writes to a point of the stream itself."""
        for touch in self.plan.touches(site.kind, site.layer or 0):
            ids = touch.ids
            values = touch.at(ids)
            differs = self.count(values, stream.over(base, ids))
            stream = stream.put(base, ids[differs], values[differs])
            self.overrides.setdefault(site, []).append(Rows(ids, values))
        return stream

    # ---- free vectors

    def vectors(self, kind: str, layer: int, own: Own) -> Rows:
        """Free vectors written by nodes of this kind: what each differs by from what the node
        itself wrote."""
        found = [Rows.none(self.plan.cell("resid", 0))]
        for touch in self.plan.touches(kind, layer):
            ids = touch.ids
            values, mine = touch.at(ids), own(touch.site, ids)
            differs = self.count(values, mine)
            self.overrides.setdefault(touch.site, []).append(Rows(ids, values))
            found.append(Rows(ids[differs], (values - mine)[differs]))
        return summed(found)

    # ---- edges and ports

    def send(self, reads: list[Read], dirty: set[int], own: Own) -> None:
        """For edges whose senders have now written (in these variants otherwise than before): what
        their ports see differs by this."""
        for touch in reads:
            again = dirty | self._overridden(touch.sender)
            clean, new = (
                [v for v in touch.variants if (v in again) == wanted] for wanted in (False, True)
            )
            found = [self._spread(self._clean_delta(touch), clean)] if clean else []
            if new:
                ids = replace(touch, variants=new).ids
                found.append(
                    self._differing(ids, touch.at(ids) - self._wrote(touch.sender, ids, own))
                )
            self._sent[id(touch)] = summed(found)

    def _spread(self, one: Delta, variants: list[int]) -> Rows:
        """The same rows in each of these variants."""
        self.receipt.written += one.written * len(variants)
        self.receipt.changed += one.changed * len(variants)
        first = torch.tensor(variants, device=one.rows.ids.device)[:, None] * self.plan.n
        return Rows(
            (first + one.rows.ids).flatten(),
            one.rows.x.repeat(len(variants), 1) if len(variants) > 1 else one.rows.x,
        )

    def _differing(self, ids: Tensor, delta: Tensor) -> Rows:
        differs = self.count(delta, torch.zeros_like(delta))
        return Rows(ids[differs], delta[differs])

    def _clean_delta(self, touch: Read) -> Delta:
        """The same where nothing else has changed the sender; computed once for all edges from
        it."""
        key = (
            touch.edit.source if touch.edit else None,
            touch.sender,
            touch.rows.data_ptr(),
            len(touch.rows),
        )
        if key not in self._shared:
            delta = touch.values(touch.rows) - self.plan.clean_write(touch.sender)[touch.rows]
            changed = delta != 0
            differs = changed.any(-1)
            self._shared[key] = Delta(
                Rows(touch.rows[differs], delta[differs]), delta.numel(), int(changed.sum())
            )
        return self._shared[key]

    def _overridden(self, sender: Site) -> set[int]:
        """The variants in which edits put free vectors into the sender or its parts."""
        found = (
            rows.ids
            for site, many in self.overrides.items()
            if site == sender or sender.contains(site)
            for rows in many
        )
        return {variant for ids in found for variant in torch.unique(ids // self.plan.n).tolist()}

    def _wrote(self, sender: Site, ids: Tensor, own: Own) -> Float[Tensor, "ids d_model"]:
        """What a sender wrote in these rows after all edits."""
        mine = own(sender, ids).clone()
        for site, many in self.overrides.items():
            for rows in many if site == sender or sender.contains(site) else ():
                hit = torch.isin(ids, rows.ids)
                if bool(hit.any()):
                    given = rows.at(ids[hit])
                    mine[hit] = (
                        given if site == sender else mine[hit] + (given - own(site, ids[hit]))
                    )
        return mine

    def seen(
        self, site: Site, head: int | None, stream: Rows, base: Float[Tensor, "n d_model"]
    ) -> Rows:
        """What a port sees where edits change it, at the rows where that differs from the
        stream."""
        reads, put = [Rows.none(base)], Rows.none(base)
        for touch in self.plan.touches("port", site.layer or 0):
            if touch.site.kind != site.kind or touch.site.part not in (None, head):
                continue
            if isinstance(touch, Read):
                reads.append(self._sent[id(touch)])
            else:
                ids = touch.ids
                values = touch.at(ids)
                differs = self.count(values, stream.over(base, ids))
                put = put.put(base, ids[differs], values[differs])
        added = summed(reads)
        found = Rows(added.ids, stream.over(base, added.ids) + added.x)
        found = found.put(base, put.ids, put.x) if len(put.ids) else found
        if len(found.ids):
            self.ports.setdefault(site, []).append(found)
        return found

    def port(
        self, site: Site, stream: Rows, base: Float[Tensor, "n d_model"], need: Bool[Tensor, "rows"]
    ) -> Rows:
        """The whole input of a port that all rows share (an MLP's, the output's): the stream with
        its edits."""
        seen = self.seen(site, None, stream, base)
        whole = stream.put(base, seen.ids, seen.x)
        return whole.keep(need[whole.ids])

    # ---- small tools

    def count(self, values: Tensor, mine: Tensor) -> Bool[Tensor, "ids"]:
        """Enter what an edit writes and what of it is new; where rows differ."""
        differs = values != mine
        self.receipt.written += values.numel()
        self.receipt.changed += int(differs.sum())
        return differs.flatten(1).any(-1)

    def _base(
        self, base: Float[Tensor, "n width"], ids: Tensor, part: slice
    ) -> Float[Tensor, "ids part"]:
        return base[:, part].index_select(0, ids % self.plan.n)


def _all_put(cell: Rows, base: Tensor, puts: list[Put]) -> Rows:
    """A cell, given up, with these put in; rows that nothing changes stay out."""
    ids = union(cell.ids, torch.unique(torch.cat([put.ids[put.differs] for put in puts])))
    x = cell.over(base, ids)
    for put in puts if len(ids) else ():
        hit, place = find(ids, put.ids)
        x[place, put.part] = put.values if len(place) == len(hit) else put.values[hit]
    return Rows(ids, x) if len(ids) else cell
