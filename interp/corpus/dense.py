"""Every number of chosen nodes at every token, as arrays on disk: as many bytes as there are
tokens, numbers and four, so that nothing is kept that was not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from interp.corpus.documents import CorpusError
from interp.corpus.windows import Windows
from minigpt import GPT2, Trace, parse

Rows = NDArray[np.float32]


def prepare(model: GPT2, windows: Windows, names: Sequence[str]) -> None:
    """Files for these nodes, as large as they will be. CorpusError for a node that does not write
    one row a token."""
    for name in names:
        with torch.inference_mode():
            values = model.run(windows[0][None])[name]
        if values.ndim != 3 or parse(name).site.kind == "pattern":
            raise CorpusError(
                f"--dense {name}: [{', '.join(map(str, values.shape[1:]))}] a prompt",
                "a node that is a row a token: resid6, m3, a5, a2.6, embed",
            )
        path = _path(windows.folder, name)
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            shape = int(windows.starts[-1]), values.shape[2]
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()


def put(trace: Trace, windows: Windows, first: int, names: Sequence[str]) -> None:
    """What nodes are in the windows of a run, from `first` on."""
    for name in names:
        rows, values = opened(windows.folder, name, "r+"), trace[name]
        for row, length in enumerate(trace.batch.lengths.tolist()):
            start = windows.starts[first + row]
            rows[start : start + length] = values[row, :length].numpy()


def opened(folder: Path, name: str, mode: str = "r") -> Rows:
    """A node's rows, window after window, of which only what is read comes into memory. CorpusError
    where they were not kept."""
    path = _path(folder, name)
    if not path.is_file():
        kept = sorted(each.stem for each in path.parent.glob("*.npy"))
        raise CorpusError(
            f"{folder} has no rows of {name}",
            ", ".join(kept) or "what was kept: nothing",
            f"interp collate CORPUS --out FOLDER --dense {name}",
        )
    rows: Rows = np.load(path, mmap_mode=mode)  # type: ignore[arg-type]
    return rows


def _path(folder: Path, name: str) -> Path:
    return folder / "dense" / f"{name}.npy"
