"""The bill of a rerun: what edits wrote, what changed by it, and the arithmetic that was done."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from minigpt import ops
from minigpt.shown import Shown


@dataclass(eq=False, repr=False)
class Receipt(Shown):
    """What a rerun did: cells that edits wrote, those that thereby changed, rows computed anew over
    all products, and the arithmetic.

    needed_flops is the arithmetic of the dirty and wanted rows alone, flops with what settled sizes
    add; full_flops is that of as many full runs.
    """

    written: int = 0
    changed: int = 0
    recomputed: int = 0
    flops: int = 0
    needed_flops: int = 0
    full_flops: int = 0

    def spend(self, rows: int, padded: int, each: int) -> None:
        """Enter a product: `rows` rows, computed as `padded`, at `each` operations a row."""
        self.recomputed += rows
        self.needed_flops += rows * each
        self.flops += padded * each

    def linear(
        self, x: Float[Tensor, "rows a"], w: Float[Tensor, "a b"], b: Float[Tensor, "b"]
    ) -> Float[Tensor, "rows b"]:
        """x w + b at a settled number of rows, on the bill."""
        if not len(x):
            return x.new_zeros(0, w.shape[1])
        self.spend(len(x), ops.cut_of(x).padded(len(x)), 2 * w.shape[0] * w.shape[1])
        return ops.settled(x, w, b)

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def __str__(self) -> str:
        share = f" ({self.flops / self.full_flops:.2%} of full runs)" if self.full_flops else ""
        return (
            f"{self.written:,} cells written, {self.changed:,} changed, {self.recomputed:,} "
            f"rows recomputed, {self.flops / 1e9:,.3f} GFLOP{share}"
        )
