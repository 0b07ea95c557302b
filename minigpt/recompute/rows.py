"""Some rows of a cell: which ones, and their values; and the bill for computing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.device import sent


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a cell by their numbers among all variants (each once, in order; on the host), and
    their values."""

    ids: Int[Tensor, "rows"]
    x: Float[Tensor, "rows *rest"]

    @classmethod
    def of(cls, ids: Int[Tensor, "some"], x: Float[Tensor, "some *rest"]) -> Rows:
        """Rows in any order; of one that comes several times the first."""
        each, which = torch.unique(ids, return_inverse=True)
        first = torch.full_like(each, len(ids))
        first.scatter_reduce_(0, which, torch.arange(len(ids)), "amin")
        return cls(each, taken(x, first))

    @classmethod
    def none(cls, like: Float[Tensor, "rows *rest"]) -> Rows:
        """No rows, of a cell like this one."""
        return cls(torch.empty(0, dtype=torch.long), like[:0])

    def over(
        self, base: Float[Tensor, "n *rest"], ids: Int[Tensor, "some"]
    ) -> Float[Tensor, "some *rest"]:
        """The values at `ids`: these rows' where they are among them, the patched run's own [n,
        ...] elsewhere. To be read only."""
        return self.x if same(self.ids, ids) else self.into(taken(base, ids % len(base)), ids)

    def at(self, ids: Int[Tensor, "some"]) -> Float[Tensor, "some *rest"]:
        """The values at `ids`, zero where there is no such row."""
        return self.into(self.x.new_zeros(len(ids), *self.x.shape[1:]), ids)

    def into(
        self, found: Float[Tensor, "some *rest"], ids: Int[Tensor, "some"]
    ) -> Float[Tensor, "some *rest"]:
        """`found`, given up, with these rows' values where they are among `ids`."""
        if len(self.ids):
            hit, place = self.find(ids)
            found.index_copy_(0, sent(hit.nonzero().flatten(), found), taken(self.x, place))
        return found

    def find(
        self, ids: Int[Tensor, "*which"]
    ) -> tuple[Bool[Tensor, "*which"], Int[Tensor, "hits"]]:
        """Which of `ids` are among these rows, and where those stand; there must be rows."""
        return find(self.ids, ids)

    def keep(self, kept: Bool[Tensor, "rows"]) -> Rows:
        """Those that a mask keeps."""
        return self if bool(kept.all()) else Rows(self.ids[kept], hits(self.x, kept))

    def put(
        self,
        base: Float[Tensor, "n *rest"],
        ids: Int[Tensor, "some"],
        values: Tensor,
        part: slice = slice(None),
    ) -> Rows:
        """With these values at `ids` (in some columns only, where a part is given); new rows begin
        as the patched run's own."""
        if not len(ids):
            return self
        all_ids = union(self.ids, ids)
        x = self.x.clone() if len(all_ids) == len(self.ids) else self.over(base, all_ids)
        x[sent(torch.searchsorted(all_ids, ids), x), part] = values
        return Rows(all_ids, x)


def taken(x: Float[Tensor, "n *rest"], ids: Int[Tensor, "some"]) -> Float[Tensor, "some *rest"]:
    """Some rows by their numbers, which lie on the host."""
    return x.index_select(0, sent(ids, x))


def hits(x: Float[Tensor, "rows *rest"], mask: Bool[Tensor, "rows"]) -> Float[Tensor, "some *rest"]:
    """The rows that a mask on the host keeps."""
    return x if bool(mask.all()) else taken(x, mask.nonzero().flatten())


def find(
    known: Int[Tensor, "known"], ids: Int[Tensor, "*which"]
) -> tuple[Bool[Tensor, "*which"], Int[Tensor, "hits"]]:
    """Which of `ids` are among the known numbers (in order; there must be some), and where those
    stand."""
    place = torch.searchsorted(known, ids).clamp_(max=len(known) - 1)
    hit = known[place] == ids
    return hit, place[hit]


def same(a: Int[Tensor, "_"], b: Int[Tensor, "_"]) -> bool:
    """Whether these are the same row numbers."""
    return a is b or (len(a) == len(b) and torch.equal(a, b))


def summed(many: Sequence[Rows]) -> Rows:
    """The rows of all, those with the same number added up in the order given."""
    some = [rows for rows in many if len(rows.ids)]
    if len(some) < 2:
        return some[0] if some else many[0]
    every, x = torch.cat([rows.ids for rows in some]), torch.cat([rows.x for rows in some])
    ids, which = torch.unique(every, return_inverse=True)
    if len(ids) == len(every):
        return Rows(ids, taken(x, every.argsort()))
    return Rows(ids, x.new_zeros(len(ids), *x.shape[1:]).index_add_(0, sent(which, x), x))


def union(*many: Int[Tensor, "_"]) -> Int[Tensor, "_"]:
    """Row numbers that are in any of these, each of them in order, once and in order."""
    some = [ids for ids in many if len(ids)]
    if all(same(some[0], ids) for ids in some[1:]):
        return some[0] if some else many[0]
    found: Tensor = torch.unique(torch.cat(some))
    return found
