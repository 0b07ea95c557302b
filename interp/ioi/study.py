"""All measurements in the paper's order, the circuit found or given, as one record; what is
finished is kept when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tqdm import tqdm

from interp.circuit import Circuit
from interp.discover import discover
from interp.ioi import behaviour, diagram, judged, mechanism, published
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part
from minigpt import GPT2

Step = Callable[[Lab], "Part | list[Part]"]
MECHANISM: tuple[Step, ...] = (
    mechanism.direct,
    mechanism.to_logits,
    mechanism.to_heads,
    mechanism.redirected,
    mechanism.looking,
    mechanism.writing,
    mechanism.copying,
    behaviour.signals,
    mechanism.backup,
    mechanism.random_tokens,
    mechanism.mlps,
    behaviour.adversarial,
)


@dataclass(eq=False)
class Study:
    """The parts, in order; each of `circuits` (found here, or published) is judged by the three
    criteria."""

    model: str
    n: int
    seed: int
    circuits: dict[str, Circuit] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def claims(self) -> list[tuple[Part, Claim]]:
        """Everything that the paper says of this model, beside what was measured."""
        return [(part, claim) for part in self.parts for claim in part.claims]

    def part(self, name: str) -> Part:
        """A part by its name."""
        return next(part for part in self.parts if part.name == name)

    @property
    def short(self) -> list[str]:
        """What it comes to, in a few sentences, as far as it went."""
        data = {part.name: part.data for part in self.parts if not part.skipped}
        lines = [
            f"The model prefers IO by {task['logit_difference']:.2f} and is misled in "
            f"{task['s_before_io']:.1%} of the prompts."
            for name, task in data.items()
            if name == "task"
        ]
        lines += [
            f"The circuit {name}: "
            + "; ".join(f"{role} {' '.join(nodes)}" for role, nodes in circuit.roles.items())
            for name, circuit in self.circuits.items()
        ]
        for name in (name for name in data if name.startswith("faithfulness")):
            said, beaten = (
                data[name],
                data.get(name.replace("faithfulness", "nulls"), {}).get(judged.MATCHED),
            )
            lines.append(
                f"Alone it gives {said['circuit']:.2f} where the model gives {said['model']:.2f} "
                f"({said['share']:.0%})"
                + (
                    f", and beats {beaten['beaten']:.1%} of random circuits with as many heads "
                    "from each layer."
                    if beaten
                    else "."
                )
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain values."""
        return {
            "model": self.model,
            "prompts": self.n,
            "seed": self.seed,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "circuits": {name: circuit.to_dict() for name, circuit in self.circuits.items()},
            "parts": {part.name: part.to_dict() for part in self.parts},
        }


def study(
    model: GPT2,
    name: str,
    n: int = 200,
    seed: int = 0,
    *,
    circuit: Circuit | None = None,
    is_gpt2: bool = False,
    thorough: bool = False,
    progress: bool = False,
) -> Study:
    """The paper on one model. is_gpt2: it is GPT-2 small, whose published circuit is looked at too
    and held against the paper.

    The circuit is found on prompts of another seed than those on which it is judged. circuit: look
    at this one instead. thorough: the paper's own numbers of random and greedy sets, which take
    minutes at full size.
    """
    found, started = Study(name, n, seed), time.monotonic()
    steps = list(_steps(model, found, circuit, is_gpt2, thorough))
    try:
        with tqdm(steps, unit="part", disable=not progress) as bar:
            for title, step in bar:
                bar.set_description(title)
                found.parts += step()
    except KeyboardInterrupt:
        found.interrupted = True
    found.seconds = time.monotonic() - started
    return found


def _steps(
    model: GPT2, found: Study, circuit: Circuit | None, is_gpt2: bool, thorough: bool
) -> Iterator[tuple[str, Callable[[], Sequence[Part]]]]:
    """What is to be done, by name, in order. The circuit that later steps look at is known only
    when they are run."""
    labs: dict[str, Lab] = {}

    def lab(which: str) -> Lab:
        return labs.setdefault(
            which, Lab(model, found.circuits[which], found.n, found.seed, is_gpt2)
        )

    def look_for() -> list[Part]:
        apart = Lab(model, Circuit({}), min(found.n, 100), found.seed + 1)
        evidence = discover(model, apart.pairs, apart.metric)
        found.circuits["found here"] = made = Circuit(evidence.roles, evidence.edges)
        return [diagram.found(evidence, made, apart.n)]

    def given() -> list[Part]:
        assert circuit is not None
        found.circuits["given"] = circuit
        return [diagram.drawn(circuit, "The circuit that was given", "given", "as --circuit says")]

    main = "given" if circuit is not None else "published" if is_gpt2 else "found here"
    if is_gpt2:
        found.circuits["published"] = published.CIRCUIT
    yield "task", lambda: [behaviour.task(Lab(model, Circuit({}), found.n, found.seed, is_gpt2))]
    if circuit is not None:
        yield "circuit", given
    else:
        yield "discover", look_for
    for step in MECHANISM:
        yield step.__name__.replace("_", " "), lambda step=step: _listed(step(lab(main)))  # type: ignore[misc]
    for which in dict.fromkeys([main, *(["found here"] if circuit is None else [])]):
        for judge in (
            judged.faithful,
            judged.nulls,
            partial(judged.complete, thorough=thorough),
            partial(judged.minimal, thorough=thorough),
        ):
            yield f"criteria, {which}", partial(_judged, judge, lab, which, main)


def _judged(
    judge: Callable[[Lab], Part], lab: Callable[[str], Lab], which: str, main: str
) -> list[Part]:
    """One criterion on one circuit, titled with the circuit where it is not the main one."""
    return [_titled(judge(lab(which)), which, main)]


def _listed(found: Part | list[Part]) -> list[Part]:
    return found if isinstance(found, list) else [found]


def _titled(part: Part, which: str, main: str) -> Part:
    """A part's name and heading say which circuit it is about, where there are two."""
    return (
        part
        if which == main
        else Part(
            f"{part.name}_{which.replace(' ', '_')}",
            f"{part.heading} (the circuit {which})",
            part.where,
            part.text,
            part.tables,
            part.maps,
            part.figures,
            (),
            part.data,
            part.skipped,
        )
    )
