"""Operations on a run as lines of text, and lines as a Patch. Undo and redo are the list of lines.

A line is a line of a Patch whose source is 0, mean(reference), other, this (the run's own values
before any intervention: a freeze), or x0.5 (so many times these values); what is added may be a
direction: 4*answer (the answer's row of W_U less the other's, of length one), 1*difference (from
this prompt's value to the other's).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from jaxtyping import Float
from torch import Tensor

from interp.debugger.align import Twins
from interp.debugger.question import QuestionError
from minigpt import Address, Trace, parse
from minigpt.patch import Patch
from minigpt.patch.edit import Edit, source
from minigpt.shown import Shown

# operation: (what stands behind the address in its line, what it means)
OPERATIONS = {
    "zero": ("= 0", "It writes nothing."),
    "mean": ("= mean(reference)", "It writes its mean over the reference prompts."),
    "scale": ("= x{factor}", "It writes so many times what it wrote in the clean run."),
    "set": ("= {factor}", "It has this value: a neuron's activation after the GELU, a latent's."),
    "freeze": ("= this", "It keeps writing what it wrote in the clean run, whatever else changes."),
    "other": ("= other", "It writes what it wrote on the other prompt."),
    "push": (
        "+= {factor}*answer",
        "It writes so much more toward the answer: along its row of W_U less the other's.",
    ),
}
MAX_FACTOR = 1e6
SOURCES = "0 or another number, mean(reference), other, this, x0.5 (a factor)"
# Operations that take a number.
NUMBERED = ("scale", "set", "push")
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_SCALED = re.compile(f"x({_NUMBER})")
_ALONG = re.compile(rf"({_NUMBER})\*(answer|difference)")
_LINE = re.compile(r"(?P<target>[^=]*?)\s*(?P<sign>[+*]?=)\s*(?P<word>[^=]*)")


@dataclass(frozen=True, eq=False, repr=False)
class Sources(Shown):
    """What the words in a line stand for: this run, the other prompt's and where its positions are,
    a run over the reference, and the direction of the answer, of length one."""

    this: Trace
    other: Trace | None
    twins: Twins
    reference: Callable[[], Trace]
    toward: Float[Tensor, "d_model"] | None = None


def line(operation: str, target: str, factor: float | None = None) -> str:
    """The line of an operation on a node, stream point, pattern, port or edge, at a position or
    everywhere: "a2.6@13 = 0", "a2.6@13<1 = 0"."""
    if operation not in OPERATIONS:
        raise QuestionError(f"the operation {operation!r}", ", ".join(OPERATIONS))
    if (factor is None) == (operation in NUMBERED) or not math.isfinite(factor or 0.0):
        raise QuestionError(
            f"{operation} with the number {factor}",
            "a finite number for scale, set and push, and for nothing else",
        )
    return f"{parse(target)} {OPERATIONS[operation][0].format(factor=f'{factor or 0.0:.12g}')}"


def target(line: str) -> str:
    """The address that a line is of; what it says where it is none."""
    found = _LINE.fullmatch(line)
    return line if found is None else found["target"]


def compiled(lines: Iterable[str], sources: Sources) -> Patch:
    """The lines as one Patch on this run; QuestionError, PatchError or AddressError for one that
    means nothing, or two that disagree."""
    parts = (part.strip() for text in lines for part in re.split(r"[;\n]", text))
    return reduce(or_, (_line(part, sources) for part in parts if part), Patch())


def _line(text: str, sources: Sources) -> Patch:
    found = _LINE.fullmatch(text)
    if found is None or not found["target"]:
        raise QuestionError(
            f"'{text}' is no intervention",
            f"ADDRESS = SOURCE, a source being {SOURCES}; ADDRESS *= NUMBER, ADDRESS += SOURCE",
            "'a2.6@13 = 0'",
        )
    target, sign, word = found.groups()
    if re.fullmatch(_NUMBER, word):
        _factor(word)
        return Patch.parse(text, {})
    if sign != "=":
        return _added(text, target, word, sources)
    if scaled := _SCALED.fullmatch(word):
        own = _value(sources.this, _address(target, sources), None)
        return _put(target, _factor(scaled[1]) * own, word)
    if word == "other":
        _check_other(text, target, sources)
        if sources.twins != tuple(range(sources.this.tokens.shape[1])):
            return _put(target, _twin(_address(target, sources), sources), word)
    return Patch.parse(text, _named(text, target, word, sources))


def _added(text: str, target: str, word: str, sources: Sources) -> Patch:
    """A line that adds another run's value to what this run computes; *= takes numbers alone."""
    if (along := _ALONG.fullmatch(word)) and "*=" not in text:
        return _along(text, target, _factor(along[1]), along[2], sources)
    if word not in ("other", "this") or "*=" in text:
        raise QuestionError(
            f"'{text}': '{word}'",
            "+= other, += this, += 4*answer, += 1*difference, or a number",
            f"'{target} *= 0.5'",
        )
    if word == "other":
        _check_other(text, target, sources)
        if sources.twins != tuple(range(sources.this.tokens.shape[1])):
            raise QuestionError(
                f"'{text}': the prompts differ in length", "a second prompt of as many tokens"
            )
    return Patch.parse(text, _named(text, target, word, sources))


