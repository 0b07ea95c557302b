"""Patches made concrete for one run: which rows of which layer each edit touches, in which form,
with which values.

A row is one (variant, prompt, position), numbered variant * n + prompt * width + position; n rows
make one run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt.address import Site
from minigpt.config import Config
from minigpt.patch.edit import Edit
from minigpt.trace import Trace

# Values of rows of one run, by their numbers in it [rows] -> [rows, ...].
Values = Callable[[Int[Tensor, "rows"]], Tensor]


@dataclass(frozen=True, eq=False)
class Touch:
    """An edit that some variants share, resolved: the part it is of, `rows` of one run (numbers
    below n), and the values.

    own: the values are those of the run that is patched, so that rows which nothing else changed
    stay as they are.
    """

    site: Site
    rows: Int[Tensor, "rows"]
    values: Values
    n: int
    edit: Edit | None = None
    own: bool = False
    variants: list[int] = field(default_factory=list)

    @cached_property
    def ids(self) -> Int[Tensor, "ids"]:
        """The rows' numbers among all variants, in order; to be asked for once all variants are
        known."""
        first = torch.tensor(self.variants, device=self.rows.device)[:, None] * self.n
        return (first + self.rows).flatten()

    def at(self, ids: Int[Tensor, "ids"]) -> Tensor:
        """The values at some of `ids`."""
        return self.values(ids % self.n)


@dataclass(frozen=True, eq=False)
class Read(Touch):
    """An edge: what the port sees is its stream plus (values - what the sender wrote)."""

    sender: Site = Site("emb")  # noqa: RUF009


@dataclass(eq=False)
class Plan:
    """The touches of many patches on one trace, by the stage at which they act, and who is held."""

    trace: Trace
    variants: int
    at: dict[tuple[str, int], list[Touch]] = field(default_factory=dict)
    held: dict[tuple[str, int], list[Touch]] = field(default_factory=dict)
    writes: dict[Site, Tensor] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows of one run."""
        return self.trace.cells[0].resid.shape[0] * self.width

    @property
    def width(self) -> int:
        """Positions of one prompt, as computed."""
        return self.trace.cells[0].resid.shape[1]

    def cell(self, name: str, layer: int) -> Float[Tensor, "rows width"]:
        """A cell of the run that is patched, a row a (prompt, position)."""
        cell: Tensor = getattr(self.trace.cells[layer], name)
        return cell.flatten(0, 1)

    def clean_write(self, site: Site) -> Float[Tensor, "rows d_model"]:
        """What a node wrote in the run that is patched, at every row; computed once."""
        if site not in self.writes:
            self.writes[site] = self.trace.write(site).flatten(0, 1)
        return self.writes[site]

    def touches(self, stage: str, layer: int) -> list[Touch]:
        """Those that act at this stage of this layer."""
        return self.at.get((stage, layer), [])

    def holds(self, stage: str, layer: int) -> list[Touch]:
        """Whole layers kept at a run's values (stage "z" or "act"), before any touch writes over
        them."""
        return self.held.get((stage, layer), [])


def columns(site: Site, trace: Trace) -> slice:
    """Which columns of its cell (z or activations) a node has."""
    if site.part is None:
        return slice(None)
    if site.kind == "mlp":
        return slice(site.part, site.part + 1)
    return slice(site.part * trace.config.d_head, (site.part + 1) * trace.config.d_head)


def qkv_columns(config: Config, kind: str, head: int | None) -> slice:
    """Which columns of the queries, keys and values side by side are these: of one head, or of
    all."""
    first, d = "qkv".index(kind) * config.d_model, config.d_head
    return (
        slice(first, first + config.d_model)
        if head is None
        else slice(first + head * d, first + (head + 1) * d)
    )
