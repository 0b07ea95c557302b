"""What heads attend to on a corpus: the token before, the same token, what came after the same
token; how evenly, and how far back."""

from __future__ import annotations

from collections.abc import Iterator
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


def attends(trace: Trace, skip: int) -> Iterator[Attends]:
    """Of each prompt of a run alone, its first `skip` queries left out."""
    layers = [trace[f"a{layer}.pattern"].double() for layer in range(trace.config.n_layer)]
    for row, length in enumerate(trace.batch.lengths.tolist()):
        masks = _masks(trace.tokens[row, :length])
        masks[:, : min(skip, length - 1)] = False
        weights = torch.stack([layer[row, :, :length, :length] for layer in layers])
        yield _attends(weights, masks, min(skip, length - 1))


def _attends(
    weights: Float[Tensor, "layer head pos pos"], masks: Bool[Tensor, "mask pos pos"], skip: int
) -> Attends:
    length = weights.shape[-1]
    on = torch.einsum("lhts,mts->lhm", weights, masks.double())
    rest = weights[:, :, skip:]
    back = (torch.arange(length)[:, None] - torch.arange(length)).double()[skip:]
    entropy = -torch.special.xlogy(rest, rest).sum((2, 3))
    distance = (rest * back).sum((2, 3))
    asked = [*masks.any(-1).sum(-1).tolist(), *[length - skip] * 2]
    sums = torch.cat([on, entropy[..., None], distance[..., None]], -1)
    return Attends(sums, torch.tensor(asked, dtype=torch.float64))


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
