"""How often the host waits for the device during a call, at which lines, and how many kernels it
starts.

On a card torch itself says so: it warns at every wait, and its profiler lists the kernels. On a CPU
nothing waits; there, calls are counted that would wait on a card, and operations instead of
kernels.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from benchmarks.accelerator.bench import Bench
from benchmarks.accelerator.report import Row
from benchmarks.setting import metric, pairs
from interp import patching
from minigpt import Patch
from minigpt.address import edges, heads

ROOT = Path(__file__).parents[2]
# Functions whose answer the host needs, or that carry numbers to the device.
ASKING = frozenset(
    "item tolist cpu numpy __bool__ __int__ __float__ __index__ nonzero unique equal allclose "
    "masked_select tensor as_tensor from_numpy".split()
)
INDEXING = frozenset(("__getitem__", "__setitem__"))
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


def waits(call: Callable[[], Any], device: torch.device) -> Lines:
    """How often the host waits during a call, by the line of this project that makes it."""
    return _warned(call) if device.type == "cuda" else _asked(call)


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


def _asked(call: Callable[[], Any]) -> Lines:
    """By the calls that would wait, were this a card."""
    mode = _Asked()
    with mode:
        call()
    return mode.lines


class _Asked(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in ASKING or (name in INDEXING and any(map(_is_mask, _parts(args[1])))):
            self.lines[line()] += 1
        return func(*args, **(kwargs or {}))


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype == torch.bool


def line() -> str:
    """The innermost line of this project that is being run, of a file other than this one."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


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
        asked, started = waits(call, bench.device), kernels(call, bench)
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
        for where, times in waits(call, bench.device).most_common(MOST):
            yield {"what": what, "line": where, "times": times}


def calls(bench: Bench) -> dict[str, Callable[[], Any]]:
    """What is counted, by a name."""
    model, sizes = bench.model, bench.sizes
    given = pairs(sizes.pairs, sizes.length, [3, 8, 11])
    tokens = given.batch.tokens.to(bench.device)
    clean, corrupt = model.run(given), model.run(given.corrupted)
    head, edge = Patch.write("a0.0", corrupt), Patch.read("a0.0>m1.in", corrupt)
    layer, every = model.config.n_layer // 2, list(edges(model.config))
    senders = [str(head) for head in heads(model.config, layer)]
    some = every[:: len(every) // EDGES]
    return {
        "forward": lambda: model.forward(tokens),
        "run": lambda: model.run(tokens),
        "rerun, a head": lambda: model.rerun(clean, head),
        "rerun, an edge": lambda: model.rerun(clean, edge),
        "sweep, a layer's heads to out": lambda: patching.paths(
            model, given, metric(given), senders
        ),
        f"sweep, {len(some)} edges": lambda: patching.edges(model, given, metric(given), some),
    }
