"""The node table: what every node did at every position, of which the top and the bottom rows of
one column are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp import attribution
from interp.debugger import place
from interp.debugger.both import Both, Change, both, change
from interp.debugger.columns import Block, Direct, blocks, lit
from interp.debugger.question import QuestionError
from interp.debugger.session import Runs, Side
from interp.effects import Effects
from minigpt import parse
from minigpt.shown import Shown

# Of all that is kept, what one block may take.
SHARE = 32
# What each column means, as a tooltip says it.
DEFINITIONS = {
    "address": "The node, and the position at which it writes.",
    "token": "The token at that position.",
    "looks_at": (
        "Heads: the position that gets most of the attention (or, split by key, the one "
        "whose value is meant), and its token."
    ),
    "activation": (
        "Heads: the attention weight of that position. Neurons: the activation after "
        "the GELU. Latents: theirs. Other nodes have none."
    ),
    "norm": "The length of the vector that the node writes to the residual stream.",
    "direct": (
        "What the write adds to the metric along the edge to the output only, the final "
        "LayerNorm's scale being the run's. All rows sum to the metric."
    ),
    "change.write": (
        "Of the difference of direct effects: what the node's own write changed, the final "
        "LayerNorm's scale being that of the left side."
    ),
    "change.scale": (
        "The rest of the difference: the same write, and another LayerNorm scale. It moves every "
        "row by the same factor, also of nodes that did not respond."
    ),
    "total": (
        "How the metric changes when this node is ablated or replaced and everything "
        "downstream is computed again."
    ),
    "lost": (
        "What the metric loses without this node: minus the total effect of ablating or replacing "
        "it, everything downstream computed again."
    ),
}


@dataclass(frozen=True, repr=False)
class Row(Shown):
    """One node at one position. kind: embedding, head, pair, neuron, mlp, latent, error, bias or
    edit (what an intervention wrote into a stream).

    position and key are the left side's.
    """

    address: str
    kind: str
    position: int
    token: str
    key: int | None
    looks_at: str
    activation: Both
    norm: Both
    direct: Both
    change: Change
    total: Both

    @property
    def lost(self) -> Both:
        """What is lost without the node: minus the total effect."""
        ends = (self.total.left, self.total.right)
        return both(*(None if x is None else -x for x in ends))


@dataclass(frozen=True, repr=False)
class Table(Shown):
    """Rows as sorted; rest: the direct effects of every row not shown, so that rows + rest = sum =
    metric; rest_change and sum_change likewise of the difference.

    gap, bound: how far the sum is from the metric (the worse side), and how far rounding alone may
    put it. count: rows in all; matching: those that `find` keeps.
    """

    sides: tuple[str, ...]
    metric_name: str
    metric: Both
    rows: tuple[Row, ...]
    rest: Both
    sum: Both
    rest_change: Change
    sum_change: Change
    gap: float | None
    bound: float | None
    count: int
    matching: int
    notes: tuple[str, ...]


def table(runs: Runs, totals: Mapping[str, Both] | None = None) -> Table:
    """The table as the question wants it sorted, filtered and split: k rows at each end of the
    column, largest first.

    totals: exact total effects known so far (totals.py streams them), by address; only they can be
    sorted by.
    """
    effects = _effects(runs)
    blocks = [_kept(block, runs, totals or {}) for block in _blocks(runs, effects)]
    chosen = _ends([row for block in blocks for row in block.rows], runs)
    closures = _closures(runs, [own for own, _ in effects])
    whole = both(*(c.total for c in closures)) if closures else Both()
    changed = _changed(effects)
    worst = max(closures, key=lambda c: c.gap / c.bound) if closures else None
    return Table(
        tuple(side.name for side in runs.sides),
        runs.left.metric.name,
        both(*(float(side.metric(side.trace)) for side in runs.sides)),
        tuple(chosen),
        _less(whole, [row.direct for row in chosen]),
        whole,
        _rest(changed, [row.change for row in chosen]),
        changed,
        worst.gap if worst else None,
        worst.bound if worst else None,
        sum(block.count for block in blocks),
        sum(block.matching for block in blocks),
        tuple(_notes(runs, closures, blocks)),
    )


def _effects(runs: Runs) -> list[tuple[Effects, Effects]]:
    """The direct effects of each side, its own and at the left side's scale; none where the metric
    is not linear in the logits."""
    if not runs.left.metric.linear:
        return []
    own = [_direct(runs, side, side) for side in runs.sides]
    held = [own[0], *(_direct(runs, side, runs.left) for side in runs.sides[1:])]
    return list(zip(own, held, strict=True))


def _changed(effects: Sequence[tuple[Effects, Effects]]) -> Change:
    """What became of all direct effects together."""
    if len(effects) < 2:
        return Change()
    (left, _), (right, held) = ([float(x.per_prompt.sum()) for x in pair] for pair in effects)
    return change(left, held, right)


def _closures(runs: Runs, effects: Sequence[Effects]) -> list[attribution.Closure]:
    """How the direct effects of each side sum to its metric; none where there are none."""
    return [
        runs.kept.get(
            (side.read, "closure", runs.question.split),
            partial(attribution.closure, side.trace, side.metric, effect),
        )
        for side, effect in zip(runs.sides, effects, strict=False)
    ]


def value(row: Row, sort: str) -> float | None:
    """The number that a row is sorted by: "direct", "norm.right", "change.write"."""
    column, _, side = sort.partition(".")
    number: float | None = getattr(getattr(row, column), side or "left")
    return number


@dataclass(frozen=True)
class _Rows:
    """What is kept of a block: the rows that may be shown, how many there are, how many match, and
    how many of these have the number that they are sorted by."""

    rows: list[Row]
    count: int
    matching: int
    known: int


def _direct(runs: Runs, side: Side, scale: Side) -> Effects:
    """The direct effects of every node on one side, at its own LayerNorm scale or another's."""
    split, sources = runs.question.split, "keys" in runs.question.split
    direct = partial(
        attribution.direct,
        side.trace,
        side.metric,
        neurons="neurons" in split,
        sources=sources,
        latents=latents(runs, side) if "latents" in split else (),
        scale=None if scale is side else attribution.final_scale(scale.trace, scale.metric),
    )
    effects: Effects = runs.kept.get((side.read, "direct", split, scale.run), direct)
    return effects


