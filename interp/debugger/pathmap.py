"""Path patching from every head to the question's receivers, from the other prompt: a map of layers
x heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from interp import patching
from interp.debugger.session import Runs
from interp.debugger.totals import CHUNK
from interp.effects import Effects
from minigpt import Config, parse
from minigpt.address import heads
from minigpt.receipt import Receipt
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class PathMap(Shown):
    """cells [layer][head]: how the metric changes (IOI meaning, see patching.paths), None where not
    computed yet; receivers and the position as asked; done of so many heads. before: whether
    the question has interventions, which play no part in it."""

    method: str
    metric_name: str
    metric: float
    receivers: tuple[str, ...]
    at: str
    before: bool
    cells: tuple[tuple[float | None, ...], ...]
    receipt: str
    done: int
    of: int


def pathmaps(runs: Runs) -> Iterator[PathMap]:
    """The map, more of it each time; QuestionError without another prompt of as many tokens.

    Of the two prompts' runs as they are: interventions play no part in it.
    """
    q, pairs, metric = runs.question, runs.pairs, runs.left.metric
    at, receivers = None if q.at == "all" else parse(f"emb@{q.at}").at, q.receivers or ("out",)
    return _chunks(
        runs, partial(patching.paths, runs.model, pairs, metric, receivers=receivers, at=at)
    )


def pathmap(runs: Runs) -> PathMap:
    """The whole map."""
    *_, last = pathmaps(runs)
    return last


def _chunks(runs: Runs, patched: Callable[..., Effects]) -> Iterator[PathMap]:
    """A layer's heads at a time, and chunks of them where prompts are long."""
    q, config, done, receipt = runs.question, runs.model.config, 0, Receipt()
    cells: list[list[float | None]] = [[None] * config.n_head for _ in range(config.n_layer)]
    for layer, first, names in _senders(config, _size(runs)):
        effects = patched(names)
        cells[layer][first : first + len(names)] = effects.values.tolist()
        done, receipt = done + len(names), receipt + (effects.receipt or Receipt())
        yield PathMap(
            effects.method,
            effects.metric,
            float(effects.base[0]),
            q.receivers or ("out",),
            q.at,
            bool(q.patches),
            tuple(map(tuple, cells)),
            str(receipt),
            done,
            config.n_layer * config.n_head,
        )


def _size(runs: Runs) -> int:
    """How many heads at a time."""
    return max(1, CHUNK // (len(runs.left.tokens) if runs.question.at == "all" else 1))


def _senders(config: Config, size: int) -> Iterator[tuple[int, int, list[str]]]:
    """The layer of each chunk, its first head, and its heads."""
    for layer in range(config.n_layer):
        names = list(map(str, heads(config, layer)))
        for first in range(0, len(names), size):
            yield layer, first, names[first : first + size]
