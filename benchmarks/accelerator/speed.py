"""What passes and sweeps take, beside transformers and torch hooks on it, in one run and in turns.

Before two are timed they must have computed the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.accelerator.bench import Bench, Placed
from benchmarks.accelerator.report import Row
from benchmarks.peers import hooks
from benchmarks.peers.check import columns
from benchmarks.setting import agreement, arrays, metric, pairs
from benchmarks.w1_edges import peer_edge
from interp import patching
from interp.effects import Effects
from interp.tasks import Prompts
from minigpt import Trace
from minigpt.address import edges
from minigpt.recompute.sweep import full_flops

# Variants of a sweep that the peer runs; its time for all follows from these.
SAMPLE = 12


# ---- single passes


def forward(bench: Bench) -> Iterator[Row]:
    """Milliseconds of a pass: ours plain, ours with everything kept, transformers' two."""
    for batch, length in bench.sizes.shapes:
        tokens = bench.tokens(batch, length)
        timings = bench.race(_contenders(bench, tokens))
        yield _passes(bench, tokens, {name: t.median for name, t in timings.items()})


def _contenders(bench: Bench, tokens: Tensor) -> dict[str, Callable[[], Tensor | Trace]]:
    ours, eager, sdpa = bench.model, bench.theirs["eager"], bench.theirs["sdpa"]
    return {
        "forward": lambda: ours.forward(tokens),
        "run": lambda: ours.run(tokens),
        "run and logits": lambda: ours.run(tokens).logits,
        "eager": lambda: eager(tokens, use_cache=False).logits,
        "sdpa": lambda: sdpa(tokens, use_cache=False).logits,
    }


def _passes(bench: Bench, tokens: Tensor, seconds: dict[str, float]) -> Row:
    batch, length = tokens.shape
    unembedding = 2 * tokens.numel() * bench.model.params.unembed.numel()
    work = full_flops(bench.model.run(tokens)) + unembedding
    return {
        "batch x tokens": f"{batch} x {length}",
        **{f"{name}, ms": 1e3 * taken for name, taken in seconds.items()},
        "trace / forward": seconds["run and logits"] / seconds["forward"],
        "forward / eager": seconds["forward"] / seconds["eager"],
        "forward's share of peak": work / seconds["forward"] / bench.peak,
    }


# ---- sweeps


@dataclass(frozen=True)
class Contest:
    """One sweep of ours over all variants, and the same with hooks over a sample of them.

    variants: ours. whole: those of the full question, of which ours may be a part.
    """

    name: str
    prompts: Prompts
    ours: Callable[[], Effects]
    workload: str
    inputs: Placed
    sample: list[int]
    variants: int
    whole: int


def sweeps(bench: Bench) -> Iterator[Row]:
    """W1 and W2, edges of one pair and of many; W3, paths from every head to the output and to
    four heads' values, in both meanings."""
    yield measured(bench, edge_contest(bench, 1, bench.sizes.edges))
    yield measured(bench, edge_contest(bench, bench.sizes.crowd, bench.sizes.crowd_edges))
    for values in (False, True):
        for mlps in ("recompute", "frozen"):
            yield measured(bench, path_contest(bench, values, mlps))


def activation(bench: Bench) -> Iterator[Row]:
    """Activation patching of every head at all positions, the hooks' every variant too."""
    for batch in (bench.sizes.pairs, 4 * bench.sizes.pairs):
        yield measured(bench, head_contest(bench, batch))


