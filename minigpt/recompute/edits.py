"""What edits do to the rows of each stage: cells and streams they write, free vectors they add,
streams that single ports see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.device import fetched, sent
from minigpt.receipt import Receipt
from minigpt.recompute.latents import Latents
from minigpt.recompute.plan import Plan
from minigpt.recompute.record import Record
from minigpt.recompute.rows import Rows, find, hits, summed, taken, union

# What a node of the layer at hand wrote, by its site and rows (numbers among all variants).
Own = Callable[[Site, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Put:
    """Values for some columns of a cell; `new`: they may differ where the cell is the patched
    run's."""

    ids: Int[Tensor, "ids"]
    values: Float[Tensor, "ids columns"]
    columns: slice
    new: bool


class Edits:
    """The edits of a plan as a recalculation meets them, stage by stage.

    overrides: vectors that edits put in place of what a node wrote or a stream was, and patterns.
    ports: what single ports, and dictionaries of stream points, saw. pairs: what heads took from
    single sources, before W_O.
    """

    def __init__(self, plan: Plan, receipt: Receipt) -> None:
        self.plan, self.trace, self.receipt = plan, plan.trace, receipt
        self.overrides: dict[Site, list[Rows]] = {}
        self.ports: dict[Site, list[Rows]] = {}
        self.pairs: dict[Site, list[Rows]] = {}
        self._sent: dict[Record, Rows] = {}
        self._shared: dict[object, tuple[Rows, Receipt]] = {}

    # ---- whole rows of a cell or a stream

    def cells(self, name: str, layer: int, cell: Rows, need: Bool[Tensor, "rows"]) -> Rows:
        """The rows of a cell (z or activations), which is used up, with what is held and then what
        is written put into them."""
        base = self.plan.cell(name, layer)
        puts = [self._put(record, cell, base, need) for record in self.plan.at(name, layer)]
        return self._all_put(cell, base, puts) if puts else cell

    def _put(self, record: Record, cell: Rows, base: Tensor, need: Bool[Tensor, "rows"]) -> Put:
        ids, columns = record.ids[need[record.ids]], record.columns
        if record.own:
            ids = ids[torch.isin(ids, cell.ids)] if len(cell.ids) else cell.ids
        if record.values is None:
            return Put(ids, cell.over(base, ids)[:, columns].clone(), columns, new=False)
        values = record.at(ids, lambda: cell.over(base, ids)[:, columns])
        return Put(ids, values, columns, new=not record.own)

    def _all_put(self, cell: Rows, base: Tensor, puts: Sequence[Put]) -> Rows:
        """A cell, which is used up, with these put in; rows that nothing changes stay out."""
        new, n = [put for put in puts if put.new], self.plan.n
        old = (taken(base[:, put.columns], put.ids % n) for put in new)
        differ = self.count([(put.values, was) for put, was in zip(new, old, strict=True)])
        changed = [put.ids[mask] for put, mask in zip(new, differ, strict=True)]
        ids = union(cell.ids, torch.unique(torch.cat([cell.ids[:0], *changed])))
        x = cell.over(base, ids)
        for put in puts if len(ids) else ():
            hit, place = find(ids, put.ids)
            x[sent(place, x), put.columns] = hits(put.values, hit)
        return Rows(ids, x) if len(ids) else cell

    def stream(self, site: Site, stream: Rows, base: Float[Tensor, "n d_model"]) -> Rows:
        """Writes to a point of the stream itself."""
        records, stood = self.plan.at(site.kind, site.depth), partial(stream.over, base)
        if not records:
            return stream
        written = [_written(record, stood) for record in records]
        self.overrides.setdefault(site, []).extend(written)
        changed = summed(self.changed(written, stood))
        return stream.put(base, changed.ids, changed.x)

    # ---- free vectors

    def vectors(self, kind: str, layer: int, own: Own, unit: Own | None = None) -> Rows:
        """Free vectors written by nodes of this kind: what each differs by from what the node
        itself wrote. unit: what latents write for each unit of their activation."""
        added, pairs = [Rows.none(self.plan.cell("resid", 0))], []
        for record in self.plan.at(kind, layer):
            mine = own(record.site, record.ids)
            given = record.given(record.ids)
            if unit and record.activates:
                given = given * unit(record.site, record.ids)
            written = Rows(record.ids, record.laid(given, mine))
            self.overrides.setdefault(record.site, []).append(written)
            pairs.append((written.x, mine))
            added.append(Rows(record.ids, written.x - mine))
        differ = self.count(pairs)
        return summed([added[0], *map(Rows.keep, added[1:], differ)])

    def lit(self, site: Site, stream: Rows, latents: Latents) -> Rows:
        """The same of latents of a stream point. What the dictionary saw, before them, is kept."""
        stage, saw = f"{site.kind}.l", Site(f"{site.kind}.ls", site.layer)
        if saw in self.trace.ports or self.plan.at(stage, site.depth):
            self.ports.setdefault(saw, []).append(stream)
        return self.vectors(stage, site.depth, latents.own, latents.unit)

    # ---- edges and ports

    def send(self, reads: list[Record], dirty: set[int], own: Own) -> None:
        """For edges whose senders have now written (in these variants otherwise than before): what
        their ports see differs by this."""
        self._compare(reads)
        for record in reads:
            assert record.sender is not None
            again = dirty | self._overridden(record.sender)
            clean = [v for v in record.variants if v not in again]
            sent = [self._spread(record, clean)] if clean else []
            if len(clean) < len(record.variants):
                ids = replace(record, variants=[v for v in record.variants if v in again]).ids
                wrote = self.wrote(record.sender, ids, own)
                sent.append(self._differing(ids, record.laid(record.given(ids), wrote) - wrote))
            self._sent[record] = summed(sent)

    def _spread(self, record: Record, variants: list[int]) -> Rows:
        """The same difference in each of these variants, in which nothing else has changed the
        sender."""
        one, bill = self._shared[_shared(record)]
        self.receipt.written += bill.written * len(variants)
        self.receipt.changed += bill.changed * len(variants)
        first = torch.tensor(variants)[:, None] * self.plan.n
        x = one.x.repeat(len(variants), 1) if len(variants) > 1 else one.x
        return Rows((first + one.ids).flatten(), x)

    def _differing(self, ids: Tensor, delta: Tensor) -> Rows:
        return Rows(ids, delta).keep(*self.count([(delta, torch.zeros_like(delta))]))

    def _compare(self, reads: Sequence[Record]) -> None:
        """What each sender's write differs by in rows of one run, and what of it is new; computed
        once for all edges from it."""
        new = {_shared(record): record for record in reads}
        deltas = []
        for record in new.values():
            assert record.sender is not None
            clean = taken(self.plan.clean_write(record.sender), record.rows)
            deltas.append(record.laid(record.given(record.rows), clean) - clean)
        counts = _fetched([(delta != 0).sum(-1) for delta in deltas])
        for (key, record), delta, changed in zip(new.items(), deltas, counts, strict=True):
            bill = Receipt(written=delta.numel(), changed=int(changed.sum()))
            self._shared[key] = Rows(record.rows, delta).keep(changed > 0), bill

    def _overridden(self, sender: Site) -> set[int]:
        """The variants in which edits put free vectors into the sender or its parts."""
        written = (
            rows.ids
            for site, many in self.overrides.items()
            if site == sender or sender.contains(site)
            for rows in many
        )
        return {variant for ids in written for variant in torch.unique(ids // self.plan.n).tolist()}

    def wrote(self, sender: Site, ids: Tensor, own: Own) -> Float[Tensor, "ids d_model"]:
        """What a sender wrote in these rows after all edits."""
        mine = own(sender, ids).clone()
        for site, many in self.overrides.items():
            for rows in many if site == sender or sender.contains(site) else ():
                hit = torch.isin(ids, rows.ids)
                if bool(hit.any()):
                    where, new = sent(hit.nonzero().flatten(), mine), rows.at(ids[hit])
                    change = new - own(site, ids[hit])
                    mine[where] = new if site == sender else mine[where] + change
        return mine

    def seen(
        self, site: Site, head: int | None, stream: Rows, base: Float[Tensor, "n d_model"]
    ) -> Rows:
        """What a port sees where edits change it, at the rows where that differs from the
        stream."""
        records = [
            record
            for record in self.plan.at("port", site.depth)
            if record.site.kind == site.kind and record.site.part in (None, head)
        ]
        stood = partial(stream.over, base)
        written = [_written(record, stood) for record in records if record.sender is None]
        put = Rows.none(base)
        for changed in self.changed(written, stood):
            put = put.put(base, changed.ids, changed.x)
        reads = [self._sent[record] for record in records if record.sender is not None]
        added = summed([Rows.none(base), *reads])
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

    def changed(self, written: Sequence[Rows], stood: Callable[[Tensor], Tensor]) -> list[Rows]:
        """Of what edits write, the rows that differ from what stood there."""
        differ = self.count([(rows.x, stood(rows.ids)) for rows in written])
        return list(map(Rows.keep, written, differ))

    def count(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Bool[Tensor, "ids"]]:
        """Enter what edits write, each beside what stood there, and what of it is new; where rows
        differ. The host waits once for all."""
        counts = _fetched([(values != mine).flatten(1).sum(-1) for values, mine in pairs])
        self.receipt.written += sum(values.numel() for values, _ in pairs)
        self.receipt.changed += sum(int(changed.sum()) for changed in counts)
        return [changed > 0 for changed in counts]


def _fetched(many: Sequence[Int[Tensor, "_"]]) -> Sequence[Int[Tensor, "_"]]:
    """All of these on the host, which waits once."""
    return fetched(torch.cat(list(many))).split([len(x) for x in many]) if many else ()


def _shared(record: Record) -> object:
    """What the edges have in common whose senders' writes differ alike."""
    return record.source, record.sender, record.how, id(record.rows)


def _written(record: Record, stood: Callable[[Tensor], Tensor]) -> Rows:
    """What an edit makes of what stood at its rows."""
    return Rows(record.ids, record.at(record.ids, lambda: stood(record.ids)))
