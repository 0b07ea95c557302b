"""A circuit's roles, and how it does by the three criteria, as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interp.circuit import Circuit
from interp.circuit.criteria import Faithfulness, Need, Removal
from interp.show.document import Document, Section, Span, Table

WORST = 12


def circuit(
    judged: Circuit, faithful: Faithfulness, complete: Sequence[Removal], minimal: Sequence[Need]
) -> Document:
    """Its roles, then completeness and minimality where they were asked for."""
    roles = [(role, Span(" ".join(nodes), "code")) for role, nodes in judged.roles.items()]
    edges = f"{len(judged.edges)} edges" if judged.edges else ""
    drawn = Section("The circuit", edges, [Table("", ("role", "nodes"), roles)])
    verdict = Span(f"faithfulness: {faithful}", "strong")
    sections = [drawn, *_completeness(complete), *_minimality(judged, minimal)]
    return Document(f"A circuit of {len(judged.nodes)} nodes", sections, [verdict])


def _completeness(removals: Sequence[Removal]) -> Iterator[Section]:
    worst = sorted(removals, key=lambda removal: -removal.gap)[:WORST]
    rows = [(r.name, f"{r.circuit:+.3f}", f"{r.model:+.3f}", f"{r.gap:.3f}") for r in worst]
    if rows:
        table = Table("", ("K", ">F(C\\K)", ">F(M\\K)", ">gap"), rows)
        text = "The same heads K taken from both, the worst first."
        yield Section("Completeness", text, [table])


def _minimality(judged: Circuit, needs: Sequence[Need]) -> Iterator[Section]:
    rows = [
        (
            Span(need.node, "code"),
            judged.role(need.node),
            f"{need.before:+.3f}",
            f"{need.after:+.3f}",
            " ".join(need.others) or "nothing",
        )
        for need in sorted(needs, key=lambda need: -abs(need.change))
    ]
    if rows:
        table = Table("", ("head", "role", ">F(C\\K)", ">and without it", "K"), rows)
        yield Section("Minimality", "Each head where others (K) are gone.", [table])
