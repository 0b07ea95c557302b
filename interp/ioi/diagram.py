"""A circuit as a part of the study: its picture, its roles, and (where it was found here) what each
head was found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from interp import figures
from interp.circuit import Circuit
from interp.discover.record import Discovery
from interp.discover.roles import BACKUP, BY_TARGET, INHIBITION, NAME_MOVER, NEGATIVE, UNCLASSED
from interp.effects import Effects
from interp.ioi import words
from interp.ioi.part import Part
from interp.show.document import Table
from minigpt import parse

MEANS = {
    NAME_MOVER: "looks from the end at the answer and copies it into the output",
    NEGATIVE: "looks there too, and writes against the answer",
    BACKUP: "takes over when the name movers are knocked out",
    INHIBITION: "looks from the end at the name that comes twice, and tells the movers where not "
    "to look",
    BY_TARGET[
        "after the same"
    ]: "notices at the second time of a name that it was there before, by what came after it",
    BY_TARGET["the same"]: "notices it by the name itself",
    BY_TARGET["before"]: "writes down, one place on, which token came before",
    UNCLASSED: "matters, but looks at none of these; its scores are in the JSON",
}


def found(evidence: Discovery, circuit: Circuit, n: int) -> Part:
    """The circuit that was found on n prompts, with the evidence for each of its heads."""
    return replace(
        words.FOUND,
        text=words.FOUND.text.format(
            threshold=evidence.threshold,
            level=evidence.level,
            kept=len(evidence.kept),
            heads=evidence.heads,
            n=n,
        ),
        tables=[_evidence(evidence), _roles(circuit)],
        maps=_maps(evidence),
        figures={"circuit": evidence.figure()},
        data={**circuit.to_dict(), "evidence": evidence.to_dict()},
    )


def _evidence(evidence: Discovery) -> Table:
    rows = [
        (
            head.role,
            head.node,
            _looks(head.scores.attention),
            "; ".join(f"{effect:+.3f} through {name}" for name, effect in head.effects.items()),
        )
        for head in evidence.found
    ]
    return Table("", ("role", "head", "looks at", "effect on the logit difference"), rows)


def _maps(evidence: Discovery) -> dict[str, Effects]:
    """The maps on which something stands out."""
    return {
        f"{asked}: {' '.join(asked.kept)} stand out": asked.effects
        for asked in evidence.maps
        if asked.kept
    }


def drawn(circuit: Circuit) -> Part:
    """A circuit that was given."""
    roles = {node: circuit.role(node) for node in circuit.nodes}
    picture = figures.diagram(roles, _arrows(circuit), "the circuit")
    return replace(
        words.GIVEN,
        tables=[_roles(circuit)],
        figures={"circuit": picture},
        data=circuit.to_dict(),
    )


def _roles(circuit: Circuit) -> Table:
    return Table(
        "",
        ("role", "what such a head does", "heads"),
        [(role, MEANS.get(role, ""), " ".join(nodes)) for role, nodes in circuit.roles.items()],
    )


def _arrows(circuit: Circuit) -> list[tuple[str, str]]:
    """From each node of an edge's sender to each node of its reader."""
    pairs = [
        (str(a), str(b.writer))
        for a, b in (parse(edge).sites for edge in circuit.edges)
        if b.kind != "out"
    ]
    return [
        (a, b)
        for sender, reader in dict.fromkeys(pairs)
        for a in circuit.nodes
        for b in circuit.nodes
        if (str(parse(a).site), str(parse(b).site)) == (sender, reader)
    ]


def _looks(attention: Mapping[str, float]) -> str:
    return (
        ", ".join(f"{name} {weight:.2f}" for name, weight in attention.items() if weight >= 0.1)
        or "nowhere in particular"
    )
