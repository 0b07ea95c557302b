"""An intervention as a value: what is put where, and from where. Nothing happens until a model is run again with it.

    a9.9@-1 = corrupt            write: from here on everybody sees what the head wrote in the run `corrupt`
    a5.5>a8.6.v = corrupt        read: only this port sees the other write
    a9.9.q@END = corrupt         input: this port sees the other run's whole stream
    resid5@S2 = corrupt          a stream point, a pattern, a z likewise
    m3 = 0; a9.9 = mean(corrupt) zero, and the mean over prompts; mean(corrupt by templates): over those of the same group
    hold heads = clean           every node of the set that is not written otherwise keeps that run's value

Knows addresses and what excludes what. Knows nothing of how a run is recomputed (rerun.py) or what it means in numbers
(reference.py says that in full).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, product
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from minigpt.address import Address, Site, heads, parse
from minigpt.config import Config
from minigpt.errors import PatchError, problem
from minigpt.trace import Trace

Given: TypeAlias = "Trace | Tensor | float | int | Source"
_NAME = r"[A-Za-z_][\w.-]*"
_LINE = re.compile(rf"(hold\s)?([^=]+)=\s*(?:mean\(\s*({_NAME})(?:\s+by\s+({_NAME}))?\s*\)|({_NAME}|0))")


@dataclass(frozen=True, eq=False)
class Source:
    """Where a value comes from: a run, a tensor, zero, or the mean of a run over its prompts (by group).

    Two are equal when the same names stand for the very same run and tensors.
    """

    name: str
    run: Trace | None = None
    value: Tensor | None = None
    mean: bool = False
    by: Int[Tensor, "prompts"] | None = None
    by_name: str = "groups"

    def __post_init__(self) -> None:
        for name in (self.name, self.by_name):
            if not re.fullmatch(_NAME, name) and not (name == "0" and self.run is None and self.value is None):
                raise PatchError(problem(f"a source named {name!r}", "a word of letters, digits, _ . and -, a letter first"))
        if self.by is not None and self.run is not None and len(self.by) != len(self.run.tokens):
            raise PatchError(problem(f"{len(self.by)} groups for a run of {len(self.run.tokens)} prompts",
                                     "one number for each prompt"))

    def _key(self) -> tuple[object, ...]:
        return self.name, id(self.run), id(self.value), self.mean, id(self.by), self.by is not None and self.by_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        by = "" if self.by is None else f" by {self.by_name}"
        return f"mean({self.name}{by})" if self.mean else self.name


ZERO = Source("0")
# name: (the kinds of the nodes in it, of their wholes and of their parts; its nodes)
SETS: dict[str, tuple[set[str], Callable[[Config], Iterator[Site]]]] = {
    "heads": ({"attn"}, heads),
    "mlps": ({"mlp", "mlp.b"}, lambda c: (Site("mlp", layer) for layer in range(c.n_layer))),
}


@dataclass(frozen=True)
class Edit:
    """One line of a patch. The address tells its kind: node, stream or inside: write; edge: read; port: input."""

    target: Address
    source: Source

    def __str__(self) -> str:
        return f"{self.target} = {self.source}"

    @property
    def kind(self) -> str:
        """"write", "read" or "input"."""
        return "read" if len(self.target.sites) == 2 else "input" if self.target.site.role == "port" else "write"


@dataclass(frozen=True)
class Hold:
    """Keep nodes at a run's values: "heads", "mlps" and addresses side by side, in any order."""

    nodes: str
    source: Source

    def __post_init__(self) -> None:
        words = sorted(set(self.nodes.split()))
        if not words or self.source.value is not None:
            raise PatchError(problem(f"'{self}'", "nodes, and the run (or its mean, or 0) at which they are held",
                                     "Patch.hold('heads', run), or Patch.write(node, tensor) for each node"))
        for word in words:
            if word not in SETS:
                _node(word)
        object.__setattr__(self, "nodes", " ".join(words))

    def __str__(self) -> str:
        return f"hold {self.nodes} = {self.source}"

    def sites(self, config: Config) -> tuple[Site, ...]:
        """The nodes it stands for in a model of this shape."""
        every = (SETS[word][1](config) if word in SETS else [_node(word, config)] for word in self.nodes.split())
        return tuple(chain.from_iterable(every))

    def meets(self, other: Hold) -> bool:
        """Whether a node, or a whole and its part, is in both."""
        return any(_overlap(a, b) for a, b in product(self.nodes.split(), other.nodes.split()))


