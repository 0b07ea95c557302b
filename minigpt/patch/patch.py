"""An intervention as a value: what is put where, and from where. Nothing happens until a model is
run again with it.

    a9.9@-1 = corrupt            write: from here on everybody sees what the head wrote in the run
                                 `corrupt`
    a5.5>a8.6.v = corrupt        read: only this port sees the other write
    a9.9.q@END = corrupt         input: this port sees the other run's whole stream
    a2.6@13<1 = 0                a pair: what the head takes at 13 from position 1, one term of its
                                 sum, the others as this run computes them
    resid5@S2 = corrupt          a stream point, a pattern, a z likewise
    m3 = 0; a9.9 = mean(corrupt) zero, and the mean over prompts; mean(corrupt by templates): over
                                 those of the same group
    m3.n300 = 7                  a number: of a neuron, its activation
    resid6@-1 += vector          what it is, and a vector (a number, another run's value)
    a9.9 *= 0.5                  half of it
    hold heads = clean           every node of the set that is not written otherwise keeps that
                                 run's value
    hold heads but a9.9@END = mean(corrupt)    the same, but this head at this position stays free

Knows its parts (edit.py) and which of them exclude one another (conflict.py). Knows nothing of how
a run is recomputed (rerun.py) or what it means in numbers (reference.py says that in full).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from jaxtyping import Int
from torch import Tensor

from minigpt.address import Address
from minigpt.errors import PatchError
from minigpt.names import parse
from minigpt.patch.conflict import refuse
from minigpt.patch.edit import NAME, ZERO, Edit, Given, Hold, Source, refuse_reading, source
from minigpt.shown import ROWS, Row, Shown
from minigpt.trace import Trace

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_LINE = re.compile(
    rf"(hold\s)?([^=]+?)\s*([+*]?=)\s*"
    rf"(?:mean\(\s*({NAME})(?:\s+by\s+({NAME}))?\s*\)|({NAME}|{_NUMBER}))"
)


@dataclass(frozen=True, repr=False)
class Patch(Shown):
    """Edits in a fixed order, so that equal patches are equal whatever the order they were joined
    in. Patch() changes nothing."""

    edits: tuple[Edit, ...] = ()
    holds: tuple[Hold, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "edits", tuple(sorted(dict.fromkeys(self.edits), key=lambda e: str(e.target)))
        )
        object.__setattr__(self, "holds", tuple(sorted(dict.fromkeys(self.holds), key=str)))
        refuse(self.edits, self.holds)

    @classmethod
    def write(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """This node, stream point, pattern or z is what it is in `given`: a run, a tensor or array
        that broadcasts to it, or a number (of a neuron, its activation)."""
        legal = "a node, a stream point, a pattern or a z, as in Patch.write('a9.9@-1', other)"
        return cls._one(address, given, name, "write", legal)

    @classmethod
    def read(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """Only this edge's port sees the sender as it is in `given`; everybody else sees what it
        really wrote."""
        legal = "an edge, as in Patch.read('a5.5>a8.6.v', other)"
        return cls._one(address, given, name, "read", legal)

    @classmethod
    def input(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """This port sees the whole stream as it is in `given` (a run, or a tensor [...,
        d_model])."""
        legal = "a port, as in Patch.input('a9.9.q@-1', other)"
        return cls._one(address, given, name, "input", legal)

    @classmethod
    def add(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """What the pass computes there, and `given` (a tensor, a number, what it is in a run): of a
        node, stream point, pattern or z; of what a port sees, or an edge carries.

        >>> Patch.add('m3.n300@-1', 2.5)
        Patch('m3.n300@-1 += 2.5')
        """
        return cls((_edit(parse(address), source(given, name), "+="),))

    @classmethod
    def scale(cls, address: str | Address, factor: float) -> Patch:
        """What the pass computes there, times a number.

        >>> Patch.scale('a9.9', 0.5)
        Patch('a9.9 *= 0.5')
        """
        return cls((_edit(parse(address), source(factor), "*="),))

    @classmethod
    def zero(cls, address: str | Address) -> Patch:
        """This node writes nothing.

        >>> Patch.zero('a9.9@-1')
        Patch('a9.9@-1 = 0')
        """
        return cls.write(address, ZERO)

    @classmethod
    def mean(
        cls,
        address: str | Address,
        over: Trace,
        by: Int[Tensor, "prompts"] | None = None,
        *,
        name: str = "run",
        by_name: str = "groups",
    ) -> Patch:
        """This node writes its mean over the prompts of a run; with `by` [prompts], over those of
        the same group, the groups being the patched run's too."""
        return cls.write(address, Source(name, run=over, mean=True, by=by, by_name=by_name))

    @classmethod
    def hold(cls, nodes: str, run: Given, *, but: str = "", name: str = "") -> Patch:
        """Every node of "heads", "mlps" or "a9.9 m3 ..." that this patch does not write otherwise
        keeps its value in `run` (or the mean of one, or 0); those of `but`, "a9.9@END a8.6", stay
        free.

        >>> Patch.hold('heads', 0.0, but='a9.9@-1')
        Patch('hold heads but a9.9@-1 = 0')
        """
        held = Hold(nodes, source(run, name), but)
        if held.source.run is not None:
            held.sites(held.source.run.config)
        return cls(holds=(held,))

    @classmethod
    def parse(cls, text: str, sources: Mapping[str, Trace | Tensor]) -> Patch:
        """The inverse of str(): lines or parts between semicolons, with what each name in it stands
        for.

        >>> Patch.parse('a9.9 = 0; m3@-1 = 0', {})
        Patch('a9.9 = 0; m3@-1 = 0')
        """
        parts = [_line(line.strip(), sources) for line in re.split(r"[;\n]", text) if line.strip()]
        return cls.all(parts)

    @classmethod
    def all(cls, patches: Iterable[Patch]) -> Patch:
        """All of these as one; PatchError where two contradict each other.

        >>> Patch.all([Patch.zero('m0'), Patch.zero('m1')])
        Patch('m0 = 0; m1 = 0')
        """
        parts = list(patches)
        edits = tuple(edit for part in parts for edit in part.edits)
        return cls(edits, tuple(hold for part in parts for hold in part.holds))

    def __or__(self, other: Patch) -> Patch:
        """Both; PatchError where they contradict each other."""
        return Patch(self.edits + other.edits, self.holds + other.holds)

    def __bool__(self) -> bool:
        return bool(self.edits or self.holds)

    @property
    def sources(self) -> dict[str, Trace | Tensor]:
        """What each name in the text stands for, so that Patch.parse(str(patch), patch.sources)
        does the same.

        Where several things have one name, the later ones are numbered: run, run.2, ...
        """
        names = self._names()
        return {
            names[name, id(thing)]: thing
            for line in self._lines
            for name, thing in line.source.things
        }

    def __str__(self) -> str:
        names = self._names()
        return "; ".join(
            str(replace(line, source=line.source.named(names))) for line in self._lines
        )

    @property
    def _lines(self) -> tuple[Edit | Hold, ...]:
        return (*self.edits, *self.holds)

    def _names(self) -> dict[tuple[str, int], str]:
        """The name in the text of each thing, by its own name and its id."""
        names: dict[tuple[str, int], str] = {}
        for name, thing in (named for line in self._lines for named in line.source.things):
            if (name, id(thing)) not in names:
                names[name, id(thing)] = _unused(name, set(names.values()))
        return names

    def _table(self) -> Iterator[Row]:
        yield "", "", ""
        yield from ((edit.target, edit.how, edit.source) for edit in self.edits[:ROWS])
        yield from ((f"hold {h.nodes}", "=", h.source) for h in self.holds[:ROWS])

    @classmethod
    def _one(cls, address: str | Address, given: Given, name: str, kind: str, legal: str) -> Patch:
        edit = _edit(parse(address), source(given, name))
        if edit.kind != kind:
            raise PatchError(
                f"Patch.{kind}('{edit.target}', ...)",
                legal,
                f"Patch.{edit.kind}('{edit.target}', ...)",
            )
        return cls((edit,))


