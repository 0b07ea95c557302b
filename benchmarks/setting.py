"""What all sweeps share: a full-size random GPT-2, pairs of prompts, and a contest between this
project and a peer's sample.

A peer that needs hours for all variants runs a sample of them; its time for all is preparing +
(seconds - preparing) * all / sample. Before anything is timed, both must have computed the same
metric values. The roof is the same arithmetic at the speed of one large matrix product, measured
before and after: no implementation of these rows can be faster, and the ratio there is the best
there is.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import weights
from benchmarks import runner
from benchmarks.peers.check import make_folder
from benchmarks.peers.client import Peer
from interp import metrics
from interp.effects import Effects
from interp.tasks import Prompts
from minigpt import GPT2
from minigpt.params import tensors
from minigpt.recompute.rerun import full_flops

# Largest difference of the metric between two implementations in float32, as a share of the
# metric's own size.
AGREE = 1e-4


@dataclass(frozen=True)
class Setting:
    """A model, in a folder for peers too."""

    folder: Path
    model: GPT2
    weights: str


@contextlib.contextmanager
def setting() -> Iterator[Setting]:
    """Full-size GPT-2 with random weights, the same for all contenders."""
    with tempfile.TemporaryDirectory() as place:
        make_folder(Path(place))
        model = weights.load(Path(place))
        yield Setting(Path(place), model, runner.weight_hash(tensors(model.params)))


def pairs(batch: int, length: int, differ: Sequence[int], seed: int = 0) -> Prompts:
    """Random prompts whose corrupt twins differ at these positions only."""
    rng = np.random.default_rng(seed)
    clean = torch.from_numpy(rng.integers(0, 50257, (batch, length)))
    corrupt = clean.clone()
    corrupt[:, differ] = torch.from_numpy(rng.integers(0, 50257, (batch, len(differ))))
    answers, distractors = torch.from_numpy(rng.integers(0, 50257, (2, batch)))
    return Prompts(clean, corrupt, answers, distractors, {"MID": torch.full((batch,), length // 2)})


def arrays(given: Prompts, **more: Any) -> dict[str, Any]:
    """The prompts as a peer takes them."""
    assert given.distractors is not None
    return {
        "clean": np.asarray(given.clean),
        "corrupt": np.asarray(given.corrupt),
        "answers": np.asarray(given.answers)[:, 0],
        "distractors": np.asarray(given.distractors)[:, 0],
        **more,
    }


@dataclass(frozen=True)
class Contest:
    """One workload: our sweep over all variants; the peer's workload over a sample, and which of
    our rows that sample is."""

    name: str
    ours: Callable[[], Effects]
    peer: str
    workload: str
    inputs: Mapping[str, Any]
    sample: Sequence[int]
    target: float | None = None


def run(contest: Contest, place: Setting, rounds: int) -> dict[str, Any]:
    """One contest with a peer of its own; one line of results."""
    with peer_of(contest.peer, place) as peer:
        return measure(contest, place, peer, rounds)


@contextlib.contextmanager
def peer_of(name: str, place: Setting) -> Iterator[Peer]:
    """A peer with as many threads as this process, and the same model."""
    with Peer(name, torch.get_num_threads()) as peer:
        peer.load(place.folder)
        yield peer


def measure(
    contest: Contest, place: Setting, peer: Peer, rounds: int, **record: Any
) -> dict[str, Any]:
    """Alternate, after both have computed the same; one line of results."""
    peak = runner.product_peak()
    found, values = contest.ours(), peer.run(contest.workload, contest.inputs)[1]
    gap = agreement((found.per_prompt + found.base)[list(contest.sample)].numpy(), values)
    timings = runner.race(
        {
            "ours": partial(runner.seconds, contest.ours),
            "peer": lambda: scaled(peer, contest, len(found)),
        },
        rounds,
    )
    ours, theirs = timings["ours"].median, timings["peer"].median
    peak = max(peak, runner.product_peak())
    return runner.record(
        contest.name,
        timings,
        peer=contest.peer,
        method=contest.workload,
        variants=len(found),
        prompts=len(found.base),
        sample=len(contest.sample),
        weights=place.weights,
        gap=gap,
        ratio=theirs / ours,
        target=contest.target,
        variants_per_second=len(found) / ours,
        **against_roof(found, base_flops(contest, place), ours, theirs, peak),
        **record,
    )


def base_flops(contest: Contest, place: Setting) -> int:
    """The arithmetic of the clean and the corrupt run, which every sweep starts from."""
    return sum(
        full_flops(place.model.run(torch.from_numpy(contest.inputs[side])))
        for side in ("clean", "corrupt")
    )


def against_roof(
    found: Effects, base: int, ours: float, theirs: float, peak: float
) -> dict[str, float]:
    """The arithmetic of everything timed, and how near its speed is to that of one large
    product."""
    receipt = found.receipt
    assert receipt is not None
    floor = (receipt.needed_flops + base) / peak
    over = (
        receipt.flops / receipt.needed_flops if receipt.needed_flops else 1.0
    )  # a direct edge to the output needs no row
    return {
        "gflop": (receipt.flops + base) / 1e9,
        "flops_over_needed": over,
        "peak_gflops": peak / 1e9,
        "floor": floor,
        "share_of_peak": floor / ours,
        "ratio_at_floor": theirs / floor,
    }


def scaled(peer: Peer, contest: Contest, total: int) -> float:
    """A peer's seconds for all variants, from its sample."""
    seconds, _ = peer.run(contest.workload, contest.inputs)
    preparing = float(peer.reply.get("preparing", 0.0))
    return preparing + (seconds - preparing) * total / len(contest.sample)


def agreement(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the largest number; AssertionError where it is no
    rounding."""
    gap = float(np.abs(mine - theirs).max() / np.abs(mine).max())
    assert gap < AGREE, f"the two did not compute the same numbers: {gap:.2e} apart"
    return gap


def metric(given: Prompts) -> metrics.Metric:
    """The logit difference at the last position."""
    return metrics.logit_diff(given)


def rounds(default: int = 3) -> int:
    """--rounds of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=default)
    return int(parser.parse_args().rounds)