@dataclass(frozen=True)
class Patch:
    """Edits in a fixed order, so that equal patches are equal whatever the order they were joined in. Patch() changes nothing."""

    edits: tuple[Edit, ...] = ()
    holds: tuple[Hold, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "edits", tuple(sorted(dict.fromkeys(self.edits), key=lambda e: str(e.target))))
        object.__setattr__(self, "holds", tuple(sorted(dict.fromkeys(self.holds), key=str)))
        _refuse_conflicts(self.edits)
        _refuse_lost_parts(self.edits)
        _refuse_double_holds(self.holds)

    @classmethod
    def write(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """This node, stream point, pattern or z is what it is in `given`: a run, a tensor that broadcasts to it, or 0.0."""
        return cls._one(address, given, name, "write",
                        "a node, a stream point, a pattern or a z, as in Patch.write('a9.9@-1', other)")

    @classmethod
    def read(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """Only this edge's port sees the sender as it is in `given`; everybody else sees what it really wrote."""
        return cls._one(address, given, name, "read", "an edge, as in Patch.read('a5.5>a8.6.v', other)")

    @classmethod
    def input(cls, address: str | Address, given: Given, *, name: str = "") -> Patch:
        """This port sees the whole stream as it is in `given` (a run, or a tensor [..., d_model])."""
        return cls._one(address, given, name, "input", "a port, as in Patch.input('a9.9.q@-1', other)")

    @classmethod
    def zero(cls, address: str | Address) -> Patch:
        """This node writes nothing."""
        return cls.write(address, ZERO)

    @classmethod
    def mean(cls, address: str | Address, over: Trace, by: Int[Tensor, "prompts"] | None = None, *, name: str = "run",
             by_name: str = "groups") -> Patch:
        """This node writes its mean over the prompts of a run; with `by` [prompts], over those of the same group, the groups
        being the patched run's too."""
        return cls.write(address, Source(name, run=over, mean=True, by=by, by_name=by_name))

    @classmethod
    def hold(cls, nodes: str, run: Trace | Source, *, name: str = "run") -> Patch:
        """Every node of "heads", "mlps" or "a9.9 m3 ..." that this patch does not write otherwise keeps its value in `run`."""
        held = Hold(nodes, source(run, name))
        if held.source.run is not None:
            held.sites(held.source.run.config)
        return cls(holds=(held,))

    @classmethod
    def parse(cls, text: str, sources: Mapping[str, Trace | Tensor]) -> Patch:
        """The inverse of str(): lines or parts between semicolons, with what each name in it stands for."""
        parts = [_line(line.strip(), sources) for line in re.split(r"[;\n]", text) if line.strip()]
        return cls(tuple(edit for part in parts for edit in part.edits), tuple(hold for part in parts for hold in part.holds))

    def __or__(self, other: Patch) -> Patch:
        """Both; PatchError where they contradict each other."""
        return Patch(self.edits + other.edits, self.holds + other.holds)

    def __bool__(self) -> bool:
        return bool(self.edits or self.holds)

    def __str__(self) -> str:
        return "; ".join(map(str, (*self.edits, *self.holds)))

    def __repr__(self) -> str:
        return f"Patch({str(self)!r})"

    @classmethod
    def _one(cls, address: str | Address, given: Given, name: str, kind: str, legal: str) -> Patch:
        found = parse(address)
        if len(found.sites) > 2:
            raise PatchError(problem(f"'{found}' is a path of several edges", "one edge at a time",
                                     "patching.path(...), which goes edge by edge"))
        edit = Edit(found, source(given, name))
        if edit.kind != kind:
            raise PatchError(problem(f"Patch.{kind}('{found}', ...)", legal, f"Patch.{edit.kind}('{found}', ...)"))
        return cls((edit,))


def source(given: Given, name: str = "") -> Source:
    """What a user gives as a value, as a Source."""
    if isinstance(given, Source):
        return given
    if isinstance(given, Trace):
        return Source(name or "run", run=given)
    if isinstance(given, Tensor):
        return Source(name or "value", value=given)
    if isinstance(given, (int, float)) and given == 0:
        return ZERO
    raise PatchError(problem(f"a value {given!r} of type {type(given).__name__}", "a Trace, a tensor, or 0.0"))


def _node(text: str, config: Config | None = None) -> Site:
    found = parse(text, config)
    if found.at is not None:
        raise PatchError(problem(f"hold '{text}'", "nodes without a position", f"Patch.write('{text}', run)"))
    if len(found.sites) > 1 or found.site.role != "node":
        raise PatchError(problem(f"hold '{text}'", "'heads', 'mlps', or nodes side by side: 'a9.9 m3'"))
    return found.site


def _line(line: str, sources: Mapping[str, Trace | Tensor]) -> Patch:
    match = _LINE.fullmatch(line)
    if not match:
        raise PatchError(problem(f"'{line}' is no line of a patch", "ADDRESS = NAME, ADDRESS = 0, ADDRESS = mean(NAME), "
                                 "ADDRESS = mean(NAME by GROUPS), hold heads = NAME", "'a9.9@-1 = corrupt; hold mlps = clean'"))
    hold, target, mean, by, name = match.groups()
    for each in (mean, by, name):
        if each not in (None, "0", *sources):
            raise PatchError(problem(f"'{line}': nothing is called '{each}'", ", ".join(("0", *sources)),
                                     f"Patch.parse(text, {{'{each}': ...}})"))
    given = _mean(mean, sources[mean], by, sources.get(by)) if mean else ZERO if name == "0" else source(sources[name], name)
    if hold:
        return Patch(holds=(Hold(target, given),))
    found = parse(target.strip())
    return Patch._one(found, given, "", Edit(found, given).kind, "")


def _mean(name: str, run: Trace | Tensor, by: str | None, groups: Trace | Tensor | None) -> Source:
    if not isinstance(run, Trace) or isinstance(groups, Trace):
        raise PatchError(problem(f"mean({name}{f' by {by}' if by else ''})", "the mean of a run, by a tensor of group numbers"))
    return Source(name, run=run, mean=True, by=groups, by_name=by or "groups")


def _overlap(a: str, b: str) -> bool:
    """Whether two words of holds speak of the same node, or of a whole and its part."""
    if a in SETS or b in SETS:
        m, n = (SETS[word][0] if word in SETS else {_node(word).kind} for word in (a, b))
        return not m.isdisjoint(n)
    x, y = _node(a), _node(b)
    return x == y or x.contains(y) or y.contains(x)


def _refuse_double_holds(holds: Iterable[Hold]) -> None:
    for a, b in combinations(holds, 2):
        if a.source != b.source and a.meets(b):
            raise PatchError(problem(f"'{a}' and '{b}' hold one node at two values", "each node held once",
                                     "Patch.write(node, run), to which a hold gives way"))


def _refuse_conflicts(edits: Iterable[Edit]) -> None:
    """Refuse two edits that would both decide one thing. Only those are compared that meet at a thing, so that thousands of
    edits are no trouble. Positions by name are compared again once a batch is known."""
    met: dict[object, dict[Part, list[Edit]]] = {}
    for edit in edits:
        for thing, part in _decided(edit):
            here = met.setdefault(thing, {})
            for other in (other for theirs, others in here.items() if _both_decide(part, theirs) for other in others):
                if may_meet(other.target.at, edit.target.at):
                    raise conflict(other, edit)
            here.setdefault(part, []).append(edit)


def _refuse_lost_parts(edits: Iterable[Edit]) -> None:
    """Refuse an edge from a part of what is written as a whole: nobody can tell what that part wrote."""
    wholes: dict[Site | None, list[Edit]] = {}
    for edit in edits:
        if edit.kind == "write" and edit.target.site.role == "node":
            wholes.setdefault(edit.target.site, []).append(edit)
    for edit in (edit for edit in edits if edit.kind == "read"):
        for whole, _ in _things(edit.target.sites[0])[1:]:
            for write in wholes.get(whole, ()):
                if may_meet(write.target.at, edit.target.at):
                    raise PatchError(problem(f"'{write}' writes a whole, of which '{edit}' reads a part",
                                             f"'{whole}' as the sender too", f"writing the parts of '{whole}' one by one"))


def clash(a: Edit, b: Edit) -> bool:
    """Whether two edits decide the same thing, or one a whole and the other its part, positions aside."""
    mine = dict(_decided(a))
    return any(thing in mine and _both_decide(mine[thing], part) for thing, part in _decided(b))


Part = tuple[bool, ...]
Thing = tuple[Site | None, ...]


def _decided(edit: Edit) -> Iterator[tuple[Thing, Part]]:
    """What an edit decides, then the larger things that this is a part of, and in which respect (True). A write decides a
    node, or its like; a read an edge, by its sender and its port; an input all edges into a port, its sender None."""
    chains = [_things(site) for site in edit.target.sites]
    if edit.kind == "read":
        chains[0] += ((None, True),)
    elif edit.kind == "input":
        chains.insert(0, ((None, False),))
    for things in product(*chains):
        yield tuple(site for site, _ in things), tuple(part for _, part in things)


def _both_decide(a: Part, b: Part) -> bool:
    """Whether two edits that meet at a thing decide more than different parts of it."""
    return not any(x and y for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=65536)
def _things(site: Site) -> tuple[tuple[Site | None, bool], ...]:
    """A site (False), then the wholes of which it is a part (True). A head, its pattern and its z are one thing."""
    layer, part = site.layer, site.part
    if site.kind in ("z", "pattern") or (site.kind == "attn" and part is not None):
        line = [Site("z", layer, part), Site("z", layer), Site("attn", layer)][part is None:]
    else:
        wholes = (Site("attn", layer), Site("mlp", layer), Site("input"), Site(site.kind, layer))
        line = [site, *dict.fromkeys(whole for whole in wholes if whole.contains(site))]
    return tuple((each, i > 0) for i, each in enumerate(line))


def may_meet(a: int | str | None, b: int | str | None) -> bool:
    """Whether two positions are the same for certain; a number and a name are only compared once a batch is known."""
    return a is None or b is None or a == b


def conflict(a: Edit, b: Edit) -> PatchError:
    """The error that names both edits."""
    return PatchError(problem(f"'{a}' and '{b}' both decide what '{b.target}' is", "each thing decided once",
                              "leave one of them out"))


def own_value(value: Tensor, like: Float[Tensor, "rows *rest"], address: Address) -> Float[Tensor, "rows *rest"]:
    """A given tensor in the shape that an edit needs; PatchError where it does not broadcast to it."""
    try:
        return value.to(like).broadcast_to(like.shape)
    except RuntimeError as error:
        raise PatchError(problem(f"a value of shape {list(value.shape)} for '{address}'",
                                 f"{list(like.shape)}, or what broadcasts to it")) from error