def head_contest(bench: Bench, batch: int) -> Contest:
    """Every head of the corrupt runs written from the clean ones."""
    given = pairs(batch, bench.sizes.length, [bench.sizes.length // 2])
    heads = len(every_head(bench))
    return Contest(
        f"activation patching, {heads} heads, {batch} pairs",
        given,
        lambda: patching.nodes(bench.model, given, metric(given)),
        "heads_by_pos",
        placed(bench, given),
        list(range(heads)),
        heads,
        heads,
    )


def edge_contest(bench: Bench, batch: int, count: int) -> Contest:
    """This many of all edges, of pairs that differ in one token."""
    given = pairs(batch, bench.sizes.length - 1, [10])
    every = list(edges(bench.model.config))
    chosen = np.random.default_rng(0).choice(len(every), min(count, len(every)), replace=False)
    some = [every[i] for i in chosen]
    sample = spread(len(some))
    return Contest(
        f"{len(some)} of {len(every)} edges, {batch} pair{'s' * (batch > 1)}",
        given,
        lambda: patching.edges(bench.model, given, metric(given), some),
        "w1_edges",
        placed(bench, given, **columns([peer_edge(some[i]) for i in sample])),
        sample,
        len(some),
        len(every),
    )


def path_contest(bench: Bench, values: bool, mlps: str) -> Contest:
    """From every head to the output, or to some heads' values at a middle position."""
    sizes, heads = bench.sizes, every_head(bench)
    given, sample = pairs(sizes.pairs, sizes.length, [3, 8, 11]), spread(len(heads))
    ports = [f"a{layer}.{head}.v" for layer, head in sizes.receivers]
    where: dict[str, Any] = {"receivers": ports, "at": "MID"} if values else {}
    more = {"receivers": np.array(sizes.receivers), "position": np.array(sizes.length // 2)}
    to = f"{len(ports)} heads' v" if values else "out"
    meaning = "IOI" if mlps == "recompute" else "edge"
    return Contest(
        f"paths, {len(heads)} heads to {to}, {meaning} meaning, {sizes.pairs} pairs",
        given,
        lambda: patching.paths(bench.model, given, metric(given), mlps=mlps, **where),
        f"w3_{'v' if values else 'out'}{'' if meaning == 'IOI' else '_frozen'}",
        placed(
            bench,
            given,
            senders=np.array([heads[i] for i in sample]),
            **(more if values else {}),
        ),
        sample,
        len(heads),
        len(heads),
    )


def measured(bench: Bench, contest: Contest) -> Row:
    """A contest's row: first the same numbers, then both in turns."""
    bench.clear()
    effects: list[Effects] = []
    memory = bench.memory(lambda: effects.append(contest.ours()))
    mine = (effects[0].per_prompt + effects[0].base)[contest.sample].cpu().numpy()
    gap = agreement(mine, _peer(bench, contest)[1].cpu().numpy())
    timings = bench.rounds(
        {
            "ours": lambda: bench.seconds(contest.ours),
            "hooks": lambda: _peer(bench, contest)[0],
        }
    )
    return {
        "sweep": contest.name,
        **_speed(contest, effects[0], timings["ours"].median, timings["hooks"].median),
        **_arithmetic(bench, contest, effects[0], timings["ours"].median),
        "peak GB": memory,
        "rounds": timings["ours"].rounds,
        "gap": gap,
    }


def _speed(contest: Contest, effects: Effects, ours: float, theirs: float) -> dict[str, Any]:
    """Seconds, and pairs a second: of the whole question, where this is a part of it."""
    share = len(effects) / contest.whole
    return {
        "seconds": ours,
        "variants/s": len(effects) / ours,
        "pairs/s": len(contest.prompts) * share / ours,
        "hooks' seconds": theirs,
        "hooks / ours": theirs / ours,
    }


def _arithmetic(bench: Bench, contest: Contest, effects: Effects, ours: float) -> dict[str, Any]:
    """How near a sweep comes to the speed of one large product, the two runs that it starts from
    counted in."""
    receipt = effects.receipt
    assert receipt is not None
    base = 2 * full_flops(bench.model.run(contest.prompts))
    return {
        "TFLOP": (receipt.flops + base) / 1e12,
        "share of peak": (receipt.needed_flops + base) / bench.peak / ours,
    }


def _peer(bench: Bench, contest: Contest) -> tuple[float, Tensor]:
    """Hooks on transformers: seconds for all of ours' variants, and the sample's numbers."""
    calls: list[Callable[[], Tensor]] = []
    values: list[Tensor] = []
    workload = hooks.WORKLOADS[contest.workload]
    preparing = bench.seconds(lambda: calls.append(workload(bench.theirs["sdpa"], contest.inputs)))
    taken = bench.seconds(lambda: values.append(calls[0]()))
    return preparing + taken * contest.variants / len(contest.sample), values[0]


# ---- small tools


def placed(bench: Bench, given: Prompts, **more: Any) -> Placed:
    """Pairs as hooks take them, on the device."""
    return Placed(arrays(given, **more), bench.device)


def every_head(bench: Bench) -> list[tuple[int, int]]:
    """(layer, head) of all."""
    c = bench.model.config
    return [(layer, head) for layer in range(c.n_layer) for head in range(c.n_head)]


def spread(total: int) -> list[int]:
    """Which variants the peer runs, evenly."""
    return list(range(0, total, max(1, total // SAMPLE)))[:SAMPLE]
