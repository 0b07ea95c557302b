"""A circuit as a part of the study: its picture, its roles, and (where it was found here) what each
head was found by."""

from __future__ import annotations

from collections.abc import Mapping

from interp import figures
from interp.circuit import Circuit
from interp.discover.record import Discovery
from interp.discover.roles import BACKUP, BY_TARGET, INHIBITION, NAME_MOVER, NEGATIVE, UNCLASSED
from interp.ioi.part import Part, Table
from minigpt import parse

LEGEND = (
    "In the picture each head stands above the position at which it acts, at the height of "
    "its layer; lines are what one hands on to another."
)

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
    """The circuit that was found, with the evidence for each of its heads."""
    rows = [
        (
            each.role,
            each.node,
            _looks(each.scores.attention),
            "; ".join(f"{effect:+.3f} through {name}" for name, effect in each.effects.items()),
        )
        for each in evidence.found
    ]
    maps = {
        f"{each}: {' '.join(each.kept)} stand out": each.effects
        for each in evidence.maps
        if each.kept
    }
    return Part(
        "found",
        "The circuit that was found",
        "section 3, as an algorithm",
        "From the logits backwards: every head is path-patched to the output; those that stand "
        "out are followed to what their queries, keys and "
        f"values read, "
        f"until nothing new stands out. An effect counts from {evidence.threshold:.0%} of the "
        "metric up, where chance gives one in a map with a "
        f"probability of "
        f"{evidence.level:.0%}. {len(evidence.kept)} of {evidence.heads} heads were kept, on {n} "
        f"prompts that are used for nothing else. {LEGEND}",
        [
            Table("", ("role", "head", "looks at", "effect on the logit difference"), rows),
            _roles(circuit),
        ],
        maps,
        {"circuit": evidence.figure()},
        data={**circuit.to_dict(), "evidence": evidence.to_dict()},
    )


def drawn(circuit: Circuit, heading: str, name: str, where: str) -> Part:
    """A circuit that was given."""
    return Part(
        name,
        heading,
        where,
        LEGEND,
        [_roles(circuit)],
        figures={
            "circuit": figures.diagram(
                {node: circuit.role(node) for node in circuit.nodes},
                _arrows(circuit),
                "the circuit",
            )
        },
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
