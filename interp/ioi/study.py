"""All measurements in the paper's order, the circuit found or given, as one record; what is
finished is kept when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tqdm import tqdm

from interp.circuit import Circuit
from interp.discover import discover
from interp.ioi import behaviour, diagram, judged, maps, mechanism, published
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part
from minigpt import GPT2
from minigpt.progress import COUNTED
from minigpt.shown import Row, Shown

Step = Callable[[Lab], "Part | list[Part]"]
MECHANISM: tuple[Step, ...] = (
    mechanism.direct,
    maps.to_logits,
    maps.to_heads,
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


@dataclass(eq=False, repr=False)
class Study(Shown):
    """The parts, in order; each of `circuits` (found here, or published) is judged by the three
    criteria."""

    model: str
    n: int
    seed: int
    circuits: dict[str, Circuit] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def _table(self) -> Iterator[Row]:
        yield "part", "in the paper"
        yield from ((part.heading, part.where) for part in self.parts)

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
        judged_circuits = [name for name in data if name.startswith("faithfulness")]
        return [
            *([_preferred(data["task"])] if "task" in data else []),
            *(_roles(name, circuit) for name, circuit in self.circuits.items()),
            *(_alone(data[name], data.get(_nulls_beside(name), {})) for name in judged_circuits),
        ]

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
    record, started = Study(name, n, seed), time.monotonic()
    steps = list(_steps(_Room(model, record, is_gpt2), circuit, thorough))
    try:
        with tqdm(steps, unit="part", bar_format=COUNTED, disable=not progress) as bar:
            for title, step in bar:
                bar.set_description(title)
                record.parts += step()
    except KeyboardInterrupt:
        record.interrupted = True
    record.seconds = time.monotonic() - started
    return record


@dataclass(eq=False)
class _Room:
    """Where the steps are taken: the model, the record that they fill, a lab for each circuit."""

    model: GPT2
    record: Study
    is_gpt2: bool
    labs: dict[str, Lab] = field(default_factory=dict)

    def lab(self, which: str) -> Lab:
        """For one of the record's circuits, which is known only when the step is taken."""
        if which not in self.labs:
            self.labs[which] = self._lab(self.record.circuits[which])
        return self.labs[which]

    def _lab(self, circuit: Circuit) -> Lab:
        return Lab(self.model, circuit, self.record.n, self.record.seed, self.is_gpt2)

    def task(self) -> list[Part]:
        """The task, which no circuit is needed for."""
        return [behaviour.task(self._lab(Circuit({})))]

    def discover(self) -> list[Part]:
        """The circuit that is found, on prompts of another seed."""
        apart = Lab(self.model, Circuit({}), min(self.record.n, 100), self.record.seed + 1)
        evidence = discover(self.model, apart.pairs, apart.metric)
        circuit = Circuit(evidence.roles, evidence.edges)
        self.record.circuits["found here"] = circuit
        return [diagram.found(evidence, circuit, apart.n)]

    def take(self, circuit: Circuit) -> list[Part]:
        """The circuit that was given."""
        self.record.circuits["given"] = circuit
        return [diagram.drawn(circuit)]

    def measure(self, step: Step, which: str) -> list[Part]:
        """One step of the mechanism, for one circuit."""
        parts = step(self.lab(which))
        return parts if isinstance(parts, list) else [parts]

    def judge(self, criterion: Callable[[Lab], Part], which: str, main: str) -> list[Part]:
        """One criterion on one circuit, titled with the circuit where it is not the main one."""
        part = criterion(self.lab(which))
        return [part if which == main else _titled(part, which)]


def _steps(
    room: _Room, circuit: Circuit | None, thorough: bool
) -> Iterator[tuple[str, Callable[[], Sequence[Part]]]]:
    """What is to be done, by name, in order."""
    main = "given" if circuit is not None else "published" if room.is_gpt2 else "found here"
    if room.is_gpt2:
        room.record.circuits["published"] = published.CIRCUIT
    yield "task", room.task
    if circuit is not None:
        yield "circuit", partial(room.take, circuit)
    else:
        yield "discover", room.discover
    for step in MECHANISM:
        yield step.__name__.replace("_", " "), partial(room.measure, step, main)
    for which in dict.fromkeys([main, *(["found here"] if circuit is None else [])]):
        for name, criterion in _criteria(thorough).items():
            yield f"{name}, {which}", partial(room.judge, criterion, which, main)


def _criteria(thorough: bool) -> dict[str, Callable[[Lab], Part]]:
    return {
        "faithfulness": judged.faithful,
        "random circuits": judged.nulls,
        "completeness": partial(judged.complete, thorough=thorough),
        "minimality": partial(judged.minimal, thorough=thorough),
    }


def _titled(part: Part, which: str) -> Part:
    """A part whose name and heading say which circuit it is about; the paper says nothing of it."""
    return replace(
        part,
        name=f"{part.name}_{which.replace(' ', '_')}",
        heading=f"{part.heading} (the circuit {which})",
        claims=(),
    )


# ---- what it comes to, in sentences


def _preferred(task: Mapping[str, float]) -> str:
    return (
        f"The model prefers IO by {task['logit_difference']:.2f} and is misled in "
        f"{task['s_before_io']:.1%} of the prompts."
    )


def _roles(name: str, circuit: Circuit) -> str:
    roles = "; ".join(f"{role} {' '.join(nodes)}" for role, nodes in circuit.roles.items())
    return f"The circuit {name}: {roles}"


def _nulls_beside(faithfulness: str) -> str:
    """The name of the part with random circuits for the same circuit."""
    return faithfulness.replace("faithfulness", "nulls")


def _alone(judge: Mapping[str, Any], nulls: Mapping[str, Any]) -> str:
    """What the circuit gives by itself, and how random ones do beside it."""
    gives = (
        f"Alone it gives {judge['circuit']:.2f} where the model gives {judge['model']:.2f} "
        f"({judge['share']:.0%})"
    )
    if judged.MATCHED not in nulls:
        return f"{gives}."
    beaten = nulls[judged.MATCHED]["beaten"]
    return f"{gives}, and beats {beaten:.1%} of random circuits with as many heads from each layer."
