"""Two ways to compute the same values, side by side: every node and stream point of a run by name,
and what differs.

Names are addresses, but for act(m3), what goes into MLP 3's output product, and logits. They stand
in the order of computing, so that the first name that differs is where a difference arises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from interp.numerics import ulp
from minigpt import Site, Trace
from minigpt.shown import Shown

Values = Mapping[str, Tensor]


@dataclass(frozen=True, repr=False)
class Gap(Shown):
    """What differs: of `size` numbers `differ` in their bits, by at most `absolute` and `ulps`,
    first at `first`."""

    size: int
    differ: int = 0
    absolute: float = 0.0
    ulps: int = 0
    first: str = ""

    def __add__(self, other: Gap) -> Gap:
        return Gap(
            self.size + other.size,
            self.differ + other.differ,
            max(self.absolute, other.absolute),
            max(self.ulps, other.ulps),
            self.first or other.first,
        )

    def __str__(self) -> str:
        if not self.size:
            return "nothing was compared"
        if not self.differ:
            return f"the same bits: {self.size:,} numbers"
        ulps = f"{self.ulps:,} ULP" if self.ulps < ulp.FAR else "no distance in ULP"
        return (
            f"{self.differ:,} of {self.size:,} differ, by up to {self.absolute:.1e} ({ulps}), "
            f"first at {self.first}"
        )


def compare(ours: Values, theirs: Values) -> Gap:
    """What differs in the values that both have, in our order."""
    return total(_gap(name, x, theirs[name]) for name, x in ours.items() if name in theirs)


def total(gaps: Iterable[Gap]) -> Gap:
    """Several comparisons as one."""
    return sum(gaps, Gap(0))


def values(trace: Trace, rows: Int[Tensor, "some"] | slice = slice(None)) -> dict[str, Tensor]:
    """Every node and stream point of some prompts of a run, all of one length: name -> [prompts,
    pos, ...]."""
    width = int(trace.batch.lengths[rows].max())
    return {name: x[rows][:, :width] for name, x in _every(trace)}


def groups(lengths: Int[Tensor, "batch"]) -> Iterator[Int[Tensor, "some"]]:
    """The rows of each length."""
    for n in torch.unique(lengths).tolist():
        yield (lengths == n).nonzero().flatten()


def _every(trace: Trace) -> Iterator[tuple[str, Tensor]]:
    for layer, cells in enumerate(trace.cells):
        yield f"resid{layer}", cells.resid
        yield from zip(
            (f"a{layer}.{port}" for port in "qkv"), cells.qkv.chunk(3, dim=-1), strict=True
        )
        yield f"a{layer}.z", cells.z
        yield f"a{layer}", trace.write(Site("attn", layer))
        yield f"resid{layer}.mid", cells.mid
        yield f"act(m{layer})", cells.act
        yield f"m{layer}", trace.write(Site("mlp", layer))
    yield f"resid{len(trace.cells)}", trace.cells[-1].out
    yield "out", trace["out"]
    yield "logits", trace.logits


def _gap(name: str, a: Tensor, b: Tensor) -> Gap:
    if ulp.same_bits(a, b):
        return Gap(a.numel())
    if a.shape != b.shape:
        return Gap(a.numel(), a.numel(), float("inf"), ulp.FAR, name)
    return Gap(
        a.numel(),
        int(ulp.differ(a, b).sum()),
        float((a.double() - b.double()).abs().max()),
        int(ulp.distance(a, b).max()),
        name,
    )
