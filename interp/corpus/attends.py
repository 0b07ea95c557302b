"""What heads attend to on a corpus: the token before, the same token, what came after the same token;
how evenly, and how far back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt import Trace
from minigpt.shown import Shown

SCORES = ("previous", "duplicate", "induction", "entropy", "distance")


@dataclass(frozen=True, eq=False, repr=False)
class Attends(Shown):
    """Sums over queries, [layer, head, score], and over how many of them, [score]: previous, the
    weight on the token before; duplicate, on earlier times of the same token; induction, on what
    came after them; entropy in nats; distance in tokens. Queries that have no such key do not
    count."""

    sums: Float[Tensor, "layer head score"]
    counts: Float[Tensor, "score"]

    @property
    def means(self) -> Float[Tensor, "layer head score"]:
        """Each score, NaN where nothing was counted."""
        return self.sums / self.counts

    def __or__(self, other: Attends) -> Attends:
        return Attends(self.sums + other.sums, self.counts + other.counts)

    @classmethod
    def none(cls, layers: int, heads: int) -> Attends:
        """Of nothing."""
        kind = torch.float64
        return cls(
            torch.zeros(layers, heads, len(SCORES), dtype=kind),
            torch.zeros(len(SCORES), dtype=kind),
        )


def attends(trace: Trace, row: int, length: int, skip: int) -> Attends:
    """Of one prompt, its first `skip` queries left out."""
    tokens = trace.tokens[row, :length]
    masks = _masks(tokens)
    masks[:, :skip] = False
    asked = torch.stack([*masks.any(-1).sum(-1), *[torch.tensor(max(0, length - skip))] * 2])
    back = (torch.arange(length)[:, None] - torch.arange(length)).double()
    sums = []
    for layer in range(trace.config.n_layer):
        weights = trace[f"a{layer}.pattern"][row, :, :length, :length].double()
        on = torch.einsum("hts,mts->hm", weights, masks.double())
        rest = weights[:, skip:]
        entropy = -torch.special.xlogy(rest, rest).sum((1, 2))
        distance = (rest * back[skip:]).sum((1, 2))
        sums.append(torch.cat([on, entropy[:, None], distance[:, None]], 1))
    return Attends(torch.stack(sums), asked.double())


def _masks(tokens: Int[Tensor, "pos"]) -> Bool[Tensor, "mask pos key"]:
    """The keys of each query that are the token before, the same token, what came after it."""
    length = len(tokens)
    earlier = torch.ones(length, length, dtype=torch.bool).tril(-1)
    same = (tokens[:, None] == tokens) & earlier
    previous = torch.zeros_like(same)
    previous[range(1, length), range(length - 1)] = True
    after = torch.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    return torch.stack([previous, same, after])
