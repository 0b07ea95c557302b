"""The records of many patches on one trace, by the stage and layer at which they act."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from minigpt.address import Site
from minigpt.patch import Patch
from minigpt.recompute.lower import Lowering
from minigpt.recompute.record import Record
from minigpt.trace import Trace


@dataclass(frozen=True, eq=False)
class Plan:
    """What is put where in a run of many variants.

    stages: the records by stage and layer, in order. reads: edges by the kind (of the whole) and
    layer of their senders. writes: what nodes of the patched run wrote, as far as it was asked for.
    """

    trace: Trace
    variants: int
    stages: dict[tuple[str, int], list[Record]]
    reads: dict[tuple[str, int], list[Record]]
    writes: dict[Site, Tensor] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows of one run."""
        return self.trace.tokens.numel()

    @property
    def width(self) -> int:
        """Positions of one prompt, as computed."""
        return self.trace.tokens.shape[1]

    def at(self, stage: str, layer: int) -> list[Record]:
        """The records that act at this stage of this layer, in order."""
        return self.stages.get((stage, layer), [])

    def cell(self, name: str, layer: int) -> Float[Tensor, "rows width"]:
        """A cell of the run that is patched, a row a (prompt, position)."""
        cell: Tensor = getattr(self.trace.cells[layer], name)
        return cell.flatten(0, 1)

    def clean_write(self, site: Site) -> Float[Tensor, "rows d_model"]:
        """What a node wrote in the run that is patched, at every row; computed once."""
        if site not in self.writes:
            self.writes[site] = self.trace.write(site).flatten(0, 1)
        return self.writes[site]


def plan(trace: Trace, patches: Sequence[Patch], writes: dict[Site, Tensor] | None = None) -> Plan:
    """Lower patches on a trace, a variant each; PatchError, AddressError or PositionError where one
    does not fit it.

    writes: what is kept of the trace's own writes from one chunk of a sweep to the next.
    """
    lowering = Lowering(trace)
    for variant, patch in enumerate(patches):
        for record in lowering.lower(patch):
            record.variants.append(variant)
    stages, reads = _sorted(lowering.records)
    return Plan(trace, len(patches), stages, reads, {} if writes is None else writes)


Index = dict[tuple[str, int], list[Record]]


def _sorted(records: Iterable[Record]) -> tuple[Index, Index]:
    """The records by stage and layer, and those of edges by sender too."""
    stages: Index = {}
    reads: Index = {}
    for record in sorted(records, key=lambda record: record.order):
        stages.setdefault((record.stage, record.layer), []).append(record)
        if sender := record.sender:
            kind = sender.kind.partition(".")[0]
            reads.setdefault((kind, sender.depth), []).append(record)
    return stages, reads
