"""What is measured on a corpus, a layer at a time: heads, neurons, latents; and how much each did
at every token of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from interp.corpus.attends import looked
from minigpt import GPT2, Params, Trace, parse
from minigpt.shown import Shown


class Did(NamedTuple):
    """What the components of a group did at each token; of heads, which token that came from."""

    values: Float[Tensor, "*batch pos n"]
    source: Int[Tensor, "*batch pos n"] | None = None

    def row(self, row: int, length: int) -> Did:
        """Of one prompt."""
        source = None if self.source is None else self.source[row, :length]
        return Did(self.values[row, :length], source)


@dataclass(frozen=True)
class Group(Shown):
    """The components of a layer: "a3" its heads, "m3" its neurons, "m3.l" its latents, n of them.

    What a head does at a token is the largest write that it takes from one place, attention times
    the length of the value as it is written; by attention alone the places would come first at
    which heads look when there is nothing to do. What a neuron or a latent does is its activation.
    """

    name: str
    n: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its components."""
        between = {"a": ".", "m": ".n"}.get(self.name[0], "") if self.name[-1] != "l" else ""
        return tuple(f"{self.name}{between}{i}" for i in range(self.n))

    @property
    def layer(self) -> int:
        """Its layer; of a stream's latents the point."""
        return parse(self.name).site.depth

    @property
    def is_heads(self) -> bool:
        """Whether they are heads."""
        return self.name[0] == "a" and self.name[-1] != "l"

    @property
    def is_neurons(self) -> bool:
        """Whether they are neurons."""
        return self.name[0] == "m" and self.name[-1] != "l"

    def read(self, trace: Trace) -> Did:
        """What each did in every prompt of a run; behind a prompt's end stands anything."""
        if self.is_heads:
            return Did(*looked(trace, self.layer)[:2])
        return Did(trace.act(self.name))


def groups(model: GPT2) -> tuple[Group, ...]:
    """All that can be measured on a model, layer by layer."""
    config, known = model.config, model.params.dictionaries
    found = []
    for layer in range(config.n_layer):
        for name, n in ((f"a{layer}", config.n_head), (f"m{layer}", config.d_mlp)):
            found.append(Group(name, n))
            found += _latents(model.params, name)
    streams = [name for name in known if name.startswith("resid")]
    return (*found, *(group for name in streams for group in _latents(model.params, name)))


def _latents(params: Params, whole: str) -> list[Group]:
    known = params.dictionaries.get(whole)
    return [] if known is None else [Group(f"{whole}.l", known.n_latents)]


def offsets(found: Sequence[Group]) -> dict[str, int]:
    """The number of each group's first component."""
    starts, total = {}, 0
    for group in found:
        starts[group.name] = total
        total += group.n
    return starts
