"""How far a run's predictions and rankings are from those of a better run."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp.effects import Effects


def kl(
    found: Float[Tensor, "*rows vocab"], exact: Float[Tensor, "*rows vocab"]
) -> Float[Tensor, "*rows"]:
    """KL divergence in nats of the found prediction from the exact one, from logits."""
    p, q = exact.double().log_softmax(-1), found.double().log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="none").sum(-1)


def flips(found: Float[Tensor, "*rows vocab"], exact: Float[Tensor, "*rows vocab"]) -> int:
    """How many predictions have another top token."""
    return int((found.argmax(-1) != exact.argmax(-1)).sum())


def kept(found: Effects, exact: Effects, n: int = 10) -> int:
    """How many of the n addresses of the largest effects are the same."""
    return len(set(found.top(n).addresses) & set(exact.top(n).addresses))


def rank_correlation(found: Effects, exact: Effects) -> float:
    """Spearman's: the correlation of the ranks of the mean effects, of the same addresses in the
    same order."""
    ranks = torch.stack(
        [effects.values.double().argsort().argsort().double() for effects in (found, exact)]
    )
    return float(torch.corrcoef(ranks)[0, 1])
