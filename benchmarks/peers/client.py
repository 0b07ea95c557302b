"""The benchmark's side of a peer.

    with Peer("tl2") as peer:
        peer.load(folder)            # a Hugging Face folder: config.json, model.safetensors
        seconds, values = peer.run("w3_out", {"clean": ..., "corrupt": ..., ...})
        peer.reply["peak_mb"]        # the rest of what the worker measured

The environments tl2, tl4 and nnsight lie in .bench-venv/, or in the folder that BENCH_VENVS names;
`hooks` runs in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"hooks": "hooks", "tl2": "tl2", "tl4": "tl4", "nnsight": "nnsight_"}
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}


class PeerError(RuntimeError):
    """A peer that is not installed, failed, or ended; with what it said."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment; PeerError where the environment is not there."""
    if peer not in MODULES:
        raise PeerError(f"no peer is called '{peer}'; there are {', '.join(MODULES)}")
    if peer == "hooks":
        return Path(sys.executable)
    python = (
        Path(os.environ.get("BENCH_VENVS") or ROOT / ".bench-venv").absolute()
        / peer
        / "bin"
        / "python"
    )
    if not python.exists():
        raise PeerError(
            f"the environment of '{peer}' is not at {python.parents[1]}: make one from "
            f"benchmarks/peers/requirements-{peer}.txt, or name the folder of environments in "
            "BENCH_VENVS"
        )
    return python


class Peer:
    """A worker process. `workloads` are those that it offers, once loaded; `reply` holds all of its
    last answer."""

    def __init__(self, name: str, threads: int | None = None) -> None:
        """`threads` for its matrix products; as this process's environment says where none are
        given."""
        self.name = name
        self.workloads: tuple[str, ...] = ()
        self.reply: dict[str, Any] = {}
        limit = (
            {}
            if threads is None
            else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        )
        python = python_of(name)
        self._scratch = tempfile.TemporaryDirectory(prefix=f"peer-{name}-")
        self._log = Path(self._scratch.name) / "log.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", MODULES[name]],
                cwd=ROOT,
                env=os.environ | QUIET | limit,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def load(self, folder: str | Path, dtype: str = "float32") -> dict[str, Any]:
        """Load a Hugging Face folder; the worker's versions and threads."""
        reply = self._ask({"load": str(Path(folder).resolve()), "dtype": dtype})
        self.workloads = tuple(reply["workloads"])
        return reply

    def run(self, workload: str, inputs: Mapping[str, Any]) -> tuple[float, np.ndarray]:
        """Seconds that the worker took, and its numbers."""
        if workload not in self.workloads:
            offered = ", ".join(self.workloads) or "none before load()"
            raise PeerError(f"'{self.name}' has no workload '{workload}'; it has {offered}")
        given, out = (str(Path(self._scratch.name) / name) for name in ("inputs.npz", "out.npy"))
        np.savez(given, **inputs)
        reply = self._ask({"run": workload, "inputs": given, "out": out})
        return reply["seconds"], np.load(out)

    def close(self) -> None:
        """End the worker."""
        if self._process.poll() is None:
            try:
                self._process.communicate(json.dumps({"quit": True}) + "\n", timeout=30)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self._process.kill()
                self._process.wait()
        self._scratch.cleanup()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(
                f"'{self.name}' ended ({self._process.wait()}) at "
                f"{request}:\n{self._log.read_text()[-4000:]}"
            )
        self.reply = json.loads(line)
        if "error" in self.reply:
            raise PeerError(f"'{self.name}' failed at {request}:\n{self.reply['error']}")
        return self.reply
