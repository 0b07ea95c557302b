"""Path patching from every head to the question's receivers, from the other prompt: a map of layers
x heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from interp import patching
from interp.debugger.session import Runs
from interp.debugger.totals import CHUNK
from interp.effects import Effects
from minigpt import Config, parse
from minigpt.address import heads
from minigpt.receipt import Receipt


@dataclass(frozen=True)
class PathMap:
    """cells [layer][head]: how the metric changes (IOI meaning, see patching.paths), None where not
    computed yet; receivers and the position as asked; done of so many heads."""

    method: str
    metric_name: str
    metric: float
    receivers: tuple[str, ...]
    at: str
    cells: tuple[tuple[float | None, ...], ...]
    receipt: str
    done: int
    of: int


def pathmaps(runs: Runs) -> Iterator[PathMap]:
    """The map, more of it each time; QuestionError without another prompt of as many tokens.

    Of the two prompts' runs as they are: interventions play no part in it.
    """
    q, config, pairs = runs.question, runs.model.config, runs.pairs
    at, receivers = None if q.at == "all" else parse(f"emb@{q.at}").at, q.receivers or ("out",)
    return _layers(
        runs,
        [_senders(config, layer) for layer in range(config.n_layer)],
        partial(patching.paths, runs.model, pairs, runs.left.metric, receivers=receivers, at=at),
    )


def pathmap(runs: Runs) -> PathMap:
    """The whole map."""
    *_, last = pathmaps(runs)
    return last


def _layers(
    runs: Runs, senders: Sequence[list[str]], patched: Callable[..., Effects]
) -> Iterator[PathMap]:
    """A layer's heads at a time, and chunks of them where prompts are long."""
    q, config, done, receipt = runs.question, runs.model.config, 0, Receipt()
    cells: list[list[float | None]] = [[None] * config.n_head for _ in range(config.n_layer)]
    size = max(1, CHUNK // (len(runs.left.tokens) if q.at == "all" else 1))
    for layer, names in enumerate(senders):
        for start in range(0, len(names), size):
            found = patched(names[start : start + size])
            cells[layer][start : start + size] = found.values.tolist()
            done, receipt = done + len(found), receipt + (found.receipt or Receipt())
            yield PathMap(
                found.method,
                found.metric,
                float(found.base[0]),
                q.receivers or ("out",),
                q.at,
                tuple(map(tuple, cells)),
                str(receipt),
                done,
                config.n_layer * config.n_head,
            )


def _senders(config: Config, layer: int) -> list[str]:
    return [str(site) for site in heads(config, layer)]
