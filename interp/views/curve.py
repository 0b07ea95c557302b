"""How much circuits of growing size bring back, as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interp import figures
from interp.circuit.curve import Curve
from interp.show.document import Document, Picture, Section, Span, Table


def curves(title: str, shown: Mapping[str, Curve], said: Sequence[str] = ()) -> Document:
    """A row a size, a column an order of edges; the areas with their intervals; a picture."""
    first = next(iter(shown.values()))
    head = (">edges", ">of all", *(f">{name}" for name in shown))
    values = [curve.recovered.tolist() for curve in shown.values()]
    rows = [
        (f"{count:,}", f"{share:.1%}", *(f"{own[i]:.3f}" for own in values))
        for i, (count, share) in enumerate(zip(first.counts, first.shares, strict=True))
    ]
    drawn = {name: curve.recovered.tolist() for name, curve in shown.items()}
    full, empty = float(first.full.mean()), float(first.empty.mean())
    about = (
        f"Of the metric, {empty:+.3f} in the circuit without edges and {full:+.3f} in the model, "
        f"the share that a circuit brings back; mean over {len(first.full)} prompts."
    )
    picture = figures.curves(first.shares, drawn, "brought back, by the share of edges")
    sections = [
        Section("Circuits of growing size", about, [Table("", head, rows), Picture(picture)]),
        Section(
            "Areas",
            "CPR: the area under the curve, larger is better; CMD: the area between it and 1, "
            "smaller is better (MIB). 95% intervals, prompts drawn anew.",
            [Table("", ("order", ">CPR", "interval", ">CMD", "interval"), _areas(shown))],
        ),
    ]
    return Document(title, sections, [Span(text, "strong") for text in said], "")


def _areas(shown: Mapping[str, Curve]) -> list[tuple[str, ...]]:
    found = list[tuple[str, ...]]()
    for name, curve in shown.items():
        ends = {area: f"{low:.3f} to {high:.3f}" for area, (low, high) in curve.intervals().items()}
        found.append((name, f"{curve.cpr:.4f}", ends["cpr"], f"{curve.cmd:.4f}", ends["cmd"]))
    return found
