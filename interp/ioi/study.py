"""All measurements in the paper's order, the circuit found or given, as one record; what is
finished is kept when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from tqdm import tqdm

from interp.circuit import Circuit
from interp.discover import discover
from interp.executor import Where, each
from interp.executor.lend import Lent, borrowed, sent
from interp.ioi import behaviour, diagram, judged, maps, mechanism, published
from interp.ioi.lab import Lab
from interp.ioi.part import Claim, Part
from minigpt import GPT2, Tokenizer
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
    where: Where | None = None,
    progress: bool = False,
) -> Study:
    """The paper on one model. is_gpt2: it is GPT-2 small, whose published circuit is looked at too
    and held against the paper.

    The circuit is found on prompts of another seed than those on which it is judged. circuit: look
    at this one instead. thorough: the paper's own numbers of random and greedy sets, which take
    minutes at full size. where: who takes the measurements.
    """
    record, started = Study(name, n, seed), time.monotonic()
    measure = Measure(model, model.tokenizer, n, seed, is_gpt2, record.circuits)
    pieces = list(_pieces(circuit is not None, is_gpt2, thorough))
    bar = tqdm(total=len(pieces) + 2, unit="part", bar_format=COUNTED, disable=not progress)
    try:
        with bar:
            for title, step in (
                ("task", measure.task),
                ("circuit" if circuit else "discover", partial(measure.circuit, circuit)),
            ):
                bar.set_description(title)
                record.parts += step()
                bar.update()
            taken = _taken(measure, pieces, where)
            for piece in pieces:
                bar.set_description(piece.title)
                record.parts += next(taken)
                bar.update()
    except KeyboardInterrupt:
        record.interrupted = True
    record.seconds = time.monotonic() - started
    return record


@dataclass(frozen=True, repr=False)
class Piece(Shown):
    """A measurement to be taken: of which circuit, and whether its parts' titles say so."""

    title: str
    step: Step
    which: str
    titled: bool = False


@dataclass(eq=False, repr=False)
class Measure(Shown):
    """Takes measurements of a model's circuits, here or as a worker's job."""

    of: GPT2 | Lent
    words: Tokenizer | None
    n: int
    seed: int
    is_gpt2: bool
    circuits: dict[str, Circuit]
    _labs: dict[str, Lab] = field(default_factory=dict)

    def __call__(self, piece: Piece) -> list[Part]:
        """The parts of a measurement."""
        if piece.which not in self._labs:
            self._labs[piece.which] = self._lab(self.circuits[piece.which])
        found = piece.step(self._labs[piece.which])
        parts = found if isinstance(found, list) else [found]
        return [_titled(part, piece.which) for part in parts] if piece.titled else parts

    @cached_property
    def model(self) -> GPT2:
        """The model; a worker's own has the words that the prompts are made of."""
        return replace(borrowed(self.of), tokenizer=self.words)

    def _lab(self, circuit: Circuit) -> Lab:
        return Lab(self.model, circuit, self.n, self.seed, self.is_gpt2)

    def task(self) -> list[Part]:
        """The task, which no circuit is needed for."""
        return [behaviour.task(self._lab(Circuit({})))]

    def circuit(self, given: Circuit | None) -> list[Part]:
        """The circuit that was given, or the one that is found, on prompts of another seed."""
        if self.is_gpt2:
            self.circuits["published"] = published.CIRCUIT
        if given is not None:
            self.circuits["given"] = given
            return [diagram.drawn(given)]
        apart = Lab(self.model, Circuit({}), min(self.n, 100), self.seed + 1)
        evidence = discover(self.model, apart.pairs, apart.metric)
        found = Circuit(evidence.roles, evidence.edges)
        self.circuits["found here"] = found
        return [diagram.found(evidence, found, apart.n)]


def _taken(measure: Measure, pieces: Sequence[Piece], where: Where | None) -> Iterator[list[Part]]:
    """The parts of each measurement, in order."""
    given = where or Where()
    with sent(measure.model, given) as of:
        job = measure if given == Where() else replace(measure, of=of, _labs={})
        yield from each(job, pieces, given)


def _pieces(given: bool, is_gpt2: bool, thorough: bool) -> Iterator[Piece]:
    """What is to be measured, in order."""
    main = "given" if given else "published" if is_gpt2 else "found here"
    for step in MECHANISM:
        yield Piece(step.__name__.replace("_", " "), step, main)
    for which in dict.fromkeys([main, *([] if given else ["found here"])]):
        for name, criterion in _criteria(thorough).items():
            yield Piece(f"{name}, {which}", criterion, which, which != main)


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
