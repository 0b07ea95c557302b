"""A write, or a stream point, as the parts that a dictionary splits it into: latents, the decoder's
bias and the error, which is what is left over. Together they are the whole.

Of activations every part goes through W_out; what a layer's own bias adds is none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from minigpt import ops
from minigpt.address import Site
from minigpt.dictionary import Dictionary
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Split(Shown):
    """The parts at some rows. x: what the dictionary reads there; wrote: what was written there,
    before edits of the parts; through, beside: W_out and what the layer's own bias writes, where
    activations are split."""

    dictionary: Dictionary
    x: Float[Tensor, "*rows d_in"]
    wrote: Float[Tensor, "*rows d_model"]
    through: Float[Tensor, "d_mlp d_model"] | None = None
    beside: Float[Tensor, "*rows d_model"] | None = None

    @cached_property
    def whole(self) -> Float[Tensor, "*rows d_model"]:
        """What the parts sum to."""
        return self.wrote if self.beside is None else self.wrote - self.beside

    @cached_property
    def act(self) -> Float[Tensor, "*rows n"]:
        """Every latent's activation."""
        return self.dictionary.encode(self.x)

    def write(self, site: Site) -> Float[Tensor, "*rows d_model"]:
        """What a part writes into the stream; of "m3.l", what all latents write together."""
        kind = site.kind.partition(".")[2]
        if kind == "l":
            return self.act[..., site.part, None] * self.unit(site)
        bias = self._out(self.dictionary.bias(self.x))
        if kind == "l.b":
            return bias
        decoded = self._out(self.dictionary.decode(self.act, self.x))
        return decoded - bias if kind == "ls" else self.whole - decoded

    def unit(self, latent: Site) -> Float[Tensor, "*rows d_model"]:
        """What a latent writes for each unit of its activation."""
        return self._out(self.dictionary.direction(latent.part or 0, self.x))

    def _out(self, x: Float[Tensor, "*rows d_out"]) -> Float[Tensor, "*rows d_model"]:
        return x if self.through is None else ops.settled(x, self.through)
