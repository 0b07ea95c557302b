"""Searches of circuits: an order of all edges by which circuits of any size are taken, found by
exact effects, at the whole model or at what is left of it or grown so far.

Scores are those of EAP-IG and MIB: the metric with an edge less that without it, so that an edge
that helps is positive. Every number is a run of the model; nothing is linearised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp.circuit.curve import SIZES, pruned, ranked
from interp.circuit.matrix import places, ports, senders
from interp.circuit.state import State
from interp.circuit.turns import Turns
from interp.executor import one_thread
from minigpt.address import edges as every_edge
from minigpt.errors import MiniGPTError

Scores = dict[str, float]
# Of the edges that are left, the share that goes in one step of a greedy search.
STEP = 0.1
# How many edges of ACDC's order are tried at once, in the hope that all of them go.
AHEAD = 8


def exact(turns: Turns, edges: Sequence[str] | None = None) -> Float[Tensor, "edges prompts"]:
    """By prompt, what is lost where one edge carries what its sender writes in the source; every
    edge of the model, unless some are given."""
    every = every_edges(turns)
    return turns.on.full - turns.metric(every, every if edges is None else edges)


def every_edges(turns: Turns) -> list[str]:
    """The edges of the model that is searched."""
    return list(every_edge(turns.on.model.config))


def blocks(turns: Turns, shares: Iterable[float] = SIZES) -> list[int]:
    """The sizes of MIB's circuits, the largest first, the whole model not among them."""
    return shares_of(len(every_edges(turns)), shares)


def shares_of(every: int, shares: Iterable[float] = SIZES) -> list[int]:
    """So many of all units, the largest first, not all of them."""
    return sorted({int(share * every) for share in shares if share < 1}, reverse=True)


def steps(turns: Turns, step: float = STEP) -> list[int]:
    """Sizes of which each is smaller than the one before by a share of it, and by one at least."""
    return steps_of(len(every_edges(turns)), step)


def steps_of(every: int, step: float = STEP) -> list[int]:
    """The same of so many units."""
    if not 0 < step < 1:
        raise MiniGPTError(f"steps of {step} of the units", "a share between 0 and 1")
    sizes = [every]
    while sizes[-1] > 1:
        sizes.append(min(sizes[-1] - 1, round(sizes[-1] * (1 - step))))
    return sizes[1:]


def removed(turns: Turns, sizes: Sequence[int], *, absolute: bool = False) -> Scores:
    """Edges removed down to each of these sizes in turn, the least useful first: what is left is
    scored anew after each step, at the state that was reached.

    absolute: those first without which the metric moves least, instead of those that help least.
    The order as scores: the last that are left are the largest.
    """
    return down(every_edges(turns), sizes, partial(lost, turns), absolute, turns.progress)


def down(
    left: list[str],
    sizes: Sequence[int],
    lost: Callable[[list[str]], Scores],
    absolute: bool,
    progress: bool,
) -> Scores:
    """The order in which units go, down to each of these sizes in turn, as scores; `lost` scores
    those that are left."""
    order = list[str]()
    for size in tqdm(sizes, desc="steps", disable=not progress, leave=False):
        ranking = ranked(lost(left), absolute=absolute)
        order += reversed(ranking[size:])
        kept = set(ranking[:size])
        left = order_of(left, kept)
    order += reversed(ranked(lost(left), absolute=absolute))
    return {unit: float(rank) for rank, unit in enumerate(order, 1)}


def lost(turns: Turns, circuit: Sequence[str]) -> Scores:
    """Of each edge of a circuit, what is lost without it on average; nothing, exactly, where no
    path from the input to the output goes through it."""
    heard = pruned(circuit)
    found = dict.fromkeys(circuit, 0.0)
    if heard:
        base = turns.base(circuit)
        change = (base - turns.metric(circuit, heard)).mean(1)
        found |= zip(heard, change.tolist(), strict=True)
    return found


