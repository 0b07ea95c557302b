"""Attention for some rows only: the z of the rows that changed queries, keys, values or patterns
reach.

Units are (variant, prompt) pairs with all heads, or with one head where only that head's inputs
were edited. Each unit attends over exactly its prompt's own keys, with the operations of the full
pass (ops.pattern), so that a row's bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.config import Config
from minigpt.device import Limits, limits, sent
from minigpt.recompute.edits import Edits
from minigpt.recompute.record import Record
from minigpt.recompute.rows import Rows, find, hits, taken


@dataclass(frozen=True, eq=False)
class HeadInput:
    """New queries ("q"), keys or values of one head: the rows [rows, d_head]."""

    kind: str
    head: int
    rows: Rows


def attend(
    edits: Edits, layer: int, qkv: Rows, inputs: list[HeadInput], targets: Bool[Tensor, "rows"]
) -> Rows:
    """The z rows among `targets` that dirty qkv rows (all heads) and edited inputs, patterns or
    pairs (single heads) reach."""
    plan, config = edits.plan, edits.trace.config
    patterns, pairs = plan.at("pattern", layer), plan.at("pair", layer)
    reached = targets & _onward(_mask(qkv.ids, targets), plan.width)
    together = reached.view(-1, plan.width).any(1).repeat_interleave(plan.width)
    single = {
        head: targets & _reached_by(head, inputs, [*patterns, *pairs], targets, plan.width)
        for head in _edited(inputs, [*patterns, *pairs], config)
    }
    for mine in single.values():
        reached |= mine & together
    unit = _Unit(edits, layer, qkv, inputs, patterns, pairs)
    z, base = unit.rows(reached.nonzero().flatten(), None), plan.cell("z", layer)
    for head, mine in single.items():
        alone = unit.rows((mine & ~together).nonzero().flatten(), head)
        z = z.put(base, alone.ids, alone.x, config.head_columns(head))
    edits.count(unit.puts)
    return z


def whole_rows(of: Limits, dtype: torch.dtype, n: int, d_head: int) -> bool:
    """Whether a query row's bits depend on how many rows stand beside it, so that all of a prompt's
    must be computed together: with few keys, and where torch computes a batch of products of few
    operations by a loop of its own."""
    few = n < of.least_keys or of.query_rows * n * d_head < of.small
    return few or dtype not in of.row_types


def _edited(inputs: list[HeadInput], records: list[Record], config: Config) -> list[int]:
    """The heads whose inputs, patterns or pairs are edited."""
    inside = {head for record in records for head in _heads(record, config)}
    return sorted({own.head for own in inputs} | inside)


def _reached_by(
    head: int, inputs: list[HeadInput], records: list[Record], targets: Tensor, width: int
) -> Bool[Tensor, "rows"]:
    """Rows of one head's z that its edited queries (at their own row), keys and values (from there
    on), patterns or pairs change."""
    reached = torch.zeros_like(targets)
    for own in inputs:
        if own.head == head:
            mask = _mask(own.rows.ids, targets)
            reached |= mask if own.kind == "q" else _onward(mask, width)
    for record in records:
        if record.site.part in (None, head) and not record.own:
            reached |= _mask(record.ids, targets)
    return reached


class _Unit:
    """Assembles queries, keys and values for units of one layer, and attends. puts: what edits
    wrote into patterns and pairs, each beside what stood there."""

    def __init__(
        self,
        edits: Edits,
        layer: int,
        qkv: Rows,
        inputs: list[HeadInput],
        patterns: list[Record],
        pairs: list[Record],
    ) -> None:
        self.pairs, self.puts = pairs, list[tuple[Tensor, Tensor]]()
        self.edits, self.plan, self.config = edits, edits.plan, edits.trace.config
        self.layer, self.qkv, self.inputs, self.patterns = layer, qkv, inputs, patterns
        self.base = self.plan.cell("qkv", layer)
        self.limits = limits(self.base.device)

    def rows(self, ids: Int[Tensor, "rows"], head: int | None) -> Rows:
        """z at these rows: all heads side by side, or one head's."""
        batch, own = self.edits.trace.batch, self.config.qkv_columns("q", head)
        if not len(ids):
            return Rows.none(self.base[:, own])
        lengths = batch.lengths[(ids // self.plan.width) % len(batch.tokens)]
        z = self.base.new_empty(len(ids), own.stop - own.start)
        for n in torch.unique(lengths).tolist():
            mine = (lengths == n).nonzero().flatten()
            z.index_copy_(0, sent(mine, z), self._of_length(ids[mine], n, head))
        return Rows(ids, z)

    def _of_length(self, ids: Tensor, n: int, head: int | None) -> Float[Tensor, "rows width"]:
        pairs, which, counts = torch.unique(
            ids // self.plan.width, return_inverse=True, return_counts=True
        )
        if whole_rows(self.limits, self.base.dtype, n, self.config.d_head):
            asked, slot = torch.arange(n).expand(len(pairs), -1), ids % self.plan.width
        else:
            slot = torch.arange(len(ids)) - (counts.cumsum(0) - counts)[which]
            asked = torch.zeros(
                len(pairs), max(self.limits.query_rows, int(counts.max())), dtype=torch.long
            )
            asked[which, slot] = ids % self.plan.width
        heads = self.config.n_head if head is None else 1
        self.edits.receipt.spend(len(ids), asked.numel(), 4 * n * self.config.d_head * heads)
        units = self._enough(pairs, heads), self._enough(asked, heads)
        parts = -(-len(units[0]) * n * self.config.d_head * heads // self.limits.key_numbers)
        parts = max(1, min(parts, len(pairs)))
        split = zip(*(unit.tensor_split(parts) for unit in units), strict=True)
        z = [self._attended(some, rows, n, head) for some, rows in split]
        every = torch.cat(z)
        return every[sent(which, every), :, sent(slot, every)].flatten(1)

    def _enough(self, units: Int[Tensor, "units *rest"], heads: int) -> Int[Tensor, "more *rest"]:
        """Filled up with the last until there are as many products as threads do not share. What
        comes out of these copies means nothing: new keys are laid over the first of them alone."""
        missing = max(0, -(-self.limits.products // heads) - len(units))
        return torch.cat([units, units[-1:].expand(missing, *units.shape[1:])])

    def _attended(
        self,
        pairs: Int[Tensor, "pairs"],
        asked: Int[Tensor, "pairs asked"],
        n: int,
        head: int | None,
    ) -> Float[Tensor, "pairs head asked d_head"]:
        ids = pairs[:, None] * self.plan.width + asked
        q = self._queries(ids, head)
        k = self._keys("k", pairs, n, head).transpose(-1, -2)
        scores = torch.matmul(q, k).mul_(self.config.d_head**-0.5)
        hidden = scores.new_full((self.plan.width, n), torch.finfo(scores.dtype).min).triu_(1)
        weights = torch.softmax(scores.add_(hidden[sent(asked, hidden)][:, None]), dim=-1)
        self._put_patterns(weights, ids, head)
        values = self._keys("v", pairs, n, head)
        z = torch.matmul(weights, values)
        self._put_pairs(z, weights, values, ids, head)
        return z

    def _queries(
        self, ids: Int[Tensor, "pairs asked"], head: int | None
    ) -> Float[Tensor, "pairs head asked d_head"]:
        own, flat = self.config.qkv_columns("q", head), ids.flatten()
        x = Rows(self.qkv.ids, self.qkv.x[:, own]).into(
            taken(self.base[:, own], flat % self.plan.n), flat
        )
        x = x.view(len(flat), -1, self.config.d_head)
        for edited in self._inputs("q", head):
            edited.rows.into(x[:, edited.head if head is None else 0], flat)
        return x.view(*ids.shape, -1, self.config.d_head).transpose(1, 2).contiguous()

    def _keys(
        self, kind: str, pairs: Int[Tensor, "pairs"], n: int, head: int | None
    ) -> Float[Tensor, "pairs head key d_head"]:
        """Keys or values of each pair: the patched run's, with the new rows laid over them."""
        own = slice(None) if head is None else slice(head, head + 1)
        base = self.edits.trace.heads(self.layer, kind)[:, own, :n].contiguous()
        x = taken(base, pairs % len(base))
        columns = self.config.qkv_columns(kind, head)
        self._lay(
            x,
            pairs,
            self.qkv.ids,
            self.qkv.x[:, columns].reshape(-1, x.shape[1], self.config.d_head),
        )
        for edited in self._inputs(kind, head):
            first = edited.head if head is None else 0
            self._lay(x[:, first : first + 1], pairs, edited.rows.ids, edited.rows.x[:, None])
        return x

    def _lay(
        self,
        x: Float[Tensor, "pairs head key d_head"],
        pairs: Int[Tensor, "pairs"],
        ids: Int[Tensor, "rows"],
        values: Float[Tensor, "rows head d_head"],
    ) -> None:
        if len(ids):
            hit, place = find(pairs, ids // self.plan.width)
            at = sent(place, x), slice(None), sent(ids[hit] % self.plan.width, x)
            x[at] = hits(values, hit)

    def _inputs(self, kind: str, head: int | None) -> list[HeadInput]:
        return [own for own in self.inputs if own.kind == kind and head in (None, own.head)]

    def _put_patterns(
        self,
        weights: Float[Tensor, "pairs head asked key"],
        ids: Int[Tensor, "pairs asked"],
        head: int | None,
    ) -> None:
        """Edits of attention weights, in place; every one is counted where its row is asked for."""
        for record in self.patterns:
            values = record.given(record.ids)
            for h in _heads(record, self.config):
                if head in (None, h):
                    rows = Rows(record.ids, values[:, h] if record.whole else values)
                    put = self._put_pattern(record, weights[:, h if head is None else 0], ids, rows)
                    self.edits.overrides.setdefault(Site("pattern", self.layer, h), []).append(put)

    def _put_pattern(
        self,
        record: Record,
        weights: Float[Tensor, "pairs asked key"],
        ids: Int[Tensor, "pairs asked"],
        rows: Rows,
    ) -> Rows:
        """Put a record's values into the weights of one head; the rows that it thereby has."""
        hit, place = rows.find(ids)
        at = tuple(sent(index, weights) for index in hit.nonzero(as_tuple=True))
        old, keys = weights[at], weights.shape[-1]
        new = record.laid(taken(rows.x, place)[:, :keys].to(weights), old)
        self.puts.append((new, old))
        weights[at] = new
        if record.how == "=":
            return rows
        return Rows.of(ids[hit], torch.nn.functional.pad(new, (0, self.plan.width - keys)))

    def _put_pairs(
        self,
        z: Float[Tensor, "pairs head asked d_head"],
        weights: Float[Tensor, "pairs head asked key"],
        values: Float[Tensor, "pairs head key d_head"],
        ids: Int[Tensor, "pairs asked"],
        head: int | None,
    ) -> None:
        """Edits of what heads take from single sources, all at once, in place: z changes by what
        they differ by."""
        records = [record for record in self.pairs if head in (None, record.site.part)]
        if not records:
            return
        known, order = ids.flatten().sort(stable=True)
        found = [find(known, record.ids) for record in records]
        place = order[torch.cat([place for _, place in found])]
        sizes = [len(place) for _, place in found]
        part = _spread([(record.site.part or 0) - (head or 0) for record in records], sizes)
        key = _spread([record.site.source for record in records], sizes)
        unit, slot = place // ids.shape[1], place % ids.shape[1]
        at = [sent(index, z) for index in (unit, part, slot, key)]
        own = weights[tuple(at)][:, None] * values[at[0], at[1], at[3]]
        each = zip(records, found, own.split(sizes), strict=True)
        new = torch.cat([self._pair(record, record.ids[hit], x) for record, (hit, _), x in each])
        flat = (unit * z.shape[1] + part) * z.shape[2] + slot
        z.view(-1, z.shape[-1]).index_add_(0, sent(flat, z), new - own)

    def _pair(
        self, record: Record, ids: Int[Tensor, "rows"], own: Float[Tensor, "rows d_head"]
    ) -> Float[Tensor, "rows d_head"]:
        """What a record makes of what the head takes."""
        new = own if record.values is None else record.at(ids, lambda: own)
        self.edits.pairs.setdefault(record.site, []).append(Rows(ids, new))
        if record.values is not None and not record.own:
            self.puts.append((new, own))
        return new


def _spread(numbers: Sequence[int], sizes: Sequence[int]) -> Int[Tensor, "rows"]:
    """Each number so many times."""
    return torch.tensor(numbers).repeat_interleave(torch.tensor(sizes))


def _heads(record: Record, config: Config) -> range:
    part = record.site.part
    return range(config.n_head) if part is None else range(part, part + 1)


def _mask(ids: Tensor, like: Tensor) -> Bool[Tensor, "rows"]:
    mask = torch.zeros_like(like)
    mask[ids] = True
    return mask


def _onward(mask: Bool[Tensor, "rows"], width: int) -> Bool[Tensor, "rows"]:
    """Each marked row and those after it in the same prompt."""
    return mask.view(-1, width).cummax(-1).values.flatten()
