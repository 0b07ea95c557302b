"""What all sweeps share: a full-size random GPT-2, pairs of prompts, and a contest between this project and a peer's sample.

A peer that needs hours for all variants runs a sample of them; its time for all is preparing + (seconds - preparing) * all / sample.
Before anything is timed, both must have computed the same metric values.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

# Largest difference of the metric between two implementations in float32, as a share of the metric's own size.
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
    return {"clean": np.asarray(given.clean), "corrupt": np.asarray(given.corrupt), "answers": np.asarray(given.answers)[:, 0],
            "distractors": np.asarray(given.distractors)[:, 0], **more}


@dataclass(frozen=True)
class Contest:
    """One workload: our sweep over all variants; the peer's workload over a sample, and which of our rows that sample is."""

    name: str
    ours: Callable[[], Effects]
    peer: str
    workload: str
    inputs: Mapping[str, Any]
    sample: Sequence[int]
    target: float


def run(contest: Contest, place: Setting, rounds: int) -> dict[str, Any]:
    """Alternate, after both have computed the same; one line of results."""
    with Peer(contest.peer, torch.get_num_threads()) as peer:
        peer.load(place.folder)
        found, values = contest.ours(), peer.run(contest.workload, contest.inputs)[1]
        gap = agreement(found, values, contest.sample)
        theirs: list[float] = []
        timings = runner.alternate({"ours": contest.ours, "peer": lambda: theirs.append(scaled(peer, contest, len(found)))}, rounds, warm_up=0)
        timings["peer"] = runner.timing(theirs)
    receipt = found.receipt
    assert receipt is not None
    peak = runner.product_peak()
    seconds = timings["ours"].median
    return runner.record(contest.name, timings, peer=contest.peer, variants=len(found), prompts=int(found.per_prompt.shape[1]), sample=len(contest.sample),
                         weights=place.weights, gap=gap, ratio=timings["peer"].median / seconds, target=contest.target,
                         variants_per_second=len(found) / seconds, gflop=receipt.flops / 1e9, flops_over_needed=receipt.flops / receipt.needed_flops,
                         peak_gflops=peak / 1e9, share_of_peak=receipt.needed_flops / seconds / peak)


def scaled(peer: Peer, contest: Contest, total: int) -> float:
    """A peer's seconds for all variants, from its sample."""
    seconds, _ = peer.run(contest.workload, contest.inputs)
    preparing = float(peer.reply.get("preparing", 0.0))
    return preparing + (seconds - preparing) * total / len(contest.sample)


def agreement(found: Effects, values: np.ndarray, sample: Sequence[int]) -> float:
    """The largest difference of the patched metric, as a share of its own size; AssertionError where it is no rounding."""
    mine = (found.per_prompt + found.base)[list(sample)].numpy()
    gap = float(np.abs(mine - values).max() / np.abs(mine).max())
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
