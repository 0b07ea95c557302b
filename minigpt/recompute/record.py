"""What a patch comes down to: one thing that is put at one stage of one layer's pass, at some rows
of a run, in some variants.

A row is one (variant, prompt, position), numbered variant * n + prompt * width + position; n rows
make one run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from minigpt.address import SPLIT, Site
from minigpt.config import Config
from minigpt.patch.edit import Source
from minigpt.recompute.values import Values

# The stage at which a write to a site of this kind acts. A layer's stages in order: resid, resid.l,
# port (q, k, v), pattern, pair, z, attn, attn.l, mid, mid.l, port (in), act, mlp, mlp.l; before
# them all emb, after them all port (out), out.b.
STAGE = {
    **dict.fromkeys(("emb", "pos", "input"), "emb"),
    **dict.fromkeys(("attn", "attn.b"), "attn"),
    **dict.fromkeys(("mlp", "mlp.b"), "mlp"),
    **{f"{whole}.{part}": f"{whole}.l" for whole in SPLIT for part in ("l", "l.b", "e")},
    **dict.fromkeys(("q", "k", "v", "in", "out"), "port"),
    **{kind: kind for kind in ("resid", "mid", "pattern", "pair", "z", "out.b")},
}
# The stage that is a cell of the trace, where the numbers lie that a node's write is made of.
CELL = {"attn": "z", "z": "z", "mlp": "act"}


@dataclass(eq=False)
class Record:
    """At this stage, what stands in `columns` for the site at `rows` of each of the variants
    becomes `values`; or (how "+=" or "*=") what the pass computes there, plus or times these.

    values: None leaves what the pass computes, whatever is held. sender: at stage "port", of an
    edge, whose port sees its stream plus (values - what the sender wrote). held: gives way to the
    records that are not. own: the values are those of the run that is patched, so that rows which
    nothing else changed stay as they are.
    """

    stage: str
    site: Site
    rows: Int[Tensor, "rows"]
    values: Values | None
    n: int
    source: Source
    columns: slice
    sender: Site | None = None
    held: bool = False
    own: bool = False
    how: str = "="
    variants: list[int] = field(default_factory=list)

    @property
    def layer(self) -> int:
        """The layer of its stage; 0 where the stage has none."""
        return self.site.depth

    @property
    def whole(self) -> bool:
        """Whether it is of a layer's whole cell, not of a head or a neuron."""
        return self.site.part is None

    @property
    def decides(self) -> bool:
        """Whether what the pass computes there does not matter."""
        return self.values is not None and self.how == "="

    @property
    def activates(self) -> bool:
        """Whether it is a number for a latent: its activation, which is put or added."""
        number = self.source.number is not None and self.how != "*="
        return number and self.sender is None and self.site.kind.endswith(".l")

    @cached_property
    def ids(self) -> Int[Tensor, "ids"]:
        """The rows' numbers among all variants, in order; to be asked for once all variants are
        known."""
        return (torch.tensor(self.variants)[:, None] * self.n + self.rows).flatten()

    def at(self, ids: Int[Tensor, "ids"], computed: Callable[[], Tensor]) -> Tensor:
        """What stands at some of `ids`, given what the pass computes there."""
        values = self.given(ids)
        return values if self.how == "=" else self.laid(values, computed())

    def given(self, ids: Int[Tensor, "ids"]) -> Tensor:
        """The values at some of `ids`."""
        assert self.values is not None
        return self.values(ids % self.n)

    def laid(self, values: Tensor, computed: Tensor) -> Tensor:
        """Values put in the place of what is computed, added to it, or multiplied with it."""
        if self.how == "=":
            return values
        return computed + values if self.how == "+=" else computed * values

    @property
    def order(self) -> tuple[object, ...]:
        """In a cell what is held first, since it gives way; then a fixed order for what is summed
        at one row, so that a patch's sums are the same alone and among others."""
        sites = (self.site,) if self.sender is None else (self.site, self.sender)
        places = (
            (s.kind, s.depth, -1 if s.part is None else s.part, -1 if s.key is None else s.key)
            for s in sites
        )
        first = self.held and self.stage in CELL.values()
        return (not first, *(part for place in places for part in place))


def cell_columns(site: Site, config: Config) -> slice:
    """Which columns of its cell (z or activations) a node has: a head's, a neuron's, or all."""
    if site.part is None or site.is_latent:
        return slice(None)
    if site.kind == "mlp":
        return slice(site.part, site.part + 1)
    return config.head_columns(site.part)
