"""Alternating timings: every contender runs once a round, so that a machine's drift falls on all of
them alike."""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

RESULTS = Path(__file__).parent / "results.jsonl"


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender over the rounds, and the share of the machine's cores that others
    used just before them and just after."""

    median: float
    low: float
    high: float
    rounds: int
    load: tuple[float, float] = (0.0, 0.0)


def alternate(
    contenders: Mapping[str, Callable[[], Any]], rounds: int = 10, warm_up: int = 2
) -> dict[str, Timing]:
    """Median and quartiles of each contender, called here and timed from outside."""
    return race(
        {name: partial(seconds, call) for name, call in contenders.items()}, rounds, warm_up
    )


def race(
    contenders: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 0
) -> dict[str, Timing]:
    """The same of contenders that say what they took; the order within a round turns, so that none
    always runs after the same other."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    names, before = list(contenders), load()
    for turn in range(warm_up + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took = contenders[name]()
            if turn >= warm_up:
                taken[name].append(took)
    around = (before, load())
    return {name: timing(values, around) for name, values in taken.items()}


def timing(values: list[float], around: tuple[float, float]) -> Timing:
    """Median and quartiles, with the load before and after."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Timing(statistics.median(values), low, high, len(values), around)


def load(seconds: float = 0.5) -> float:
    """The share of the machine's cores in use while this process sleeps: by others, then."""
    return psutil.cpu_percent(seconds) / 100


def product_peak(repeat: int = 3) -> float:
    """Operations a second of this machine's matrix product, the best of a few: the roof of every
    sweep."""
    x, w = torch.randn(4096, 768), torch.randn(768, 3072)
    return 2 * x.shape[0] * w.numel() / min(seconds(lambda: x @ w) for _ in range(repeat + 1))


def seconds(call: Callable[[], Any]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def weight_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """A short fingerprint of the weights that all contenders share."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def record(
    workload: str, timings: Mapping[str, Timing], into: Path = RESULTS, **facts: Any
) -> dict[str, Any]:
    """One JSON line: the workload, what was timed, on what; printed, and added to a file."""
    line = {
        "workload": workload,
        **facts,
        "timings": {name: asdict(t) for name, t in timings.items()},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
    }
    text = json.dumps(line)
    print(text)
    with into.open("a") as file:
        file.write(text + "\n")
    return line
