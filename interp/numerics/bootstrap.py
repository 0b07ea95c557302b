"""How far a mean over prompts can be trusted: percentile bootstrap intervals."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def interval(
    per_prompt: Float[Tensor, "rows prompts"],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Float[Tensor, "rows 2"]:
    """Ends of the interval of each row's mean; with one prompt there is nothing to resample: NaN.
    float64.

    >>> interval(torch.ones(1, 8)).tolist()
    [[1.0, 1.0]]
    """
    n = per_prompt.shape[1]
    if n < 2 or not len(per_prompt):
        return torch.full((len(per_prompt), 2), torch.nan, dtype=torch.float64)
    draws = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(
        1, draws, torch.full(draws.shape, 1 / n, dtype=torch.float64)
    )
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return torch.stack([torch.quantile(weights @ row, ends) for row in per_prompt.double().cpu()])
