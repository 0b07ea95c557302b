"""What heads attend to on a corpus: the token before, the same token, what came after the same
token; how evenly, and how far back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt import Params, Trace
from minigpt.address import Site
from minigpt.shown import Shown

Roots = Float[Tensor, "head d_head d_head"]
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


class Looked(NamedTuple):
    """What the heads of a layer did in the prompts of a run: the largest write that each takes from
    one place, attention times the length of the value as it is written, [batch, pos, head]; that
    place; each prompt's sums of scores [batch, head, score], and of how many queries [batch,
    score]. Behind a prompt's end stands anything."""

    most: Float[Tensor, "batch pos head"]
    source: Int[Tensor, "batch pos head"]
    sums: Float[Tensor, "batch head score"]
    asked: Float[Tensor, "batch score"]


def looked(trace: Trace, layer: int, skip: int = 0, roots: Roots | None = None) -> Looked:
    """What a layer's heads looked at; scores without each prompt's first `skip` queries. roots:
    the layer's, where they are at hand."""
    weights = trace.weights(Site("pattern", layer)).transpose(1, 2)
    rows, heads, places, _ = weights.shape
    most = weights.new_zeros(rows, places, heads)
    source = torch.zeros(most.shape, dtype=torch.int16)
    sums = torch.zeros(rows, heads, len(SCORES), dtype=torch.float64)
    asked = torch.zeros(rows, len(SCORES), dtype=torch.float64)
    known = outputs(trace.params, layer) if roots is None else roots
    given = weights, lengths(trace, layer, known), trace.tokens, trace.batch.lengths
    out = most, source, sums, asked
    from interp.corpus import kernels  # its library is an extra

    kernels.threads()
    kernels.looks(*(x.numpy() for x in given), skip, *(x.numpy() for x in out))
    return Looked(*out)


def outputs(params: Params, layer: int) -> Roots:
    """A lower triangle for each head of a layer, float64: a value through it is as long as what the
    head writes for that value."""
    out = params.blocks[layer].w_o.double().unflatten(0, (params.config.n_head, -1))
    found: Roots = torch.linalg.qr(out.transpose(1, 2)).R.transpose(1, 2).contiguous()
    return found


def lengths(trace: Trace, layer: int, roots: Roots) -> Float[Tensor, "batch head pos"]:
    """How long what each head writes would be, were all attention at one place; float64. A prompt's
    bits do not depend on the others."""
    values = trace[f"a{layer}.v"]
    found = torch.zeros(len(values), values.shape[2], values.shape[1], dtype=torch.float64)
    from interp.corpus import kernels  # its library is an extra

    kernels.threads()
    kernels.lengths(values.contiguous().numpy(), roots.numpy(), found.numpy())
    return found


def each(layers: Sequence[Looked]) -> Iterator[Attends]:
    """What is known of all heads, prompt by prompt; layers: of one run."""
    for row in range(len(layers[0].asked)):
        yield Attends(torch.stack([layer.sums[row] for layer in layers]), layers[0].asked[row])
