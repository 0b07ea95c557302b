"""How much of an answer a feature graph accounts for: replacement and completeness (Ameisen et al.
2025, Circuit Tracing).

Weights into a node, by size, are shares that sum to one. A node's influence is the sum over all
paths from it to the output of the products of their shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt import parse
from minigpt.shown import Shown


@dataclass(frozen=True)
class Scores(Shown):
    """replacement: the share of the tokens' influence in that of tokens and errors. completeness:
    the share of what comes into nodes that is no error, weighted by their influence; tokens and
    errors, into which nothing comes, count whole."""

    replacement: float
    completeness: float


def scores(
    senders: Sequence[str], receivers: Sequence[str], weights: Float[Tensor, "receivers senders"]
) -> Scores:
    """Of a graph whose last receiver is the output, receivers being among the senders otherwise."""
    shares, found = normalised(weights), influence(senders, receivers, weights)
    kinds = [kind(sender) for sender in senders]
    token, error = (torch.tensor([each == which for each in kinds]) for which in ("token", "error"))
    tokens, errors = float(found[token].sum()), float(found[error].sum())
    wrong = dict(zip(receivers, shares[:, error].sum(1).tolist(), strict=True))
    output = wrong.pop(receivers[-1])
    lost = output + sum(
        float(x) * wrong.get(name, 0.0) for name, x in zip(senders, found, strict=True)
    )
    return Scores(tokens / (tokens + errors), 1 - lost / (1 + float(found.sum())))


def influence(
    senders: Sequence[str], receivers: Sequence[str], weights: Float[Tensor, "receivers senders"]
) -> Float[Tensor, "senders"]:
    """Each sender's influence on the last of the receivers."""
    shares, row = normalised(weights), {r: i for i, r in enumerate(receivers)}
    passing = torch.zeros(len(senders), len(senders), dtype=torch.float64)
    for j, sender in enumerate(senders):
        if sender in row:
            passing[j] = shares[row[sender]]
    found, now = torch.zeros_like(shares[-1]), shares[-1]
    while now.any():  # edges go forward, so that paths end
        found, now = found + now, now @ passing
    return found


def normalised(weights: Float[Tensor, "receivers senders"]) -> Float[Tensor, "receivers senders"]:
    """Each receiver's weights by size, as shares of their sum."""
    sizes = weights.abs().double()
    total = sizes.sum(1, keepdim=True)
    return torch.where(total > 0, sizes / total, 0)


def kind(sender: str) -> str:
    """ "token", "head", "latent" or "error", of a node that writes."""
    site = parse(sender).site
    if site.kind == "emb":
        return "token"
    if site.part is None:
        return "error"
    return "head" if site.kind == "attn" else "latent"
