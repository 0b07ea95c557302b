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
from minigpt.recompute.plan import Plan
from minigpt.recompute.record import Record
from minigpt.recompute.rows import Rows, find, summed, union

# What a node of the layer at hand wrote, by its site and rows (numbers among all variants).
Own = Callable[[Site, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Put:
    """Values for some columns of a cell, at rows some of which differ from the patched run's."""

    ids: Int[Tensor, "ids"]
    values: Float[Tensor, "ids columns"]
    differs: Bool[Tensor, "ids"]
    columns: slice


class Edits:
    """The edits of a plan as a recalculation meets them, stage by stage.

    overrides: vectors that edits put in place of what a node wrote or a stream was, and patterns.
    ports: what single ports saw.
    """

    def __init__(self, plan: Plan, receipt: Receipt) -> None:
        self.plan, self.trace, self.receipt = plan, plan.trace, receipt
        self.overrides: dict[Site, list[Rows]] = {}
        self.ports: dict[Site, list[Rows]] = {}
        self._sent: dict[Record, Rows] = {}
        self._shared: dict[object, tuple[Rows, Receipt]] = {}

    # ---- whole rows of a cell or a stream

    def cells(self, name: str, layer: int, cell: Rows, need: Bool[Tensor, "rows"]) -> Rows:
        """The rows of a cell (z or activations), which is used up, with what is held and then what
        is written put into them."""
        base = self.plan.cell(name, layer)
        puts = [self._put(record, cell, base, need) for record in self.plan.at(name, layer)]
        return _all_put(cell, base, puts) if puts else cell

    def _put(self, record: Record, cell: Rows, base: Tensor, need: Bool[Tensor, "rows"]) -> Put:
        ids, columns = record.ids[need[record.ids]], record.columns
        if record.own:
            ids = ids[torch.isin(ids, cell.ids)] if len(cell.ids) else cell.ids
        old = base[:, columns].index_select(0, ids % self.plan.n)
        computed = record.values is None
        new = cell.over(base, ids)[:, columns].clone() if computed else record.at(ids)
        quiet = computed or record.own
        return Put(ids, new, (new != old).any(-1) if quiet else self.count(new, old), columns)

    def stream(self, site: Site, stream: Rows, base: Float[Tensor, "n d_model"]) -> Rows:
        """Writes to a point of the stream itself."""
        for record in self.plan.at(site.kind, site.depth):
            ids, values = record.ids, record.at(record.ids)
            differs = self.count(values, stream.over(base, ids))
            stream = stream.put(base, ids[differs], values[differs])
            self.overrides.setdefault(site, []).append(Rows(ids, values))
        return stream

    # ---- free vectors

    def vectors(self, kind: str, layer: int, own: Own) -> Rows:
        """Free vectors written by nodes of this kind: what each differs by from what the node
        itself wrote."""
        added = [Rows.none(self.plan.cell("resid", 0))]
        for record in self.plan.at(kind, layer):
            ids = record.ids
            values, mine = record.at(ids), own(record.site, ids)
            differs = self.count(values, mine)
            self.overrides.setdefault(record.site, []).append(Rows(ids, values))
            added.append(Rows(ids[differs], (values - mine)[differs]))
        return summed(added)

    # ---- edges and ports

    def send(self, reads: list[Record], dirty: set[int], own: Own) -> None:
        """For edges whose senders have now written (in these variants otherwise than before): what
        their ports see differs by this."""
        for record in reads:
            assert record.sender is not None
            again = dirty | self._overridden(record.sender)
            clean = [v for v in record.variants if v not in again]
            sent = [self._spread(record, clean)] if clean else []
            if len(clean) < len(record.variants):
                ids = replace(record, variants=[v for v in record.variants if v in again]).ids
                wrote = self._wrote(record.sender, ids, own)
                sent.append(self._differing(ids, record.at(ids) - wrote))
            self._sent[record] = summed(sent)

    def _spread(self, record: Record, variants: list[int]) -> Rows:
        """The same difference in each of these variants, in which nothing else has changed the
        sender."""
        one, bill = self._clean_difference(record)
        self.receipt.written += bill.written * len(variants)
        self.receipt.changed += bill.changed * len(variants)
        first = torch.tensor(variants, device=one.ids.device)[:, None] * self.plan.n
        x = one.x.repeat(len(variants), 1) if len(variants) > 1 else one.x
        return Rows((first + one.ids).flatten(), x)

    def _differing(self, ids: Tensor, delta: Tensor) -> Rows:
        differs = self.count(delta, torch.zeros_like(delta))
        return Rows(ids[differs], delta[differs])

    def _clean_difference(self, record: Record) -> tuple[Rows, Receipt]:
        """What the sender's write differs by in rows of one run, and what of it is new; computed
        once for all edges from it."""
        sender, rows = record.sender, record.rows
        assert sender is not None
        key = (record.source, sender, id(rows))
        if key not in self._shared:
            delta = record.at(rows) - self.plan.clean_write(sender)[rows]
            changed = delta != 0
            differs = changed.any(-1)
            bill = Receipt(written=delta.numel(), changed=int(changed.sum()))
            self._shared[key] = Rows(rows[differs], delta[differs]), bill
        return self._shared[key]

    def _overridden(self, sender: Site) -> set[int]:
        """The variants in which edits put free vectors into the sender or its parts."""
        written = (
            rows.ids
            for site, many in self.overrides.items()
            if site == sender or sender.contains(site)
            for rows in many
        )
        return {variant for ids in written for variant in torch.unique(ids // self.plan.n).tolist()}

    def _wrote(self, sender: Site, ids: Tensor, own: Own) -> Float[Tensor, "ids d_model"]:
        """What a sender wrote in these rows after all edits."""
        mine = own(sender, ids).clone()
        for site, many in self.overrides.items():
            for rows in many if site == sender or sender.contains(site) else ():
                hit = torch.isin(ids, rows.ids)
                if bool(hit.any()):
                    new = rows.at(ids[hit])
                    change = new - own(site, ids[hit])
                    mine[hit] = new if site == sender else mine[hit] + change
        return mine

    def seen(
        self, site: Site, head: int | None, stream: Rows, base: Float[Tensor, "n d_model"]
    ) -> Rows:
        """What a port sees where edits change it, at the rows where that differs from the
        stream."""
        reads, put = [Rows.none(base)], Rows.none(base)
        for record in self.plan.at("port", site.depth):
            if record.site.kind != site.kind or record.site.part not in (None, head):
                continue
            if record.sender is not None:
                reads.append(self._sent[record])
                continue
            ids, values = record.ids, record.at(record.ids)
            differs = self.count(values, stream.over(base, ids))
            put = put.put(base, ids[differs], values[differs])
        added = summed(reads)
        seen = Rows(added.ids, stream.over(base, added.ids) + added.x).put(base, put.ids, put.x)
        if len(seen.ids):
            self.ports.setdefault(site, []).append(seen)
        return seen

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


def _all_put(cell: Rows, base: Tensor, puts: list[Put]) -> Rows:
    """A cell, which is used up, with these put in; rows that nothing changes stay out."""
    ids = union(cell.ids, torch.unique(torch.cat([put.ids[put.differs] for put in puts])))
    x = cell.over(base, ids)
    for put in puts if len(ids) else ():
        hit, place = find(ids, put.ids)
        x[place, put.columns] = put.values if len(place) == len(hit) else put.values[hit]
    return Rows(ids, x) if len(ids) else cell
