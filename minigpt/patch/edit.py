"""The parts of a patch: where a value comes from (Source), one thing that is changed (Edit), nodes
that are kept (Hold)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from minigpt.address import Address, Site, heads
from minigpt.config import Config
from minigpt.errors import PatchError
from minigpt.names import parse
from minigpt.shown import Shown
from minigpt.trace import Trace

Given: TypeAlias = "Trace | Tensor | NDArray[Any] | np.number[Any] | float | int | Source"
NAME = r"[A-Za-z_][\w.-]*"


@dataclass(frozen=True, eq=False, repr=False)
class Source(Shown):
    """Where a value comes from: a run, a tensor, a number, or the mean of a run over its prompts
    (by group).

    Two are equal when the same names stand for the very same run and tensors, or are one number. A
    number other than zero is its value too.
    """

    name: str
    run: Trace | None = None
    value: Tensor | None = None
    mean: bool = False
    by: Int[Tensor, "prompts"] | None = None
    by_name: str = "groups"
    number: float | None = None

    @classmethod
    def of(cls, number: float) -> Source:
        """A number, as a source."""
        value = torch.tensor(number, dtype=torch.float64) if number else None
        short = f"{number:g}"
        name = short if float(short) == number else repr(float(number))
        return cls(name, value=value, number=float(number))

    def __post_init__(self) -> None:
        if self.name == "0" and self.run is None and self.value is None:
            object.__setattr__(self, "number", 0.0)
        for name in (self.name, self.by_name):
            if self.number is None and not re.fullmatch(NAME, name):
                raise PatchError(
                    f"a source named {name!r}",
                    "a word of letters, digits, _ . and -, a letter first",
                )
        if self.by is not None and self.run is not None and len(self.by) != len(self.run.tokens):
            raise PatchError(
                f"{len(self.by)} groups for a run of {len(self.run.tokens)} prompts",
                "one number for each prompt",
            )

    @property
    def things(self) -> list[tuple[str, Trace | Tensor]]:
        """The run or tensor, and the groups, by their names."""
        origin = self.value if self.run is None else self.run
        named = ((self.name, None if self.number is not None else origin), (self.by_name, self.by))
        return [(name, thing) for name, thing in named if thing is not None]

    def named(self, names: Mapping[tuple[str, int], str]) -> Source:
        """The same under other names, given by these names and the ids of what they stand for."""
        origin = self.value if self.run is None else self.run
        name = names.get((self.name, id(origin)), self.name)
        return replace(
            self, name=name, by_name=names.get((self.by_name, id(self.by)), self.by_name)
        )

    def _key(self) -> tuple[object, ...]:
        return (
            self.name,
            id(self.run),
            self.number if self.number is not None else id(self.value),
            self.mean,
            id(self.by),
            self.by is not None and self.by_name,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        by = "" if self.by is None else f" by {self.by_name}"
        return f"mean({self.name}{by})" if self.mean else self.name


ZERO = Source.of(0)
# name: (the kind of its nodes, those of what shares their writes; its nodes)
SETS: dict[str, tuple[str, set[str], Callable[[Config], Iterator[Site]]]] = {
    "heads": ("attn", {"pair", "attn.l", "attn.l.b", "attn.e"}, heads),
    "mlps": (
        "mlp",
        {"mlp.b", "mlp.l", "mlp.l.b", "mlp.e"},
        lambda c: (Site("mlp", layer) for layer in range(c.n_layer)),
    ),
}


@dataclass(frozen=True, repr=False)
class Edit(Shown):
    """One line of a patch. The address tells its kind: node, stream or inside: write; edge: read;
    port: input. how: "=" puts the value there, "+=" adds it to what the pass computes, "*="
    multiplies that by it, a number."""

    target: Address
    source: Source
    how: str = "="

    def __str__(self) -> str:
        return f"{self.target} {self.how} {self.source}"

    @property
    def kind(self) -> str:
        """ "write", "read" or "input"."""
        if len(self.target.sites) == 2:
            return "read"
        return "input" if self.target.site.role == "port" else "write"


@dataclass(frozen=True, repr=False)
class Hold(Shown):
    """Keep nodes at a run's values: "heads", "mlps" and addresses side by side, in any order; `but`
    the nodes, at positions, that stay free."""

    nodes: str
    source: Source
    but: str = ""

    def __post_init__(self) -> None:
        self._check_nodes()
        for name in ("nodes", "but"):
            object.__setattr__(self, name, " ".join(sorted(set(getattr(self, name).split()))))
        self._check_free()

    def _check_nodes(self) -> None:
        words = self.nodes.split()
        if not words or self.source.value is not None:
            raise PatchError(
                f"'{self}'",
                "nodes, and the run (or its mean, or 0) at which they are held",
                "Patch.hold('heads', run), or Patch.write(node, tensor) for each node",
            )
        for word in sorted(words):
            if word not in SETS:
                _node(word)

    def _check_free(self) -> None:
        for free in self.free:
            if not any(_holds(word, free.site) for word in self.nodes.split()):
                raise PatchError(
                    f"'{self}' holds no {free.site}",
                    "behind 'but', nodes that are held otherwise",
                    "hold heads but a9.9@END = mean(run)",
                )

    def __str__(self) -> str:
        return f"hold {self.nodes}{f' but {self.but}' if self.but else ''} = {self.source}"

    @cached_property
    def free(self) -> tuple[Address, ...]:
        """The nodes that stay free, all of them or at a position."""
        return tuple(_sender(word) for word in self.but.split())

    def places(self, site: Site) -> tuple[int | str | None, ...]:
        """The positions at which this node, though it is held, stays free; None stands for all."""
        return tuple(free.at for free in self.free if free.site == site or free.site.contains(site))

    def sites(self, config: Config) -> tuple[Site, ...]:
        """The nodes it stands for in a model of this shape."""
        for free in self.free:
            parse(free, config)
        every = (
            SETS[word][2](config) if word in SETS else [_node(word, config)]
            for word in self.nodes.split()
        )
        return tuple(chain.from_iterable(every))

    def meets(self, other: Hold) -> bool:
        """Whether a node, or a whole and its part, is in both."""
        return any(_overlap(a, b) for a, b in product(self.nodes.split(), other.nodes.split()))


def source(given: Given, name: str = "") -> Source:
    """What a user gives as a value, as a Source."""
    if isinstance(given, Source):
        return given
    if isinstance(given, Trace):
        return Source(name or "run", run=given)
    if isinstance(given, (Real, np.number)) and not isinstance(given, bool):
        return Source.of(_finite(float(given), given))
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiu":
        given = torch.as_tensor(given)
    if isinstance(given, Tensor):
        return Source(name or "value", value=_finite(given, "a tensor"))
    raise PatchError(
        f"a value {given!r} of type {type(given).__name__}",
        "a Trace, a tensor or an array of numbers, or a number",
    )


def _finite(value: Any, what: object) -> Any:
    """The value; PatchError where it holds NaN or infinity."""
    if not bool(torch.isfinite(torch.as_tensor(value)).all()):
        raise PatchError(
            f"{what} that is NaN or infinite, or holds such a number", "finite numbers"
        )
    return value


def own_value(
    value: Tensor, like: Float[Tensor, "rows *rest"], address: Address
) -> Float[Tensor, "rows *rest"]:
    """A given tensor in the shape that an edit needs; PatchError where it does not broadcast to
    it."""
    try:
        return value.to(like).broadcast_to(like.shape)
    except RuntimeError as error:
        raise PatchError(
            f"a value of shape {list(value.shape)} for '{address}'",
            f"{list(like.shape)}, or what broadcasts to it",
        ) from error


def refuse_reading(address: Address) -> None:
    """PatchError for what can only be read."""
    for site in address.sites:
        if site.role == "reading":
            raise PatchError(
                f"an edit of '{address}': what '{site}' is can be read, and not written",
                f"edits of '{site.whole}' itself, or of its latents one by one",
            )


def _node(text: str, config: Config | None = None) -> Site:
    address = _sender(text, config)
    if address.at is not None:
        raise PatchError(
            f"hold '{text}'", "nodes without a position", f"Patch.write('{text}', run)"
        )
    return address.site


def _sender(text: str, config: Config | None = None) -> Address:
    address = parse(text, config)
    refuse_reading(address)
    if len(address.sites) > 1 or address.site.role != "node":
        raise PatchError(f"hold '{text}'", "'heads', 'mlps', or nodes side by side: 'a9.9 m3'")
    return address


def _holds(word: str, site: Site) -> bool:
    """Whether a word of a hold stands for this node, or for nodes that are parts of it."""
    if word in SETS:
        return site.kind == SETS[word][0] and (site.kind == "attn" or site.part is None)
    return site == _node(word) or site.contains(_node(word))


def _kinds(word: str) -> set[str]:
    """The kinds of a word's nodes, and of what shares their writes."""
    return SETS[word][1] | {SETS[word][0]} if word in SETS else {_node(word).kind}


def _overlap(a: str, b: str) -> bool:
    """Whether two words of holds speak of the same node, or of a whole and its part."""
    if a in SETS or b in SETS:
        m, n = (_kinds(word) for word in (a, b))
        return not m.isdisjoint(n)
    x, y = _node(a), _node(b)
    return x == y or x.contains(y) or y.contains(x)