def _along(text: str, target: str, factor: float, word: str, sources: Sources) -> Patch:
    """A line that adds so much of a direction to a write or a stream point: toward the answer, or
    from this prompt's value to the other's."""
    address = _address(target, sources)
    if len(address.sites) > 1 or address.site.role not in ("node", "stream"):
        raise QuestionError(f"'{text}'", "a direction added to a write or a stream point")
    if word == "answer":
        assert sources.toward is not None
        return Patch.add(address, factor * sources.toward, name="answer")
    _check_other(text, target, sources)
    assert sources.other is not None
    if sources.twins != tuple(range(sources.this.tokens.shape[1])):
        raise QuestionError(
            f"'{text}': the prompts differ in length", "a second prompt of as many tokens"
        )
    here, there = (_value(run, address, None) for run in (sources.this, sources.other))
    return Patch.add(address, factor * (there - here), name="difference")


def _check_other(text: str, target: str, sources: Sources) -> None:
    if sources.other is None:
        raise QuestionError(
            f"'{text}' without another prompt",
            "a second prompt, from which the value is taken",
            f"'{target} = 0'",
        )


def _named(text: str, target: str, word: str, sources: Sources) -> dict[str, Trace | Tensor]:
    """The runs that a line's source may be."""
    runs: dict[str, Trace | Tensor] = {"this": sources.this}
    if sources.other is not None:
        runs["other"] = sources.other
    if word == "mean(reference)":
        return {**runs, "reference": sources.reference()}
    if word not in ("0", *runs):
        raise QuestionError(f"'{text}': the source '{word}'", SOURCES, f"'{target} = 0'")
    return runs


def _factor(text: str) -> float:
    """A factor of a size that leaves every value finite."""
    if not abs(float(text)) <= MAX_FACTOR:
        raise QuestionError(f"the factor {text}", f"-{MAX_FACTOR:,.0f} to {MAX_FACTOR:,.0f}")
    return float(text)


def _address(target: str, sources: Sources) -> Address:
    if target.startswith("hold "):
        raise QuestionError(
            f"'{target}' at a value of its own",
            "hold with 0, this, mean(reference), or other of as many tokens",
            "one line a node",
        )
    address = parse(target, sources.this.config)
    sources.this.batch.index(-1 if address.at is None else address.at)
    sources.this.batch.check(address)
    return address


def _put(target: str, value: Tensor, name: str) -> Patch:
    """The patch that puts a tensor at an address, whatever kind of edit that is."""
    address = parse(target)
    kinds = {"write": Patch.write, "read": Patch.read, "input": Patch.input}
    return kinds[Edit(address, source(value, "value")).kind](address, value, name=name)


def _value(trace: Trace, address: Address, at: Twins | None) -> Float[Tensor, "batch *rest"]:
    """What an edit at this address would put there to change nothing; `at`: the positions to read
    instead of the address's own or all."""
    site = address.sites[0]
    every = trace.stream(site) if site.role == "port" else trace[str(site)]
    if at is not None:
        every = every[:, list(at)]
        return every[:, 0] if address.at is not None else every
    return every if address.at is None else every[:, int(trace.batch.index(address.at)[0])]


def _twin(address: Address, sources: Sources) -> Float[Tensor, "batch *rest"]:
    """The value on another prompt of another length, position by twin position."""
    assert sources.other is not None
    here = list(range(len(sources.twins)))
    if address.at is not None:
        here = [int(sources.this.batch.index(address.at)[0])]
    key = address.sites[0].key
    here += [] if key is None else [int(sources.this.batch.places(key)[0])]
    there = tuple(sources.twins[i] for i in here)
    if address.sites[0].kind == "pattern" or None in there:
        missing = None in there
        lost = f"position {here[there.index(None)]} has" if missing else "its keys have"
        raise QuestionError(
            f"'{address} = other': the prompts differ in length, and {lost} no twin on the other",
            "a position that both prompts have",
            f"'{address.sites[0]}@-1 = other'",
        )
    if key is None:
        return _value(sources.other, address, there)
    site = replace(address.site, key=there[-1])
    return _value(sources.other, Address((site,), address.at), there[:-1])
