"""A peer as a process: python -m benchmarks.peers.worker MODULE. One JSON line in, one out, the
numbers in files.

    {"load": FOLDER, "dtype": "float32"}
        -> {"workloads": [...], "versions": {...}, "threads": 2}
    {"run": WORKLOAD, "inputs": X.npz, "out": Y.npy}
        -> {"seconds": 1.5, "preparing": 0.1, "peak_mb": 900.0, "base_mb": 700.0}
    {"quit": true}      -> the process ends
    whatever fails      -> {"error": TRACEBACK}

`seconds` is the whole workload, `preparing` the part of it that does not grow with the number of
variants; reading and writing the files is in neither. `peak_mb` is the process's largest resident
size during the run, `base_mb` the size it started from.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.inputs import Inputs

PACKAGES = ("torch", "transformers", "transformer_lens", "nnsight", "numpy")


class Worker:
    """One peer with, after "load", its model."""

    def __init__(self, module: str) -> None:
        self.peer: Any = importlib.import_module(f"benchmarks.peers.{module}")
        self.model: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What one request says, done."""
        if "load" in request:
            self.model = self.peer.load(
                request["load"], getattr(torch, request.get("dtype", "float32"))
            )
            return {
                "workloads": list(self.peer.WORKLOADS),
                "versions": versions(),
                "threads": torch.get_num_threads(),
            }
        workload = self.peer.WORKLOADS[request["run"]]
        with np.load(request["inputs"]) as file:
            inputs = Inputs(dict(file))
        gc.collect()
        base = restart_peak()
        start = time.perf_counter()
        run = workload(self.model, inputs)
        prepared = time.perf_counter()
        values = run()
        end = time.perf_counter()
        np.save(request["out"], values.numpy())
        return {
            "seconds": end - start,
            "preparing": prepared - start,
            "peak_mb": resident("VmHWM"),
            "base_mb": base,
        }


def versions() -> dict[str, str]:
    """The packages that a result depends on, as far as they are here."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def restart_peak() -> float:
    """Forget the largest resident size so far; the size now. Outside Linux the peak is the
    process's whole life's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the largest), in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # what a library prints must not come between the replies
    torch.set_grad_enabled(False)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        if "quit" in request:
            return
        try:
            reply = worker.answer(request)
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
