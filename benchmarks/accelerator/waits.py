"""How often the host waits for the device during a call, at which lines, and how many kernels it
starts.

On a card torch itself says so: it warns at every wait, and its profiler lists the kernels. On a CPU
nothing waits; there a card is pretended, and operations are counted instead of kernels.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.accelerator.bench import Bench
from benchmarks.accelerator.pretend import line, pretended
from benchmarks.accelerator.report import Row
from benchmarks.setting import pairs
from minigpt import Patch, Trace
from minigpt.address import edges, heads

# Edges of the sweep: the profiler keeps every operation of theirs.
EDGES = 20
# Lines of the second table, for each call.
MOST = 12

Lines = Counter[str]


@dataclass(frozen=True)
class Kernels:
    """What a call started on the device (on a CPU: operations), and the seconds that these took."""

    count: int
    copies: int
    busy: float


def waits(call: Callable[[], Any], bench: Bench) -> Lines:
    """How often the host waits during a call, by the line of this project that makes it."""
    if bench.device.type == "cuda":
        return _warned(call)
    with pretended(bench.model) as card:
        call()
    return card.lines


def _warned(call: Callable[[], Any]) -> Lines:
    """By torch's own word, at every wait."""
    lines: Lines = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            lines[line()] += 1

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return lines


def kernels(call: Callable[[], Any], bench: Bench) -> Kernels:
    """What the profiler sees of a call."""
    card = bench.device.type == "cuda"
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * card
    with profile(activities=kinds) as seen:
        call()
        bench.finish()
    started = [event for event in seen.events() if _started(event, card)]
    copies = [event for event in started if event.name.startswith(("Memcpy", "Memset"))]
    busy = sum(event.time_range.elapsed_us() for event in started) / 1e6
    return Kernels(len(started) - len(copies), len(copies), busy)


def _started(event: Any, card: bool) -> bool:
    if card:
        return bool(event.device_type.name == "CUDA")
    return event.cpu_parent is None and event.name.startswith("aten::")


# ---- the tables


def counts(bench: Bench) -> Iterator[Row]:
    """Waits, kernels and the device's busy time of passes, reruns and a sweep, after a first call
    that warms up."""
    for what, call in calls(bench).items():
        call()
        asked, started = waits(call, bench), kernels(call, bench)
        taken = bench.seconds(call)
        yield {
            "what": what,
            "waits": asked.total(),
            "kernels": started.count,
            "copies": started.copies,
            "ms": 1e3 * taken,
            "busy ms": 1e3 * started.busy,
            "busy": started.busy / taken,
        }


def places(bench: Bench) -> Iterator[Row]:
    """The lines that wait most, of each call."""
    for what, call in calls(bench).items():
        for where, times in waits(call, bench).most_common(MOST):
            yield {"what": what, "line": where, "times": times}


def calls(bench: Bench) -> dict[str, Callable[[], Any]]:
    """What is counted, by a name; each begins with the runs that it needs."""
    model, sizes = bench.model, bench.sizes
    given = pairs(sizes.pairs, sizes.length, [3, 8, 11])
    both = [model.batch(given), model.batch(given.corrupted)]
    layer, every = model.config.n_layer // 2, list(edges(model.config))
    written, some = list(heads(model.config, layer)), every[:: len(every) // EDGES]

    def runs() -> tuple[Trace, Trace]:
        clean, corrupt = map(model.run, both)
        return clean, corrupt

    def rerun(patch: Callable[[str, Trace], Patch], address: str) -> Trace:
        clean, corrupt = runs()
        return model.rerun(clean, patch(address, corrupt))

    def sweep(patch: Callable[[str, Trace], Patch], addresses: Iterable[object]) -> Tensor:
        clean, corrupt = runs()
        return model.rerun(clean, [patch(str(x), corrupt) for x in addresses], "out@-1").values

    return {
        "forward": lambda: model.forward(both[0].tokens),
        "two runs": runs,
        "two runs and a rerun, a head": lambda: rerun(Patch.write, "a0.0"),
        "two runs and a rerun, an edge": lambda: rerun(Patch.read, "a0.0>m1.in"),
        "two runs and a sweep, a layer's heads": lambda: sweep(Patch.write, written),
        f"two runs and a sweep, {len(some)} edges": lambda: sweep(Patch.read, some),
    }
