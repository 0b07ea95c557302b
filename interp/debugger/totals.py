"""Exact total effects, a chunk at a time: stop asking, and nothing more is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from interp.debugger.both import Both, both
from interp.debugger.intervene import compiled
from interp.debugger.place import Place
from interp.debugger.question import MAX_K, QuestionError
from interp.debugger.session import Runs, Side
from minigpt import GPT2, parse
from minigpt.address import heads
from minigpt.errors import PatchError
from minigpt.patch import Patch
from minigpt.receipt import Receipt
from minigpt.shown import Shown

# Rows (variants times positions) of one chunk: enough for good products, few enough that stopping
# is felt at once.
CHUNK = 512
MAX_ADDRESSES = 4 * MAX_K


@dataclass(frozen=True, repr=False)
class Totals(Shown):
    """Some of the effects: how the metric changes, by address (None where an intervention already
    decides that node), and progress."""

    effects: dict[str, Both]
    done: int
    of: int
    receipt: str


def totals(runs: Runs, addresses: Sequence[str] | None = None) -> Iterator[Totals]:
    """The change of the metric when each node is `instead` (0, mean(reference) or other),
    everything after it computed again.

    addresses: rows' addresses, "a2.6" (everywhere), "a2.6@13", or what a head takes from one
    position, "a2.6@13<3"; without them every head and every MLP, everywhere.
    """
    names = list(dict.fromkeys(_everywhere(runs) if addresses is None else addresses))
    if len(names) > MAX_ADDRESSES:
        raise QuestionError(f"{len(names)} addresses", f"up to {MAX_ADDRESSES}")
    edits = [[_edit(name, runs, side) for side in runs.sides] for name in names]
    return _chunks(runs, names, edits)


def complete(runs: Runs, addresses: Sequence[str] | None = None) -> Totals:
    """All of them at once."""
    effects: dict[str, Both] = {}
    last = Totals({}, 0, 0, "")
    for last in totals(runs, addresses):
        effects |= last.effects
    return Totals(effects, last.done, last.of, last.receipt)


def _chunks(
    runs: Runs, names: Sequence[str], edits: Sequence[Sequence[Patch | None]]
) -> Iterator[Totals]:
    """The effects of names on each side, where None is no edit."""
    waiting, done, receipt = iter(zip(names, edits, strict=True)), 0, Receipt()
    while chunk := list(islice(waiting, max(1, CHUNK // len(runs.left.tokens)))):
        columns = []
        for i, side in enumerate(runs.sides):
            effects, spent = effects_of(runs.model, side, [each[i] for _, each in chunk])
            columns.append(effects)
            receipt += spent
        done += len(chunk)
        yield Totals(
            {name: both(*ends) for (name, _), *ends in zip(chunk, *columns, strict=True)},
            done,
            len(names),
            str(receipt),
        )


def effects_of(
    model: GPT2, side: Side, edits: Sequence[Patch | None]
) -> tuple[list[float], Receipt]:
    """The metric after each edit, on top of the side's own patch, less the metric; NaN where there
    is none."""
    patches = [side.patch | edit for edit in edits if edit is not None]
    if not patches:
        return [math.nan] * len(edits), Receipt()
    after, receipt = side.metric.after(model, side.base, patches)
    changes = iter((after - side.metric(side.trace))[:, 0].tolist())
    return [math.nan if edit is None else next(changes) for edit in edits], receipt


def _everywhere(runs: Runs) -> list[str]:
    return [
        *map(str, heads(runs.model.config)),
        *(f"m{layer}" for layer in range(runs.model.config.n_layer)),
    ]


def edit(line: str, side: Side) -> Patch | None:
    """A line as an edit on top of a side's own patch; None where that already decides the same
    thing."""
    patch = compiled([line], side.sources)
    return patch if _fits(patch, side) else None


def _edit(name: str, runs: Runs, side: Side) -> Patch | None:
    """The edit that ablates or replaces a node on a side; None where it has no such position, or an
    intervention decides that node."""
    if parse(name, runs.model.config).at is None:
        return edit(f"{name} = {runs.question.instead}", side)
    place = Place.parse(name, runs.left.trace)
    there = place if side is runs.left else place.under(runs.twins)
    return None if there is None else edit(f"{there} = {runs.question.instead}", side)


def _fits(patch: Patch, side: Side) -> bool:
    try:
        return bool(side.patch | patch)
    except PatchError:
        return False
