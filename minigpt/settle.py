"""How matrix products are cut on this processor, so that a row's bits are its own: whatever rows
stand beside it, however many threads work at them.

A library sums a product's terms in pieces; which pieces may depend on the number of rows and of
threads. Where it does, the sum is cut here, into pieces so small that the library cuts them no
further, added in order; and in half precision, where that does not help, in float32, rounded once.
What a processor needs is measured once, in a process of its own (a few seconds), and kept with the
processor's name and the library's version. Fewer than 4 rows, and up to
11 that are no multiple of 4, are computed by other kernels everywhere: there are never so few.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

# More than there ever is: a block of this size is never cut.
WHOLE = 2**62
# Rows at which a product of several pieces is fastest (measured).
CACHED = 2048


class SettleWarning(UserWarning):
    """No way was found to make a row's bits its own at any number of threads."""


@dataclass(frozen=True)
class Cut:
    """Sums of more than `whole_terms` (by default, than a piece) go in pieces of `terms`. Rows come
    in multiples of grain, at least least of them, and, where not all at once, so many at a time.
    wide: all of it in float32, by its own cut, and rounded once."""

    terms: int = WHOLE
    grain: int = 4
    least: int = 16
    rows: int = WHOLE
    whole_terms: int = 0
    wide: bool = False

    def piece(self, terms: int) -> int:
        """How many terms of a sum of so many are added at a time."""
        return terms if terms <= max(self.terms, self.whole_terms) else self.terms

    def whole(self, n: int) -> int:
        """How many of n rows can be computed as they are; the rest is filled up."""
        return n // self.grain * self.grain if n >= self.least else 0

    def blocks(self, n: int, terms: int) -> Iterator[slice]:
        """n rows in blocks: where a sum goes in pieces, so many that they stay in the cache."""
        most = min(self.rows, CACHED if self.piece(terms) < terms else WHOLE)
        even = -(-n // -(-n // most)) if n else 1
        rows = -(-even // self.grain) * self.grain
        return (slice(start, start + rows) for start in range(0, n, rows))

    def padded(self, n: int) -> int:
        """How many rows are computed for n."""
        rest = n - self.whole(n)
        return self.whole(n) + -(-rest // self.least) * self.least


# From what costs nothing to what costs most. With the first, a product is the library's own. A
# library that sums in pieces of 384 itself still sums 512 in one: with these as they are, a row has
# the bits of its own product on one thread.
CUTS = (
    Cut(),
    Cut(terms=768),
    Cut(terms=768, least=80),
    Cut(terms=384, whole_terms=512),
    Cut(terms=384, least=80, whole_terms=512),
    Cut(terms=384),
    Cut(terms=384, least=80),
)
# Blocks of one shape, where nothing else will do: the same bits in any company, as long as the
# number of threads stays what it is.
BLOCKS = Cut(grain=128, least=128, rows=128)
# What half precision comes to where its own products are not settled, or not worth a measurement.
WIDE = Cut(wide=True)
TYPES = (torch.float32, torch.float64, torch.bfloat16)
# What is tried: terms and columns of the products of GPT-2 small, medium and the embedded model, of
# one head's own, and of narrow ones.
SHAPES = (
    *((768, 2304), (768, 768), (3072, 768), (1024, 1024), (4096, 1024)),
    *((128, 384), (128, 512), (512, 128), (64, 768), (768, 64), (16, 48), (32, 16)),
)
ROWS = (16, 20, 28, 48, 72, 84, 132, 260)
THREADS = (1, 2, 3, 4, 8)


@cache
def cut(dtype: torch.dtype) -> Cut:
    """What products of this type need here, as the first process that asked has found."""
    if dtype not in TYPES:
        return WIDE if dtype == torch.float16 else Cut()
    # What is tried belongs to the name: another version of this file measures anew.
    tried = f"{crc32(repr((CUTS, WIDE, SHAPES, ROWS, THREADS)).encode()):08x}"
    file = _folder() / f"{re.sub(r'[^A-Za-z0-9.]+', '-', f'{name()} {dtype} {tried}')}.json"
    try:
        sizes = json.loads(file.read_text())
    except (OSError, ValueError):
        sizes = _measured_apart(dtype)
        _keep(file, sizes)
    if Cut(**sizes) == BLOCKS:
        said = (
            f"{dtype} on {name()}: products are computed in blocks of {BLOCKS.rows} rows, and "
            "their last bits depend on the number of threads"
        )
        warnings.warn(SettleWarning(said), stacklevel=2)
    return Cut(**sizes)


def name() -> str:
    """The processor, and the library that computes on it."""
    return f"{_processor()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"


def _processor() -> str:
    try:
        facts = dict(
            re.split(r"\s*:\s*", line, maxsplit=1)
            for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
            if ":" in line
        )
    except OSError:
        facts = {}
    told = [facts[key] for key in ("vendor_id", "cpu family", "model") if key in facts]
    return " ".join(told) or platform.processor() or platform.machine()


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt"


def _keep(file: Path, sizes: dict[str, int]) -> None:
    """Write the file whole or not at all; where nothing can be kept, every process measures."""
    own = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(sizes))
        own.replace(file)
    except OSError:
        pass


def _measured_apart(dtype: torch.dtype) -> dict[str, int]:
    """In a process of its own, whose number of threads can be changed without being noticed."""
    command = [sys.executable, "-m", "minigpt.settle", str(dtype)[6:]]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    waiting = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_WAIT_POLICY": "PASSIVE"}
    environment = {**os.environ, **waiting}
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        sizes: dict[str, int] = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        sizes = asdict(BLOCKS)
    return sizes


def measure(dtype: torch.dtype) -> Cut:
    """The first of the cuts with which a row's bits are its own here. Changes the number of
    threads."""
    agree = (each for each in CUTS if all(_agrees(*case, each) for case in _cases(dtype)))
    return next(agree, WIDE if dtype.itemsize == 2 and cut(torch.float32) != BLOCKS else BLOCKS)


def is_plain(w: Float[Tensor, "a b"], rows: int) -> bool:
    """Whether the library's own product with w, of so many rows on this many threads, gives each
    the bits that it has among more: only then can another program's bits be promised."""
    x = torch.randn(rows + max(ROWS), len(w), generator=torch.Generator().manual_seed(0)).to(w)
    return torch.equal(x[:rows] @ w, (x @ w)[:rows])


def _cases(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Products to try; weights as the unembedding has them, transposed, last."""
    draws = torch.Generator().manual_seed(0)
    for terms, columns in SHAPES:
        x = torch.randn(max(ROWS) + 8, terms, generator=draws).to(dtype)
        w = torch.randn(terms, columns, generator=draws).div_(terms**0.5).to(dtype)
        yield x, w, torch.randn(columns, generator=draws).to(dtype)
    yield x, torch.randn(16, x.shape[1], generator=draws).to(dtype).T, x.new_zeros(16)


def _agrees(x: Tensor, w: Tensor, b: Tensor, cut: Cut) -> bool:
    """Whether some rows have the bits that they have among all, whatever the number of threads."""
    torch.set_num_threads(1)
    every = product(x, w, b, cut)
    for threads in THREADS:
        torch.set_num_threads(threads)
        for first, n in ((n % 8, n) for n in ROWS if n >= cut.least):
            if not torch.equal(product(x[first : first + n], w, b, cut), every[first : first + n]):
                return False
    return True


def product(
    x: Float[Tensor, "rows a"],
    w: Float[Tensor, "a b"],
    b: Float[Tensor, "b"] | None,
    cut: Cut,
    out: Float[Tensor, "rows b"] | None = None,
) -> Float[Tensor, "rows b"]:
    """x w + b, the sum cut; of as many rows as a product may have."""
    out = x.new_empty(len(x), w.shape[1]) if out is None else out
    piece = cut.piece(len(w))
    for start in range(0, len(w), piece):
        some = slice(start, start + piece)
        if start:
            out.addmm_(x[:, some], w[some])
        elif b is None:
            torch.mm(x[:, some], w[some], out=out)
        else:
            torch.addmm(b, x[:, some], w[some], out=out)
    return out


if __name__ == "__main__":
    print(json.dumps(asdict(measure(getattr(torch, sys.argv[1])))))
