"""Attention for some rows only: the z of the rows that changed queries, keys, values or patterns reach.

Units are (variant, prompt) pairs with all heads, or with one head where only that head's inputs were edited. Each unit attends
over exactly its prompt's own keys, with the operations of the full pass (ops.pattern), so that a row's bits are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt import ops
from minigpt.address import Site
from minigpt.plan import Touch
from minigpt.rows import Rows

if TYPE_CHECKING:
    from minigpt.rerun import Recalculation

# New queries, keys or values of one head: which of the three, the head, the rows [rows, d_head].
Part = tuple[str, int, Rows]


def attend(calc: Recalculation, layer: int, qkv: Rows, parts: list[Part], patterns: list[Touch], targets: Bool[Tensor, "rows"],
           base: Float[Tensor, "n width"]) -> Rows:
    """The z rows among `targets` that dirty qkv rows (all heads) and edited parts or patterns (single heads) reach."""
    width = calc.plan.width
    reached = targets & _onward(_mask(qkv.ids, targets), width)
    covered = reached.view(-1, width).any(1).repeat_interleave(width)
    single = {head: targets & _reached_by(head, parts, patterns, targets, width, calc.n)
              for head in sorted({h for _, h, _ in parts} | {h for t in patterns for h in _heads(t, calc.config.n_head)})}
    for mine in single.values():
        reached |= mine & covered
    unit = _Unit(calc, layer, qkv, parts, patterns, base)
    z = unit.rows(reached.nonzero().flatten(), None)
    for head, mine in single.items():
        found = unit.rows((mine & ~covered).nonzero().flatten(), head)
        own = slice(head * calc.config.d_head, (head + 1) * calc.config.d_head)
        z = z.put(calc._cell("z", layer), found.ids, found.x, own)
    return z


def _reached_by(head: int, parts: list[Part], patterns: list[Touch], targets: Tensor, width: int, n: int) -> Bool[Tensor, "rows"]:
    """Rows of one head's z that its edited queries (at their own row), keys and values (from there on) or patterns change."""
    found = torch.zeros_like(targets)
    for kind, h, rows in parts:
        if h == head:
            mask = _mask(rows.ids, targets)
            found |= mask if kind == "q" else _onward(mask, width)
    for touch in patterns:
        if touch.site.part in (None, head):
            found |= _mask(touch.ids(n), targets)
    return found