def added(turns: Turns, *, most: int | None = None, step: float = STEP) -> Scores:
    """Circuits grown from the output back: each time, of the edges into ports that the circuit has,
    those are added with which most is won where they carry what their senders write in the whole
    model; their senders' ports are the next to grow from.

    most: how many edges are added, all unless given; the order as scores.
    """
    config = turns.on.model.config
    every, order = every_edges(turns), list[str]()
    total = len(every) if most is None else min(most, len(every))
    at, names = places(config), senders(config)
    bar = tqdm(total=total, unit=" added", disable=not turns.progress, leave=False)
    with bar:
        while len(order) < total:
            reached = {"out"} | {names[at[edge][0]] for edge in order}
            inside = set(order)
            open_ = [e for e in every if e not in inside and _reader(e) in reached]
            base = turns.base(order_of(every, inside))
            won = (turns.metric(order_of(every, inside), open_, whole=True) - base).mean(1)
            scores = dict(zip(open_, won.tolist(), strict=True))
            size = min(total - len(order), max(1, round(step * len(order))))
            order += ranked(scores)[:size]
            bar.update(len(order) - bar.n)
    rank = {edge: float(len(order) - i) for i, edge in enumerate(order)}
    return {edge: rank.get(edge, 0.0) for edge in every}


def order_of(every: Sequence[str], inside: set[str]) -> list[str]:
    """Some edges, in the order of all."""
    return [edge for edge in every if edge in inside]


def _reader(edge: str) -> str:
    """The node whose port an edge ends at."""
    port = edge.split(">")[1]
    return port if port == "out" else port.rpartition(".")[0]


def acdc(turns: Turns, threshold: float, *, absolute: bool = False) -> list[str]:
    """The edges that are left by ACDC's order (Conmy et al. 2023, algorithm 1), each effect exact:
    from the output back, an edge is removed for good where the metric then falls by less than
    `threshold` from what it was, with absolute=True where it moves by less."""
    config = turns.on.model.config
    kept = set(every_edges(turns))
    order = reversed(range(len(ports(config))))
    for port in tqdm([*order], desc="ports", disable=not turns.progress, leave=False):
        mine = [edge for edge, (_, to) in places(config).items() if to == port]
        with one_thread():
            state = turns.on.state(order_of(every_edges(turns), kept))
            kept -= set(_through(state, port, mine[::-1], config, threshold, absolute))
    return pruned(order_of(every_edges(turns), kept))


def _through(
    state: State, port: int, edges: Sequence[str], config: Any, threshold: float, absolute: bool
) -> list[str]:
    """Which edges into one port go, tried one after the other; several are tried at once, and what
    was found beyond one that stays is tried again."""
    at, gone, i = places(config), list[str](), 0
    before = float(state.metric.mean())
    while i < len(edges):
        some = edges[i : i + AHEAD]
        weights = torch.zeros(len(some), len(senders(config)))
        for row in range(len(some)):
            weights[row, [at[edge][0] for edge in [*gone, *some[: row + 1]]]] = 1
        for after in state.changed(port, weights).mean(1).tolist():
            i += 1
            fall = before - after
            if (abs(fall) if absolute else fall) >= threshold:
                break
            gone.append(edges[i - 1])
            before = after
    return gone


def auroc(scores: Mapping[str, float], known: Iterable[str]) -> float:
    """The chance that an edge of the true circuit has a larger score, in size, than one that is
    none; ties count half."""
    true = set(known)
    if strange := sorted(true - set(scores)):
        raise MiniGPTError(f"no scores of {', '.join(strange[:5])}", "scores of all edges")
    ranks: dict[bool, list[float]] = {True: [], False: []}
    for edge, score in scores.items():
        ranks[edge in true].append(abs(score))
    inside, outside = (torch.tensor(ranks[side], dtype=torch.float64) for side in (True, False))
    if not len(inside) or not len(outside):
        raise MiniGPTError("all edges on one side", "some that belong and some that do not")
    more = (inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside)
    return float(more.mean())
