"""From patches to records: every edit and every hold as what it puts into which stage, at which
rows of the run that is patched.

A write from another run is put where the node's own numbers live (a head's z, a neuron's
activation), so that putting a run's own value back changes no bit; a write of a free vector is an
addition of what it differs by. A hold is a write of every node that it names, at the rows where no
edit decides what the node is: a head or a neuron gives way by its records' order, all else by its
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from minigpt.address import Address, Site, parse
from minigpt.device import fetched
from minigpt.errors import PatchError
from minigpt.patch import Patch
from minigpt.patch.conflict import clash, conflict
from minigpt.patch.edit import Edit, Hold, Source
from minigpt.recompute.record import CELL, STAGE, Record, cell_columns
from minigpt.recompute.rows import taken
from minigpt.recompute.values import At, Reader, Values, has_cells
from minigpt.trace import Trace


class Lowering:
    """Lowers patches on one trace. What several have in common is one record: edits, holds, rows of
    a position, means."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.read = trace, Reader(trace)
        self.n, self.width = trace.tokens.numel(), trace.tokens.shape[1]
        self._records: dict[object, list[Record]] = {}
        self._nodes: dict[Hold, dict[Site, tuple[Site, ...]]] = {}
        self._rows: dict[object, Tensor] = {}

    @property
    def records(self) -> list[Record]:
        """Of all patches so far, each once."""
        return [record for records in self._records.values() for record in records]

    def lower(self, patch: Patch) -> Iterator[Record]:
        """The records of a patch."""
        self._refuse_meetings(patch)
        writes = [edit for edit in patch.edits if edit.kind == "write"]
        for hold in _joined(patch.holds):
            for node, wholes in self._held_nodes(hold).items():
                yield from self._hold(hold, node, wholes, writes)
        for edit in patch.edits:
            yield from self._once(edit, partial(self._edit, edit))

    def _once(self, key: object, lower: Callable[[], Iterable[Record]]) -> list[Record]:
        if key not in self._records:
            self._records[key] = list(lower())
        return self._records[key]

    # ---- edits

    def _edit(self, edit: Edit) -> Iterator[Record]:
        parse(edit.target, self.trace.config)
        self.read.check(edit.source, edit.target)
        self.trace.check(edit.target)
        rows, site = self.rows(edit.target.at), edit.target.sites[-1]
        if edit.kind == "write":
            yield from self._written(edit, site, rows)
        else:
            sender = edit.target.sites[0] if edit.kind == "read" else None
            values = self.read.values(edit, sender or site)
            yield self._record("port", edit, site, rows, values, sender)

    def _written(self, edit: Edit, site: Site, rows: Tensor) -> Iterator[Record]:
        for own, some in self._by_key(site, rows):
            if edit.how == "*=":
                self._refuse_lost_scale(edit, own, some)
            yield from self._write(edit, own, some)

    def _write(self, edit: Edit, site: Site, rows: Tensor) -> Iterator[Record]:
        """What a node, a stream point, a pattern or a z becomes: in its cell where the source has
        one, its bias apart; else a vector or a pattern."""
        source, scaled = edit.source, edit.how == "*="
        if site.kind == "input" and edit.how != "+=" and (source.value is None or scaled):
            yield from self._write(edit, Site("emb"), rows)
            yield from self._write(edit, Site("pos"), rows)
        elif site.kind == "pair":
            yield from self._pair(edit, site, rows)
        elif site.kind in CELL and _in_cell(edit, site):
            yield self._cell(edit, site, rows)
            if site.part is None and site.kind != "z" and source.run is None:
                yield from self._write(edit, Site(f"{site.kind}.b", site.layer), rows)
        else:
            added = edit.how == "+=" and site.kind in ("attn", "mlp")
            if site.kind == "pattern" or added:  # made of what the pass computes, whatever is held
                stage = CELL.get(site.kind, "z")
                cell = Site("z", site.layer, site.part) if stage == "z" else site
                yield self._record(stage, edit, cell, rows, None)
            yield self._record(STAGE[site.kind], edit, site, rows, self.read.values(edit, site))

    def _pair(self, edit: Edit, site: Site, rows: Tensor) -> Iterator[Record]:
        """What a head takes from one source, in z, where weight and value are known; else a vector.
        The rest of its z is what the pass computes, whatever is held."""
        yield self._record("z", edit, Site("z", site.layer, site.part), rows, None)
        named = edit.target.site if edit.source.mean else site
        if _in_cell(edit, site):
            taken = self.read.pair(edit.source, named, edit.target.at)
            yield self._record("pair", edit, site, rows, taken)
        else:
            yield self._record("pair", edit, site, rows, None)
            yield self._record("attn", edit, site, rows, self.read.values(edit, named))

    def _cell(self, edit: Edit, site: Site, rows: Tensor) -> Record:
        stage, columns = CELL[site.kind], cell_columns(site, self.trace.config)
        cell = self.read.cell(edit.source, stage, site.depth, columns, edit.target.at)
        return self._record(stage, edit, site, rows, lambda rows: taken(cell, rows))

    def _refuse_lost_scale(self, edit: Edit, site: Site, rows: Tensor) -> None:
        """A node in whose place the patched run has a vector has no cells that could be scaled."""
        for other, vector in self.trace.overrides.items():
            kin = other == site or site.contains(other) or other.contains(site)
            kin &= other.kind in (*CELL, "pair") or other.is_latent
            if kin and bool(fetched(vector.rows).flatten()[rows].any()):
                raise PatchError(
                    f"'{edit}': the run that is patched has a vector in the place of {other}",
                    "a run whose nodes write what they compute",
                    "the vector, scaled, in the first patch",
                )

    def _record(
        self,
        stage: str,
        edit: Edit,
        site: Site,
        rows: Tensor,
        values: Values | None,
        sender: Site | None = None,
    ) -> Record:
        columns = cell_columns(site, self.trace.config)
        return Record(stage, site, rows, values, self.n, edit.source, columns, sender, how=edit.how)

    # ---- holds

    def _hold(
        self, hold: Hold, node: Site, wholes: tuple[Site, ...], writes: Sequence[Edit]
    ) -> Sequence[Record]:
        """A held node's records: at the rows where no edit decides what it is, and where no whole
        of it is held already."""
        among = frozenset(self._decided(hold, whole, writes) for whole in wholes)
        rows = self._all_but(self._taken(hold, node, writes), among)
        rows = self._but_rivals(node, rows, writes)
        key = (hold.source, node, id(rows))
        return self._once(key, lambda: self._held(node, hold.source, rows)) if len(rows) else ()

    def _held(self, node: Site, source: Source, rows: Tensor) -> Iterator[Record]:
        for record in self._written(Edit(Address((node,)), source), node, rows):
            record.held, record.own = True, source.run is self.trace and not source.mean
            yield record

    def _taken(self, hold: Hold, node: Site, writes: Sequence[Edit]) -> frozenset[At]:
        """The positions at which a node that is held is none the less free, or decided by an
        edit."""
        in_cell = node.is_head or node.is_neuron
        if node.kind == "z" or (in_cell and has_cells(hold.source, node)):
            return frozenset(hold.places(node))
        return self._decided(hold, node, writes)

    def _decided(self, hold: Hold, node: Site, writes: Sequence[Edit]) -> frozenset[At]:
        """The same of a node that does not give way by its records' order."""
        edited = (edit.target for edit in writes if _decides(edit.target.site, node))
        return frozenset((*hold.places(node), *(target.at for target in edited)))

    def _held_nodes(self, hold: Hold) -> dict[Site, tuple[Site, ...]]:
        """The nodes of a hold, each with those wholes of it that are held too. A layer's heads are
        taken together, as its z, where none of them is free anywhere and cells tell of all."""
        if hold not in self._nodes:
            nodes = hold.sites(self.trace.config)
            for node in nodes:
                self.trace.check(Address((node,)))
            self.read.check(hold.source, Address((nodes[0],)))
            wholes_of = {node: _among(nodes, node) for node in nodes}
            self._nodes[hold] = self._by_layers(hold, wholes_of)
        return self._nodes[hold]

    def _by_layers(
        self, hold: Hold, wholes_of: dict[Site, tuple[Site, ...]]
    ) -> dict[Site, tuple[Site, ...]]:
        heads: dict[int | None, list[Site]] = {}
        for node in wholes_of:
            if node.is_head:
                heads.setdefault(node.layer, []).append(node)
        together = {
            Site("z", layer): nodes
            for layer, nodes in heads.items()
            if len(nodes) == self.trace.config.n_head
            and not any(hold.places(node) or not has_cells(hold.source, node) for node in nodes)
        }
        gone = {node for nodes in together.values() for node in nodes}
        rest = {node: wholes for node, wholes in wholes_of.items() if node not in gone}
        return {**{z: wholes_of[nodes[0]] for z, nodes in together.items()}, **rest}

    # ---- rows

    def rows(self, at: At) -> Int[Tensor, "rows"]:
        """The numbers of the rows at a position of each prompt, or of all rows that belong to
        prompts; the same tensor for the same position."""
        if at not in self._rows:
            batch = self.trace.batch
            if at is None:
                self._rows[at] = batch.inside.flatten().nonzero().flatten()
            else:
                self._rows[at] = torch.arange(len(batch.tokens)) * self.width + batch.places(at)
        return self._rows[at]

    def _all_but(
        self, taken: frozenset[At], among: frozenset[frozenset[At]]
    ) -> Int[Tensor, "rows"]:
        """All rows, or those at all of some positions, but those that are taken; the same tensor
        for the same positions."""
        if not taken and not among:
            return self.rows(None)
        if (taken, among) not in self._rows:
            rows = self.rows(None)
            for some in among:
                rows = rows[torch.isin(rows, self._at(some))]
            self._rows[taken, among] = rows[~torch.isin(rows, self._at(taken))]
        return self._rows[taken, among]

    def _but_rivals(self, node: Site, rows: Tensor, writes: Sequence[Edit]) -> Tensor:
        """The rows of a pair, less those where an edit is of the very same, its key called
        otherwise; the same tensor for the same rows and edits."""
        rivals = tuple(e.target for e in writes if _same_head(e.target.site, node))
        if rivals and (node, id(rows), rivals) not in self._rows:
            met = [self._meets(rows, Address((node,)), rival) for rival in rivals]
            self._rows[node, id(rows), rivals] = rows[~torch.stack(met).any(0)]
        return self._rows[node, id(rows), rivals] if rivals else rows

    def _meets(self, rows: Tensor, a: Address, b: Address) -> Bool[Tensor, "rows"]:
        """At which of these rows two edits both act; of pairs, from one source."""
        both = torch.isin(rows, self.rows(a.at)) & torch.isin(rows, self.rows(b.at))
        if not _same_head(a.sites[-1], b.sites[-1]):
            return both
        return both & (self._keys(a.site, rows) == self._keys(b.site, rows))

    def _keys(self, pair: Site, rows: Tensor) -> Int[Tensor, "rows"]:
        """The position that is a pair's key, in the prompt of each row."""
        assert pair.key is not None
        return self.trace.batch.places(pair.key)[rows // self.width]

    def _by_key(self, site: Site, rows: Tensor) -> Iterator[tuple[Site, Int[Tensor, "rows"]]]:
        """A site and its rows; a pair by the number that its key is in some prompts, at their
        queries that are not before it."""
        if site.kind != "pair":
            yield site, rows
            return
        keys, queries = self._keys(site, rows), rows % self.width
        for key in torch.unique(keys).tolist():
            yield replace(site, key=key), rows[(keys == key) & (queries >= key)]

    def _at(self, positions: frozenset[At]) -> Int[Tensor, "rows"]:
        return torch.cat([self.rows(None)[:0], *(self.rows(at) for at in positions)])

    def _refuse_meetings(self, patch: Patch) -> None:
        """Conflicts that only show once names of positions are known."""
        placed = [e for e in patch.edits if e.target.at is not None or e.target.sites[0].key]
        if all(_numbered(e.target.at) and _numbered(e.target.sites[0].key) for e in placed):
            return
        for a, b in combinations(placed, 2):
            last, other = a.target.sites[-1], b.target.sites[-1]
            same_layer = last.layer == other.layer
            alike = (a.kind == "write") == (b.kind == "write")
            meet = same_layer and alike and (clash(a, b) or _same_head(last, other))
            if meet and bool(self._meets(self.rows(None), a.target, b.target).any()):
                raise conflict(a, b)


def _in_cell(edit: Edit, site: Site) -> bool:
    """Whether an edit of a node is one of its cell: of what its write is made of."""
    if edit.how == "*=":
        return True
    if edit.source.number is not None and site.is_neuron:
        return True
    return (edit.how == "=" or site.kind == "z") and has_cells(edit.source, site)


def _joined(holds: Sequence[Hold]) -> Iterator[Hold]:
    """The holds, those at one value with the same nodes free taken as one."""
    nodes: dict[tuple[object, str], list[Hold]] = {}
    for hold in holds:
        nodes.setdefault((hold.source, hold.but), []).append(hold)
    for many in nodes.values():
        first = many[0]
        joined = Hold(" ".join(hold.nodes for hold in many), first.source, first.but)
        yield joined if len(many) > 1 else first


def _decides(written: Site, node: Site) -> bool:
    """Whether writing a site decides what a node writes: it is the node, its whole or its part, or
    the z or pattern of one of these."""
    if written.role == "inside":
        head = Site("attn", written.layer, written.part)
        return node.kind in ("attn", "pair") and (
            head == node or head.contains(node) or node.contains(head)
        )
    return written == node or written.contains(node) or node.contains(written)


def _same_head(a: Site, b: Site) -> bool:
    """Whether both are pairs of one head."""
    return a.kind == b.kind == "pair" and (a.layer, a.part) == (b.layer, b.part)


def _numbered(at: At) -> bool:
    """Whether a position is the same in every prompt."""
    return at is None or (isinstance(at, int) and at >= 0)


def _among(nodes: Sequence[Site], node: Site) -> tuple[Site, ...]:
    """Those wholes of a node that are among these."""
    layer, head = node.layer, Site("attn", node.layer, node.part)
    wholes = (Site("input"), Site("attn", layer), Site("mlp", layer), head)
    return tuple(whole for whole in wholes if whole.contains(node) and whole in nodes)
