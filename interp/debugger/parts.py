"""A score of one side taken apart: what every earlier write adds to each of its readings, and what
an edge's other write would change.

A part is called by what writes and the edge: (sender, port, position on the left side). Senders
that are no node have a space in them: "LayerNorm bias" and "own bias" of the port itself, and what
an intervention wrote into a stream ("edit of resid2") or gave the port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp.debugger.columns import lit
from interp.debugger.intervene import Sources
from interp.debugger.score import Reading, Score, bound
from interp.numerics import bounds
from interp.parts import Parts as Stream
from interp.parts import granted, within
from minigpt import Site, Trace, parse
from minigpt.shown import Shown

Key = tuple[str, str, int]
BIASES = ("LayerNorm bias", "own bias")


@dataclass(frozen=True, eq=False, repr=False)
class Parts(Shown):
    """The score; what each sender adds to each reading (all of it sums to the score, but for
    `bound`); readings by port and position."""

    score: Score
    senders: tuple[str, ...]
    readings: dict[tuple[str, int], Reading]
    values: Float[Tensor, "senders readings"]
    bound: float

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[tuple[str, int], int]]:
        return {name: i for i, name in enumerate(self.senders)}, {
            name: i for i, name in enumerate(self.readings)
        }

    def __getitem__(self, key: Key) -> float | None:
        """What a part adds; None where there is no such part."""
        rows, columns = self._places
        row, column = rows.get(key[0]), columns.get(key[1:])
        return None if row is None or column is None else float(self.values[row, column])

    def ends(self, k: int) -> list[Key]:
        """The k largest parts above zero, and the k below."""
        flat, names = self.values.flatten(), list(self.readings)
        above, below = (_largest(flat.mul(sign), k) for sign in (1, -1))
        return [
            (self.senders[i // len(names)], *names[i % len(names)]) for i in (*above, *below[::-1])
        ]


def _largest(values: Float[Tensor, "n"], k: int) -> list[int]:
    """Where the k largest are, of those above zero."""
    best = values.topk(min(k, len(values)))
    return [i for i, x in zip(best.indices.tolist(), best.values.tolist(), strict=True) if x > 0]


def parts(trace: Trace, score: Score, split: Sequence[str], place: Callable[[int], int]) -> Parts:
    """Every part. split: "neurons" for MLPs by neuron, "latents" for writes by latent; place: this
    side's position -> the one it is called by."""
    readings = score.readings
    toward = torch.stack([r.share * r.gradient(trace) for r in readings])
    at, ports = torch.tensor([r.at for r in readings]), [r.port for r in readings]
    senders: dict[str, Tensor] = {}
    for sender, added in _added(trace, ports, at, toward, split):
        senders[sender] = senders[sender] + added if sender in senders else added
    biases = (
        [r.share * r.bias(trace) for r in readings],
        [r.share * r.constant for r in readings],
    )
    senders |= {sender: torch.stack(some) for sender, some in zip(BIASES, biases, strict=True)}
    values, most = torch.stack(list(senders.values())), bounds.said(float(bound(trace, readings)))
    named = {(str(r.port), place(r.at)): r for r in readings}
    return Parts(score, tuple(senders), named, values, most)


def exact(
    trace: Trace, found: Parts, keys: Sequence[Key], instead: str, sources: Sources
) -> dict[Key, float]:
    """How the score changes when one edge alone carries another write, LayerNorm computed again;
    nodes' edges only.

    instead: "0", "mean(reference)" or "other"; at positions without a twin on the other prompt
    there is no such write.
    """
    changes: dict[Key, float] = {}
    for name, reading in found.readings.items():
        own = [key for key in keys if key[1:] == name and is_node(key[0])]
        writes = {key: _other_write(key[0], reading.at, instead, sources) for key in own}
        differ = {
            key: write - trace[f"{key[0]}@{reading.at}"][0]
            for key, write in writes.items()
            if write is not None
        }
        if differ:
            effects = reading.change(trace, torch.stack(list(differ.values()))).tolist()
            changes |= dict(zip(differ, effects, strict=True))
    return changes


def is_node(sender: str) -> bool:
    """Whether a part's sender is a node, whose edge can carry another write."""
    return " " not in sender


def _added(
    trace: Trace,
    ports: Sequence[Site],
    at: Tensor,
    toward: Float[Tensor, "readings d_model"],
    split: Sequence[str],
) -> Iterator[tuple[str, Float[Tensor, "readings"]]]:
    """What each earlier write adds to each reading, then what edits put in the place of wholes
    whose parts are listed, of a stream before the ports, and of what ports read."""
    stream = Stream(trace, ports[0], lambda x: x[0, at], toward)
    wholes = [parse(whole).site for whole in lit(trace, split)]
    written = list(stream.cut(range(trace.config.n_layer) if "neurons" in split else (), wholes))
    yield from ((str(site), values) for site, values in written)
    for site, values in stream.edits([*wholes, *(site for site, _ in written)]):
        if not within(site, wholes):
            yield f"edit of {site}", values
    if any(port in trace.ports for port in ports):
        seen = zip(ports, at.tolist(), strict=True)
        changes = torch.stack([granted(trace, port)[0, t] for port, t in seen])
        yield "edit of the port", (changes * toward).sum(-1)


def _other_write(
    sender: str, at: int, instead: str, sources: Sources
) -> Float[Tensor, "d_model"] | None:
    """What an edge carries instead; None where the other prompt, or the one that the reference is
    like, has no such position."""
    if instead == "mean(reference)":
        reference = sources.reference()
        as_long = reference.tokens.shape[1] == sources.this.tokens.shape[1]
        place = at if as_long else sources.twins[at]
        return None if place is None else reference[f"{sender}@{place}"].mean(0)
    if instead == "other" and sources.other is not None:
        there = sources.twins[at]
        return None if there is None else sources.other[f"{sender}@{there}"][0]
    return torch.zeros(sources.this.config.d_model, dtype=sources.this.params.wte.dtype)
