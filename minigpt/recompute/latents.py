"""What a dictionary makes of the rows of a recalculation: what latents, the decoder's bias and the
error write there, before edits of them.

Where a row is as it was in the run that is patched, so are its parts; elsewhere they are read off
what is written, or what stands in the stream, now: edits of neurons, heads and biases in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.device import sent
from minigpt.recompute.plan import Plan
from minigpt.recompute.rows import taken
from minigpt.split import Split


@dataclass(eq=False)
class Latents:
    """The parts of what one attention layer or MLP writes, or of a stream point. rows: where these
    may differ from the patched run's; split: the parts at some of those rows."""

    plan: Plan
    rows: Int[Tensor, "rows"]
    split: Callable[[Site, Tensor], Split]
    _last: dict[bytes, Split] = field(default_factory=dict)

    def own(self, part: Site, ids: Int[Tensor, "ids"]) -> Float[Tensor, "ids d_model"]:
        """What a part writes."""
        return self._new(part, ids, self.plan.clean_write(part), lambda s: s.write(part))

    def unit(self, latent: Site, ids: Int[Tensor, "ids"]) -> Float[Tensor, "ids d_model"]:
        """What a latent writes for each unit of its activation."""
        clean = self.plan.trace.split(latent).unit(latent)
        clean = clean.expand(*self.plan.trace.tokens.shape, -1).flatten(0, 1)
        return self._new(latent, ids, clean, lambda s: s.unit(latent))

    def _new(
        self, part: Site, ids: Tensor, clean: Tensor, read: Callable[[Split], Tensor]
    ) -> Float[Tensor, "ids d_model"]:
        """Rows of the patched run, with what is read off the parts where they may differ."""
        found, hit = taken(clean, ids % self.plan.n), torch.isin(ids, self.rows)
        if bool(hit.any()):
            where = sent(hit.nonzero().flatten(), found)
            found.index_copy_(0, where, read(self._at(part, ids[hit])).expand(len(where), -1))
        return found

    def _at(self, part: Site, ids: Tensor) -> Split:
        """The parts at these rows; those asked for last are kept, for the next part of them."""
        key = ids.numpy().tobytes()
        if key not in self._last:
            self._last = {key: self.split(part, ids)}
        return self._last[key]
