"""What rounding may do at most, before anything is computed (a priori), and sums that lose less.

Higham = N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002. Every
bound holds for any order of the operations, and barring under- and overflow. Bounds are float64
tensors; `dtype` is the type of the arithmetic that is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff u: half the distance from 1 to the next larger number (Higham, section
    2.1).

    >>> unit(torch.float32) == 2**-24
    True
    """
    return torch.finfo(dtype).eps / 2


def said(bound: float) -> float:
    """A bound as it is said, in nine digits and not below itself: its last bits depend on where in
    memory its numbers lay."""
    return float(f"{bound * (1 + 1e-8):.8e}")


def gamma(n: int, dtype: torch.dtype) -> float:
    """n u / (1 - n u), which bounds the product of n factors (1 + d) with |d| <= u (Higham, lemma
    3.1); infinite from n u = 1 on."""
    share = n * unit(dtype)
    return share / (1 - share) if share < 1 else math.inf


def product(
    x: Float[Tensor, "*rows a"],
    w: Float[Tensor, "a b"],
    dtype: torch.dtype,
    bias: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, "*rows b"]:
    """How far x w (+ bias) may be from exact: gamma(n) |x| |w| of n terms (Higham, eq. 3.5), the
    bias being one term more."""
    sizes = x.abs().double() @ w.abs().double()
    if bias is None:
        return gamma(len(w), dtype) * sizes
    return gamma(len(w) + 1, dtype) * (sizes + bias.double().abs())


def added(result: Float[Tensor, "*axes"], dtype: torch.dtype) -> Float[Tensor, "*axes"]:
    """How far one sum of two numbers may be from exact, from its rounded result: u |result|
    (Higham, eq. 2.5)."""
    return unit(dtype) * result.double().abs()


def summed(
    x: Float[Tensor, "*rows n"], dtype: torch.dtype, method: str = "any"
) -> Float[Tensor, "*rows"]:
    """How far a sum over the last axis may be from exact.

    "any" order: gamma(n - 1) sum |x| (Higham, eq. 4.4); "compensated": u |sum| + gamma(n - 1)^2
    sum |x| (Ogita, Rump, Oishi 2005, Accurate Sum and Dot Product, proposition 4.5).
    """
    n, sizes = x.shape[-1], x.double().abs().sum(-1)
    if method == "compensated":
        return unit(dtype) * x.double().sum(-1).abs() + gamma(n - 1, dtype) ** 2 * sizes
    return gamma(n - 1, dtype) * sizes


def compensated(terms: Sequence[Float[Tensor, "*axes"]]) -> Float[Tensor, "*axes"]:
    """The sum of one tensor or more as if in twice the precision, then rounded: what each addition
    loses is kept and added at the end.

    Sum2 of Ogita, Rump and Oishi (2005), algorithm 4.4; Higham, section 4.3, tells its history.

    >>> terms = [torch.tensor(x) for x in (1.0, 2.0**-24, 2.0**-24)]
    >>> float(sum(terms)), float(compensated(terms))
    (1.0, 1.0000001192092896)
    """
    total, lost = terms[0], torch.zeros_like(terms[0])
    for term in terms[1:]:
        total, rest = two_sum(total, term)
        lost = lost + rest
    return total + lost


def two_sum(a: Float[Tensor, "*axes"], b: Float[Tensor, "*axes"]) -> tuple[Tensor, Tensor]:
    """a + b rounded, and exactly what that lost (Knuth 1998, The Art of Computer Programming 2,
    section 4.2.2, theorem B).

    >>> [float(x) for x in two_sum(torch.tensor(1.0), torch.tensor(2.0**-30))]
    [1.0, 9.313225746154785e-10]
    """
    total = a + b
    mine = total - a
    return total, (a - (total - mine)) + (b - mine)
