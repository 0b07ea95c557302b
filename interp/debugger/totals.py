"""Exact total effects, a chunk at a time: stop asking, and nothing more is computed. What was
computed once is kept, and comes at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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

# Rows (positions of all variants that are computed again) of one chunk: enough for good products,
# few enough that stopping is felt at once.
CHUNK = 1024
MAX_ADDRESSES = 4 * MAX_K
There = Place | str | None
# An effect on one side, and what its chunk took.
Kept = tuple[float, Receipt]


@dataclass(frozen=True, repr=False)
class Totals(Shown):
    """Some of the effects: how the metric changes, by address (None where an intervention already
    decides that node), and progress. receipt: what computing those done took, now or before."""

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
    nodes = {name: [_there(name, runs, side) for side in runs.sides] for name in names}
    edits = {
        name: [_edit(there, runs, side) for there, side in zip(ends, runs.sides, strict=True)]
        for name, ends in nodes.items()
    }
    return _chunks(runs, nodes, edits)


def complete(runs: Runs, addresses: Sequence[str] | None = None) -> Totals:
    """All of them at once, as they were asked for."""
    return deque(so_far(runs, addresses), maxlen=1)[0]


def so_far(runs: Runs, addresses: Sequence[str] | None = None) -> Iterator[Totals]:
    """All that are known after each chunk, in the order in which they were asked for."""
    names = list(dict.fromkeys(_everywhere(runs) if addresses is None else addresses))
    effects: dict[str, Both] = {}
    if not names:
        yield Totals({}, 0, 0, "")
    for chunk in totals(runs, names):
        effects |= chunk.effects
        known = {name: effects[name] for name in names if name in effects}
        yield replace(chunk, effects=known)


def _chunks(
    runs: Runs,
    nodes: Mapping[str, Sequence[There]],
    edits: Mapping[str, Sequence[Patch | None]],
) -> Iterator[Totals]:
    """The effects of names on each side, where None is no edit: first those that are kept."""
    keys = {name: _keys(runs, ends) for name, ends in nodes.items()}
    found: dict[str, list[Any]] = {
        name: [runs.kept.known(key) for key in ends] for name, ends in keys.items()
    }
    kept: dict[str, list[Kept]] = {name: ends for name, ends in found.items() if None not in ends}
    spent = {id(receipt): receipt for ends in kept.values() for _, receipt in ends}
    done, receipt = len(kept), sum(spent.values(), Receipt())
    if kept:
        yield Totals(_both(kept), done, len(edits), str(receipt))
    for chunk in _portions(runs, {name: nodes[name][0] for name in nodes if name not in kept}):
        made: dict[str, list[Kept]] = {name: [] for name in chunk}
        for i, side in enumerate(runs.sides):
            effects, one = effects_of(runs.model, side, [edits[name][i] for name in chunk])
            receipt += one
            for name, effect in zip(chunk, effects, strict=True):
                made[name].append((effect, one))
                runs.kept.keep(keys[name][i], (effect, one))
        done += len(chunk)
        yield Totals(_both(made), done, len(edits), str(receipt))


def _both(effects: Mapping[str, Sequence[Kept]]) -> dict[str, Both]:
    return {name: both(*(effect for effect, _ in ends)) for name, ends in effects.items()}


def _keys(runs: Runs, ends: Sequence[There]) -> list[Hashable]:
    """By what an effect is kept: the side, the node there, and what is put in its place."""
    q = runs.question
    instead = (q.instead, *(() if q.instead == "0" else (q.prompt, q.other, q.reference)))
    return [
        (side.read, "total", str(there), instead)
        for side, there in zip(runs.sides, ends, strict=True)
    ]


def _portions(runs: Runs, nodes: Mapping[str, There]) -> Iterator[list[str]]:
    """Names by so many as are computed together: the rows of a node are those from its position
    on."""
    portion: list[str] = []
    rows, n = 0, len(runs.left.tokens)
    for name, there in nodes.items():
        own = n - there.at if isinstance(there, Place) else n
        if portion and rows + own > CHUNK:
            yield portion
            portion, rows = [], 0
        portion, rows = [*portion, name], rows + own
    if portion:
        yield portion


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
    return patch if fits(patch, side) else None


def _there(name: str, runs: Runs, side: Side) -> There:
    """The place on a side that an address names on the left; the address, where it is everywhere;
    None where there is no such position."""
    if parse(name, runs.model.config).at is None:
        return name
    place = Place.parse(name, runs.left.trace)
    return place if side is runs.left else place.under(runs.twins)


def _edit(there: There, runs: Runs, side: Side) -> Patch | None:
    """The edit that ablates or replaces a node on a side; None where there is no such node, or an
    intervention decides it."""
    return None if there is None else edit(f"{there} = {runs.question.instead}", side)


def fits(patch: Patch, side: Side) -> bool:
    """Whether a patch can stand beside the side's own."""
    try:
        return bool(side.patch | patch)
    except PatchError:
        return False
