"""Units in the last place: how far apart two floating-point numbers are, counted in representable
numbers.

Knows bit patterns of IEEE formats (and bfloat16, whose patterns are ordered alike). Knows nothing
of models.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt.errors import MiniGPTError

BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}
FAR = torch.iinfo(torch.int64).max


class UlpError(MiniGPTError):
    """Numbers that have no distance in units in the last place: of two types, or not
    floating-point."""


def distance(a: Float[Tensor, "*axes"], b: Float[Tensor, "*axes"]) -> Int[Tensor, "*axes"]:
    """How many steps of `nextafter` lead from a to b: 0 the same (0 and -0 too), 1 neighbours.

    int64; FAR where that does not hold it, or where just one of the two is NaN. Raises UlpError for
    different types.

    >>> int(distance(torch.tensor(1.0), torch.tensor(1.0 + 2**-22)))
    2
    """
    if a.dtype != b.dtype or a.dtype not in BITS:
        raise UlpError(
            f"the distance of {a.dtype} from {b.dtype}",
            "two tensors of one floating-point type",
            "b.to(a.dtype)",
        )
    x, y = _ordered(a), _ordered(b)
    steps = x - y
    lost = (x ^ y < 0) & (x ^ steps < 0)
    nan = a.isnan() | b.isnan()
    steps = steps.abs().masked_fill_(lost | nan, FAR)
    return steps.masked_fill_(a.isnan() & b.isnan(), 0)


def size(x: Float[Tensor, "*axes"], dtype: torch.dtype) -> Float[Tensor, "*axes"]:
    """One unit in the last place of `dtype` at x: the spacing of its numbers in the binade that
    holds |x|. float64.

    >>> float(size(torch.tensor(1.0), torch.float32)) == 2**-23
    True
    """
    kind = torch.finfo(dtype)
    lowest = int(torch.frexp(torch.tensor(kind.smallest_normal, dtype=torch.float64)).exponent)
    exponent = torch.where(x == 0, lowest, torch.frexp(x.double()).exponent.clamp(min=lowest))
    return torch.ldexp(torch.full_like(x, kind.eps, dtype=torch.float64), exponent - 1)


def error(found: Float[Tensor, "*axes"], exact: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """|found - exact| in units in the last place of found's type at the exact value, which is
    float64. Rounding alone: 0.5."""
    return (found.double() - exact.double()).abs() / size(exact, found.dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same bit for bit: shape, type, the sign of zeros and NaN
    included.

    >>> same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    False
    """
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))


def differ(a: Float[Tensor, "*axes"], b: Float[Tensor, "*axes"]) -> Bool[Tensor, "*axes"]:
    """Where the bits of two tensors of one type differ."""
    return _bits(a) != _bits(b)


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(BITS[x.dtype]) if x.dtype in BITS else x


def _ordered(x: Tensor) -> Tensor:
    """Integers in the order of the numbers, one apart where these are neighbours: a negative
    number's magnitude counts down."""
    bits = _bits(x)
    magnitude = (bits & torch.iinfo(bits.dtype).max).long()
    return torch.where(bits < 0, -magnitude, magnitude)
