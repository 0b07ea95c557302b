"""Circuits whose units are neurons or latents: what is lost without one at the state that a search
has reached, and how much those of a size bring back, as of edges (search.py, curve.py).

A unit that is not in a circuit writes what it does in the source, at every position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interp import sets
from interp.circuit.ablation import Ablation
from interp.circuit.curve import SIZES, Curve, grown, ranked
from interp.circuit.search import Scores, down
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Units(Shown):
    """Parts of nodes, of which circuits are made; all else of the model always works."""

    on: Ablation
    names: tuple[str, ...]

    def metric(self, kept: Sequence[str]) -> Float[Tensor, "prompts"]:
        """The metric of a circuit of these units."""
        return self.on.without([self._cut(kept)])[0]

    def lost(self, kept: Sequence[str]) -> Scores:
        """Of each unit of a circuit, what is lost without it on average."""
        cut = self._cut(kept)
        found = self.on.without([cut, *([*cut, unit] for unit in kept)])
        return dict(zip(kept, (found[0] - found[1:]).mean(1).tolist(), strict=True))

    def removed(
        self, sizes: Sequence[int], *, absolute: bool = False, progress: bool = False
    ) -> Scores:
        """Units removed down to each of these sizes in turn, the least useful first, what is left
        scored anew after each step; the order as scores."""
        return down([*self.names], sizes, self.lost, absolute, progress)

    def curve(
        self,
        scores: Mapping[str, float],
        *,
        absolute: bool = False,
        shares: Sequence[float] = SIZES,
        progress: bool = False,
    ) -> Curve:
        """The curve of circuits that are the units of the largest scores; those without one come
        last."""
        every = {unit: scores.get(unit, 0.0) for unit in self.names}
        return grown(self.metric, ranked(every, absolute=absolute), shares, progress=progress)

    def _cut(self, kept: Sequence[str]) -> list[str]:
        inside = set(kept)
        return [unit for unit in self.names if unit not in inside]


def units(name: str, *of: Ablation) -> list[Units]:
    """The same units for several sets of prompts: "neurons:m3", "latents:m3" (those that are on in
    any of their runs, and the dictionary's bias and error), addresses side by side."""
    wanted = name if name in sets.SETS or ":" in name else name.split()
    found = (sets.addresses(on.clean, wanted, on.source.run) for on in of)
    every = tuple(dict.fromkeys(unit for names in found for unit in names))
    return [Units(on, every) for on in of]
