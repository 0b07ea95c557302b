"""Why does a head look there, why is a neuron on: the score taken apart into every earlier write,
and each edge's exact effect.

A step: "a3.1.q@13<9" the score of head a3.1 at query 13, key 9 through its query (.k: its key;
"a3.1@13<9": both); "a3.1.v@13<9" what it takes from position 9 ("a3.1.v@13": from all), measured by
the metric or by the step before it; "m2.n17@5" a neuron's activation before the GELU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interp.debugger.align import inverse
from interp.debugger.both import Both, both
from interp.debugger.parts import Key, Parts, exact, is_node, parts
from interp.debugger.place import Place, kind
from interp.debugger.question import QuestionError
from interp.debugger.score import STATED, places, score, words
from interp.debugger.session import Runs, Side
from minigpt import Site, parse
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Source(Shown):
    """An earlier write at a position: the edge to the score's port, its direct effect (they sum to
    the score), its exact effect.

    exact: how the score changes when this edge alone carries `instead`, LayerNorm computed again.
    None for the port's own biases. address: the sender's row ("a2.6@13"), "" where it is no node.
    """

    edge: str
    address: str
    kind: str
    position: int
    token: str
    direct: Both
    exact: Both


@dataclass(frozen=True, repr=False)
class Upstream(Shown):
    """One step. words: the question it asks; stated: what is frozen; trail: every step's words;
    rest, sum, gap, bound as in a Table."""

    step: str
    words: str
    stated: str
    trail: tuple[str, ...]
    sides: tuple[str, ...]
    score: Both
    sources: tuple[Source, ...]
    rest: Both
    sum: Both
    gap: float
    bound: float


def upstream(runs: Runs, depth: int | None = None) -> Upstream:
    """The last step of the question's trail (or the one at `depth`, from 0): the top and bottom k
    sources, by direct effect."""
    trail = _trail(runs, depth)
    sides = _parts(runs, trail)
    keys = sides[0].ends(runs.question.k)
    values = [float(side.score.value) for side in sides]
    sums = [float(side.values.sum()) for side in sides]
    shown = [sum(side[key] or 0.0 for key in keys) for side in sides]
    asked = tuple(_words(runs, trail[: i + 1]) for i in range(len(trail)))
    return Upstream(
        str(trail[-1]),
        asked[-1],
        STATED,
        asked,
        tuple(side.name for side in runs.sides),
        both(*values),
        _sources(runs, sides, keys),
        both(*(total - part for total, part in zip(sums, shown, strict=True))),
        both(*sums),
        max(abs(total - value) for total, value in zip(sums, values, strict=True)),
        max(side.bound for side in sides),
    )


def _words(runs: Runs, trail: Sequence[Place]) -> str:
    return words(trail, runs.left.tokens, runs.left.metric.name)


def steps(runs: Runs, address: str) -> dict[str, str]:
    """The steps that can be taken from a row's address (a head without a key: to where it looks
    most), and the question each asks."""
    place, trace = Place.parse(address, runs.left.trace), runs.left.trace
    site = place.site
    if site.part is None or site.is_latent:
        return {}
    if site.kind == "mlp":
        return {str(place): _words(runs, [place])}
    key = int(trace[f"{site}.pattern@{place.at}"][0].argmax()) if place.key is None else place.key
    scores = [
        Place(Site(kind, site.layer, site.part), place.at, key) for kind in ("q", "k", "attn")
    ]
    values = [Place(Site("v", site.layer, site.part), place.at, place.key)]
    trail = places(runs)
    return {str(step): _words(runs, [step]) for step in scores} | {
        str(step): _words(runs, [*trail, step]) for step in values
    }


def _trail(runs: Runs, depth: int | None) -> tuple[Place, ...]:
    """The steps up to the one that is asked about."""
    trail = places(runs)
    if not trail or not -len(trail) <= (depth or 0) < len(trail):
        raise QuestionError(
            "a step upstream without a trail" if not trail else f"step {depth} of {len(trail)}",
            "steps such as 'a3.4.q@13<1', 'a3.4.v@13', 'm2.n17@5'",
            "trail=a3.4.q@13<1",
        )
    return trail if depth is None else trail[: range(len(trail))[depth] + 1]


def _parts(runs: Runs, trail: Sequence[Place]) -> list[Parts]:
    """The score's parts on each side, the right side's positions called as on the left."""
    sides = [_side(runs, runs.left, trail, lambda at: at)]
    if runs.right is not None:
        there = [step.under(runs.twins) for step in trail]
        if None in there:
            raise QuestionError(
                f"'{trail[there.index(None)]}' has no twin on the other prompt",
                "positions that both prompts have",
            )
        back = inverse(runs.twins, len(runs.right.tokens))
        sides.append(
            _side(
                runs,
                runs.right,
                [step for step in there if step is not None],
                lambda at: -1 - at if (here := back[at]) is None else here,
            )
        )
    return sides


def _side(runs: Runs, side: Side, trail: Sequence[Place], place: Callable[[int], int]) -> Parts:
    """The parts on one side, whose positions are called by `place`."""
    split, called = runs.question.split, tuple(place(at) for at in range(len(side.tokens)))
    found: Parts = runs.kept.get(
        (side.read, "parts", tuple(map(str, trail)), split, called),
        lambda: parts(side.trace, score(side, trail), split, place),
    )
    return found


def _instead(runs: Runs) -> str:
    if runs.question.instead == "other" and runs.other is None:
        raise QuestionError(
            "instead='other' without another prompt", "a second prompt, or instead=0"
        )
    return runs.question.instead


def _sources(runs: Runs, sides: Sequence[Parts], keys: Sequence[Key]) -> tuple[Source, ...]:
    """What each part adds, and what its edge's other write changes."""
    changes = [
        exact(side.trace, parts, keys, _instead(runs), side.sources)
        for side, parts in zip(runs.sides, sides, strict=True)
    ]
    return tuple(_source(key, sides, changes, runs) for key in keys)


def _source(
    key: Key, sides: Sequence[Parts], changes: Sequence[dict[Key, float]], runs: Runs
) -> Source:
    sender, port, at = key
    node = is_node(sender)
    return Source(
        f"{sender}>{port}@{at}" if node else f"{sender}, {port}@{at}",
        f"{sender}@{at}" if node else "",
        _kind(sender),
        at,
        runs.left.tokens[at],
        both(*(side[key] for side in sides)),
        both(*(change.get(key) for change in changes)),
    )


def _kind(sender: str) -> str:
    """As in the node table."""
    if not is_node(sender):
        return "edit" if sender.startswith("edit") else "bias"
    return kind(parse(sender).site)
