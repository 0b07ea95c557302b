"""What every head, neuron and latent did in some windows of a corpus: the same bits however many are
run at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.corpus.attends import Attends, attends
from interp.corpus.best import Best
from interp.corpus.groups import Did, Group, groups, offsets
from interp.corpus.moments import Moments
from interp.corpus.windows import Windows
from minigpt import GPT2
from minigpt.shown import Shown

# Tokens that are run at a time.
BATCH = 2048
KINDS = ("top", "bottom", "sample")
# What a key must exceed to be kept, by kind.
Least = Mapping[str, Float[Tensor, "n"]]


@dataclass(frozen=True)
class Settings(Shown):
    """size: of a window, in tokens; skip: a window's first tokens, which do not count; top, bottom,
    sample: how many windows are kept of each component; shard: windows between two times that what
    is known is written down."""

    size: int = 64
    skip: int = 1
    top: int = 20
    bottom: int = 8
    sample: int = 30
    seed: int = 0
    shard: int = 512


@dataclass(frozen=True, eq=False, repr=False)
class Found(Shown):
    """What is known of every component after some windows."""

    moments: Moments
    best: dict[str, Best]
    attends: Attends

    def __or__(self, other: Found) -> Found:
        best = {name: kept | other.best[name] for name, kept in self.best.items()}
        return Found(self.moments | other.moments, best, self.attends | other.attends)

    @property
    def least(self) -> Least:
        """What a later window's key must exceed to be kept."""
        return {kind: best.least for kind, best in self.best.items()}

    @classmethod
    def none(cls, model: GPT2, settings: Settings) -> Found:
        """Nothing yet."""
        n = sum(group.n for group in groups(model))
        best = {kind: Best.none(n, getattr(settings, kind)) for kind in KINDS}
        config = model.config
        return cls(Moments.none(n), best, Attends.none(config.n_layer, config.n_head))


@torch.inference_mode()
def measure(
    model: GPT2,
    windows: Windows,
    settings: Settings,
    shard: slice,
    least: Least,
) -> Found:
    """What every component did in the windows of one shard; of those to be kept, only what is above
    `least`."""
    every, found = groups(model), Found.none(model, settings)
    moments = {group.name: Moments.none(group.n) for group in every}
    seen = found.attends
    for rows in _batches(windows, shard):
        trace = model.run([windows[window] for window in rows])
        lengths = trace.batch.lengths.tolist()
        for group in every:
            did = group.read(trace)
            for row, (window, length) in enumerate(zip(rows, lengths, strict=True)):
                alone = did.row(row, length)
                skip = min(settings.skip, length - 1)
                moments[group.name] |= Moments.of(alone.values[skip:])
                _offer(found, every, group, alone, window, skip, settings, least)
        for row, length in enumerate(lengths):
            seen |= attends(trace, row, length, min(settings.skip, length - 1))
    return Found(Moments.joined([moments[group.name] for group in every]), found.best, seen)


def _offer(
    found: Found,
    every: Sequence[Group],
    group: Group,
    did: Did,
    window: int,
    skip: int,
    settings: Settings,
    least: Least,
) -> None:
    """A window to be kept, for its largest number, its smallest one, and by the lot."""
    start = offsets(every)[group.name]
    most, least_at = did.values[skip:].max(0), did.values[skip:].min(0)
    drawn = lots(settings.seed, window, start, group.n)
    offers = {
        "top": (most.values.double(), most.indices),
        "bottom": (-least_at.values.double(), least_at.indices),
        "sample": (drawn, most.indices),
    }
    for kind, (key, at) in offers.items():
        if kind != "bottom" or not group.is_heads:
            below = least[kind][start : start + group.n]
            found.best[kind].offer(start, key, window, did, at + skip, below)


def lots(seed: int, window: int, start: int, n: int) -> Float[Tensor, "n"]:
    """A number for each component in a window, as good as drawn, the same in every run (splitmix64's
    finaliser of both numbers)."""
    begin = _wrapped(window * 0x2545F4914F6CDD1D + (seed + 1) * 0x5851F42D4C957F2D)
    x = torch.arange(start, start + n) * 0x1E3779B97F4A7C15 + begin
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shifted(x, shift)) * _wrapped(factor)
    return _shifted(x ^ _shifted(x, 31), 11).double()


def _wrapped(x: int) -> int:
    """As 64 bits with a sign."""
    return (x + 2**63) % 2**64 - 2**63


def _shifted(x: Int[Tensor, "n"], by: int) -> Int[Tensor, "n"]:
    """To the right, zeros coming in."""
    return (x >> by) & (2 ** (64 - by) - 1)


def _batches(windows: Windows, shard: slice) -> Iterator[list[int]]:
    """Windows that are run together, in their order."""
    rows: list[int] = []
    tokens = 0
    for window in range(shard.start, shard.stop):
        length = len(windows[window])
        if rows and tokens + length > BATCH:
            yield rows
            rows, tokens = [], 0
        rows, tokens = [*rows, window], tokens + length
    if rows:
        yield rows