def latents(runs: Runs, side: Side) -> list[str]:
    """The writes that are cut into latents; QuestionError where the model has no dictionary of
    one."""
    if found := lit(side.trace, runs.question.split):
        return found
    raise QuestionError(
        "split=latents of a model without a dictionary of a write",
        "a model with dictionaries of MLPs or attention layers",
        "interp debug --latents ioi-mini",
    )


def written(
    runs: Runs, side: Side, direct: Direct | None = None, names: Iterable[str] = ()
) -> Iterator[Block]:
    """The blocks of one side, split as the question wants them."""
    split = runs.question.split
    return blocks(
        side.trace,
        split,
        direct or {},
        names,
        lambda i, make: runs.kept.get((side.run, "block", split, i), make, SHARE),
    )


def _blocks(runs: Runs, effects: Sequence[tuple[Effects, Effects]]) -> Iterator[tuple[Block, ...]]:
    """The same nodes on each side, block by block; the right side's positions put under those of
    the left."""
    direct: list[Direct] = [_by_name(*each) for each in effects] or [{}] * len(runs.sides)
    names = dict.fromkeys(name for effect in direct for name in effect)
    sides = (
        written(runs, side, effect, names) for side, effect in zip(runs.sides, direct, strict=True)
    )
    for left, *others in zip(*sides, strict=True):
        yield (left, *(block.under(left.names, runs.twins) for block in others))


def _by_name(own: Effects, held: Effects) -> Direct:
    values = zip(own.per_prompt[:, 0].tolist(), held.per_prompt[:, 0].tolist(), strict=True)
    return dict(zip(own.addresses, values, strict=True))


def _kept(sides: tuple[Block, ...], runs: Runs, totals: Mapping[str, Both]) -> _Rows:
    """The rows of a block that can be among the first k or the last k."""
    block = sides[0]
    match = block.matching(runs.question.find, runs.left.tokens)
    key = _key(sides, runs.sort, totals)
    rows = [_row(sides, i, t, runs, totals) for i, t in _candidates(key, match, runs)]
    known = match & ~key.isnan()
    return _Rows(rows, int(block.valid.sum()), int(match.sum()), int(known.sum()))


def _key(
    sides: tuple[Block, ...], sort: str, totals: Mapping[str, Both]
) -> Float[Tensor, "nodes pos"]:
    """What the cells are sorted by; NaN where there is no such number."""
    column, _, side = sort.partition(".")
    if column == "address":
        return torch.zeros_like(sides[0].norm)
    if column in ("total", "lost"):
        numbers = {name: getattr(effect, side or "left") for name, effect in totals.items()}
        return _known(sides[0], numbers) * (1 if column == "total" else -1)
    if column == "change":
        return _change(sides, side)
    ends: list[Tensor] = [getattr(block, column) for block in sides]
    if side and len(ends) < 2:
        return torch.full_like(ends[0], torch.nan)
    return ends[1] - ends[0] if side == "difference" else ends[1 if side else 0]