def _edit(target: Address, value: Source, how: str = "=") -> Edit:
    """An edit; PatchError where there can be none."""
    refuse_reading(target)
    if len(target.sites) > 2:
        raise PatchError(
            f"'{target}' is a path of several edges",
            "one edge at a time",
            "patching.path(...), which goes edge by edge",
        )
    if how == "*=" and value.number is None:
        raise PatchError(f"'{target} *= {value}'", "a number to multiply by", f"{target} *= 0.5")
    return Edit(target, value, how)


def _unused(name: str, used: Set[str]) -> str:
    numbered = (f"{name}.{i}" for i in count(2))
    return name if name not in used else next(other for other in numbered if other not in used)


def _line(line: str, sources: Mapping[str, Trace | Tensor]) -> Patch:
    """A line of a patch's text."""
    hold, target, how, mean, by, name = _words(line, sources)
    value = _mean(mean, sources[mean], by, sources.get(by)) if mean else _plain(name, sources)
    if not hold:
        return Patch((_edit(parse(target.strip()), value, how),))
    if how != "=":
        raise PatchError(f"'{line}'", "nodes that are held at a value: hold heads = NAME")
    nodes, _, but = target.partition(" but ")
    return Patch(holds=(Hold(nodes, value, but),))


def _words(line: str, sources: Mapping[str, Trace | Tensor]) -> tuple[Any, ...]:
    """Whether it is a hold, what is changed, how, and what from: a mean's run and groups, or a
    plain name or number; None for what is not there."""
    match = _LINE.fullmatch(line)
    if not match:
        raise PatchError(
            f"'{line}' is no line of a patch",
            "ADDRESS = NAME, ADDRESS = 0, ADDRESS = mean(NAME), ADDRESS = mean(NAME by GROUPS), "
            "ADDRESS += NAME, ADDRESS *= 0.5, hold heads = NAME",
            "'a9.9@-1 = corrupt; hold mlps = clean'",
        )
    for name in match.groups()[3:]:
        if name is not None and name not in sources and not re.fullmatch(_NUMBER, name):
            raise _unknown(line, name, sources)
    return match.groups()


def _unknown(line: str, name: str, sources: Mapping[str, Trace | Tensor]) -> PatchError:
    return PatchError(
        f"'{line}': nothing is called '{name}'",
        ", ".join(("0", *sources)),
        f"Patch.parse(text, {{'{name}': ...}})",
    )


def _plain(name: str, sources: Mapping[str, Trace | Tensor]) -> Source:
    number = re.fullmatch(_NUMBER, name)
    return source(float(name)) if number else source(sources[name], name)


def _mean(name: str, run: Trace | Tensor, by: str | None, groups: Trace | Tensor | None) -> Source:
    if not isinstance(run, Trace) or isinstance(groups, Trace):
        raise PatchError(
            f"mean({name}{f' by {by}' if by else ''})",
            "the mean of a run, by a tensor of group numbers",
        )
    return Source(name, run=run, mean=True, by=groups, by_name=by or "groups")
