"""How many threads a command takes: as many as there are cores that nobody else works on.

On two cores of which one was taken, two threads took up to 33 times as long as one: they wait for
each other. The numbers are the same bits with any number (docs/engine.md).
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import torch

LOAD = Path("/proc/loadavg")
# Whoever says how many threads there are is left alone.
SAID = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def choose() -> str:
    """Take as many threads as are free; what is to be said of it, if they are fewer than torch
    would take."""
    usual = torch.get_num_threads()
    if any(name in os.environ for name in SAID) or not LOAD.exists():
        return ""
    free = max(1, min(usual, (os.cpu_count() or 1) - others()))
    if free == usual:
        return ""
    torch.set_num_threads(free)
    return (
        f"{free} thread{'s' * (free > 1)} instead of {usual}: others work on this machine "
        f"({SAID[0]}={usual} in front of the command says otherwise)"
    )


def others(samples: int = 9, apart: float = 0.004) -> int:
    """How many other threads of this machine want a core: the median of a few looks."""
    seen = []
    for _ in range(samples):
        seen.append(int(LOAD.read_text().split()[3].partition("/")[0]) - 1)
        time.sleep(apart)
    return max(0, round(statistics.median(seen)))