def _change(sides: tuple[Block, ...], part: str) -> Float[Tensor, "nodes pos"]:
    """What the write or the scale changed; NaN with one side."""
    if len(sides) < 2:
        return torch.full_like(sides[0].direct, torch.nan)
    left, right = sides
    return right.held - left.direct if part == "write" else right.direct - right.held


def _known(block: Block, totals: Mapping[str, float | None]) -> Float[Tensor, "nodes pos"]:
    cells = torch.full_like(block.norm, torch.nan)
    index = {name: i for i, name in enumerate(block.names)}
    for text, number in totals.items():
        address, sign, key = text.partition("<")
        name, _, at = address.partition("@")
        if number is not None and at.isdigit() and (i := index.get((name, sign + key))) is not None:
            cells[i, int(at)] = number
    return cells


def _candidates(
    key: Float[Tensor, "nodes pos"], match: Bool[Tensor, "nodes pos"], runs: Runs
) -> list[tuple[int, int]]:
    """The first k cells and the last k: of a signed column only those above and below zero."""
    k = runs.question.k
    if runs.sort == "address":
        return [(i, t) for i, t in match.nonzero().tolist()[:k]]
    signed = runs.sort not in ("norm", "norm.right")
    found: dict[tuple[int, int], None] = {}
    for sign in (1, -1) if signed else (1,):
        some = torch.where(match & (sign * key > 0), sign * key, -torch.inf).flatten()
        best = some.topk(min(k, len(some)))
        found |= {
            divmod(i, key.shape[1]): None
            for i, x in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            if x > 0
        }
    return list(found)


def _row(sides: tuple[Block, ...], i: int, t: int, runs: Runs, totals: Mapping[str, Both]) -> Row:
    block, (name, end) = sides[0], sides[0].names[i]
    address, key = f"{name}@{t}{end}", int(block.key[i, t])
    tokens, seen = runs.left.tokens, key if key >= 0 else None
    looks = "" if seen is None else f"{seen} {tokens[seen]!r}"
    activation, norm, direct = (
        both(*(float(getattr(side, column)[i, t]) for side in sides))
        for column in ("activation", "norm", "direct")
    )
    kind, moved, total = _kind(block, name), _moved(sides, i, t), totals.get(address, Both())
    return Row(
        address,
        kind,
        t,
        tokens[t],
        seen,
        looks,
        activation,
        norm,
        direct,
        moved,
        total,
    )


def _kind(block: Block, name: str) -> str:
    """The kind of the node; of what an intervention wrote, that of the node which it replaced."""
    return place.kind(parse(name).site) if block.kind == "edit" else block.kind


def _moved(sides: tuple[Block, ...], i: int, t: int) -> Change:
    """What became of one cell's direct effect."""
    if len(sides) < 2:
        return Change()
    left, right = sides
    return change(*(float(x[i, t]) for x in (left.direct, right.held, right.direct)))


def _ends(rows: list[Row], runs: Runs) -> list[Row]:
    """The k at the top and the k at the bottom of all blocks' rows, in order."""
    k = runs.question.k
    if runs.sort == "address":
        return rows[:k]
    known = ((x, row) for row in rows if (x := value(row, runs.sort)) is not None)
    ordered = sorted(known, key=lambda pair: -pair[0])
    above = [row for x, row in ordered if x > 0]
    below = [row for x, row in ordered if x < 0]
    return above[:k] + below[-k:]


def _less(whole: Both, parts: Sequence[Both]) -> Both:
    """What is left of a sum."""
    left, right = (
        None
        if (end := getattr(whole, side)) is None
        else end - sum(getattr(part, side) or 0.0 for part in parts)
        for side in ("left", "right")
    )
    return both(left, right)


def _rest(whole: Change, parts: Sequence[Change]) -> Change:
    """What is left of a sum of changes."""
    if whole.write is None or whole.scale is None:
        return Change()
    return Change(
        whole.write - sum(part.write or 0.0 for part in parts),
        whole.scale - sum(part.scale or 0.0 for part in parts),
    )


def _notes(runs: Runs, closures: Sequence[object], blocks: Sequence[_Rows]) -> Iterator[str]:
    if not closures:
        yield (
            f"No direct effects: the {runs.left.metric.name} is not linear in the logits; "
            "metric=logits has them."
        )
    if "." in runs.sort and runs.right is None:
        yield f"Sorted by {runs.sort}, but there is one side only: no rows."
    if runs.sort.startswith(("total", "lost")):
        known, of = (sum(x) for x in zip(*((b.known, b.matching) for b in blocks), strict=True))
        if not known:
            yield "Sorted by total effects, none of which is computed yet."
        elif known < of:
            yield f"Total effects are computed of {known:,} of {of:,} nodes; only these have rows."