class _Unit:
    """Assembles queries, keys and values for units of one layer, and attends."""

    def __init__(self, calc: Recalculation, layer: int, qkv: Rows, parts: list[Part], patterns: list[Touch], base: Tensor) -> None:
        self.calc, self.layer, self.parts, self.patterns = calc, layer, parts, patterns
        self.qkv, self.base = qkv, base
        self.width, self.config = calc.plan.width, calc.config

    def rows(self, ids: Int[Tensor, "rows"], head: int | None) -> Rows:
        """z at these rows: all heads side by side, or one head's."""
        batch = self.calc.trace.batch
        found = [Rows.none(self.calc._cell("z", self.layer)[:, self._columns("q", head)])]
        lengths = batch.lengths[(ids // self.width) % len(batch.tokens)]
        for n in torch.unique(lengths).tolist():
            found.append(self._of_length(ids[lengths == n], n, head))
        every = torch.cat([rows.ids for rows in found])
        order = every.argsort()
        return Rows(every[order], torch.cat([rows.x for rows in found])[order])

    def _of_length(self, ids: Tensor, n: int, head: int | None) -> Rows:
        pairs, which, counts = torch.unique(ids // self.width, return_inverse=True, return_counts=True)
        first = (counts.cumsum(0) - counts)[which]
        slot = torch.arange(len(ids), device=ids.device) - first
        if whole_rows(self.base.dtype, n):
            asked, slot = torch.arange(n, device=ids.device).expand(len(pairs), -1), ids % self.width
        else:
            asked = torch.zeros(len(pairs), max(ops.GRAIN, int(counts.max())), dtype=torch.long, device=ids.device)
            asked[which, slot] = ids % self.width
        keys = torch.arange(n, device=ids.device).expand(len(pairs), -1)
        heads = self.config.n_head if head is None else 1
        each = 4 * n * self.config.d_head * heads
        self.calc.receipt.spend(len(ids), asked.numel(), each)
        z = self._attended(pairs, asked, keys, head)
        return Rows(ids, z.transpose(1, 2).flatten(2)[which, slot])

    def _attended(self, pairs: Tensor, asked: Int[Tensor, "pairs asked"], keys: Int[Tensor, "pairs key"], head: int | None) -> Tensor:
        start = pairs[:, None] * self.width
        q = self._gather("q", start + asked, head).transpose(1, 2).contiguous()
        k = self._gather("k", start + keys, head).transpose(1, 2).contiguous().transpose(-1, -2)
        v = self._gather("v", start + keys, head).transpose(1, 2).contiguous()
        scores = torch.matmul(q, k).mul_(self.config.d_head ** -0.5)
        hidden = torch.full((self.width, keys.shape[1]), torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device).triu_(1)
        weights = torch.softmax(scores.add_(hidden[asked][:, None]), dim=-1)
        self._put_patterns(weights, start + asked, head)
        return torch.matmul(weights, v)

    def _gather(self, kind: str, ids: Int[Tensor, "pairs pos"], head: int | None) -> Float[Tensor, "pairs pos head d_head"]:
        own = self._columns(kind, head)
        x = Rows(self.qkv.ids, self.qkv.x[:, own]).over(self.base[:, own], ids)
        x = x.view(*ids.shape, -1, self.config.d_head)
        for which, h, rows in self.parts:
            if which == kind and head in (None, h):
                rows.into(x[:, :, h if head is None else 0], ids)
        return x

    def _put_patterns(self, weights: Float[Tensor, "pairs head asked key"], ids: Int[Tensor, "pairs asked"], head: int | None) -> None:
        """Edits of attention weights, in place; every one is counted where its row is asked for."""
        for touch in self.patterns:
            if head is not None and touch.site.part not in (None, head):
                continue
            rows = Rows(touch.ids(self.calc.n), touch.values(touch.rows)[..., : weights.shape[-1]].to(weights))
            hit, place = rows.find(ids)
            given = rows.x[place]
            for h in range(self.config.n_head) if touch.site.part is None else (touch.site.part,):
                if head in (None, h):
                    new = given[:, h] if touch.site.part is None else given
                    mine = weights[:, h if head is None else 0]
                    self.calc._count(touch, new, mine[hit])
                    mine[hit] = new
                    self.calc.overrides.setdefault(Site("pattern", self.layer, h), []).append(Rows(rows.ids, touch.values(touch.rows)[:, h]
                                                                                              if touch.site.part is None else touch.values(touch.rows)))

    def _columns(self, kind: str, head: int | None) -> slice:
        first, d = "qkv".index(kind) * self.config.d_model, self.config.d_head
        return slice(first, first + self.config.d_model) if head is None else slice(first + head * d, first + (head + 1) * d)


def whole_rows(dtype: torch.dtype, n: int) -> bool:
    """Whether a query row's bits depend on how many rows stand beside it, so that all of a prompt's must be computed together."""
    return dtype != torch.float32 or n < ops.MIN_ROWS


def _heads(touch: Touch, n_head: int) -> range:
    return range(n_head) if touch.site.part is None else range(touch.site.part, touch.site.part + 1)


def _mask(ids: Tensor, like: Tensor) -> Bool[Tensor, "rows"]:
    found = torch.zeros_like(like)
    found[ids] = True
    return found


def _onward(mask: Bool[Tensor, "rows"], width: int) -> Bool[Tensor, "rows"]:
    """Each marked row and those after it in the same prompt."""
    return mask.view(-1, width).cummax(-1).values.flatten()
