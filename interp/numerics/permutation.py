"""Whether a mean over prompts could be chance: sign-flip permutation p-values, and what is left of
them where many are looked at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Up to so many prompts every way of flipping signs is looked at.
EXACT = 12
# Rows that are flipped together, so that many rows take little memory.
ROWS = 256


def p_values(
    per_prompt: Float[Tensor, "rows prompts"], draws: int = 10_000, seed: int = 0
) -> Float[Tensor, "rows"]:
    """Two-sided: in what share of the ways to flip the prompts' signs the mean is as far from zero.
    Exact for up to 12 prompts, else by draws, the signs as they are counted among them. float64.

    Fisher 1935, The Design of Experiments, section 21.

    >>> p_values(torch.ones(1, 4)).tolist()
    [0.125]
    """
    n = per_prompt.shape[1]
    signs = _every(n) if n <= EXACT else _drawn(n, draws, seed)
    found = [_share(rows, signs) for rows in per_prompt.double().cpu().split(ROWS)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def adjusted(p: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """The false discovery rate at which each row would just be called found, among all of them.

    Benjamini and Hochberg 1995.

    >>> adjusted(torch.tensor([0.01, 0.04, 0.03, 0.5], dtype=torch.float64)).tolist()
    [0.04, 0.05333333333333334, 0.05333333333333334, 0.5]
    """
    order = p.argsort()
    scaled = p[order] * len(p) / torch.arange(1, len(p) + 1, dtype=p.dtype)
    least = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1.0) if len(p) else scaled
    return torch.empty_like(p).index_copy_(0, order, least)


def _every(n: int) -> Float[Tensor, "ways prompts"]:
    bits = torch.arange(2**n)[:, None] >> torch.arange(n) & 1
    return 1.0 - 2.0 * bits.double()


def _drawn(n: int, draws: int, seed: int) -> Float[Tensor, "ways prompts"]:
    flips = torch.randint(2, (draws - 1, n), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.ones(1, n, dtype=torch.float64), 1.0 - 2.0 * flips.double()])


def _share(
    rows: Float[Tensor, "rows prompts"], signs: Float[Tensor, "ways prompts"]
) -> Float[Tensor, "rows"]:
    """The share of ways that are as far from zero, ties within rounding included."""
    here, size = rows.sum(1).abs(), rows.abs().sum(1)
    return ((signs @ rows.T).abs() >= here - 1e-12 * size).double().mean(0)
