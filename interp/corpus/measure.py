"""What every head, neuron and latent did in some windows of a corpus: the same bits however many
are run at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from interp.corpus.attends import Attends, attends
from interp.corpus.best import Best
from interp.corpus.groups import Did, Group, groups, offsets
from interp.corpus.moments import Moments
from interp.corpus.windows import Windows
from minigpt import GPT2, Trace
from minigpt.shown import Shown

# Windows that are measured together: a run of theirs takes half a megabyte a token at full size.
BLOCK = 16
KINDS = ("top", "bottom", "sample")
# What a key must exceed to be kept, by kind.
Least = Mapping[str, Float[Tensor, "n"]]
NOTHING: Least = MappingProxyType({})


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
        best = {name: _both(kept, other.best[name]) for name, kept in self.best.items()}
        return Found(self.moments | other.moments, best, self.attends | other.attends)

    @property
    def least(self) -> Least:
        """What a later window's key must exceed to be kept."""
        return {kind: best.least for kind, best in self.best.items()}

    @classmethod
    def none(cls, model: GPT2, settings: Settings, least: Least = NOTHING) -> Found:
        """Nothing yet, and no window to be kept whose key is not above `least`."""
        n = sum(group.n for group in groups(model))
        best = {k: Best.none(n, getattr(settings, k), least.get(k)) for k in KINDS}
        config = model.config
        return cls(Moments.none(n), best, Attends.none(config.n_layer, config.n_head))


@torch.inference_mode()
def measure(
    model: GPT2,
    windows: Windows,
    settings: Settings,
    shard: slice,
    least: Least = NOTHING,
    batch: int = BLOCK,
    best: Mapping[str, Best] | None = None,
) -> Found:
    """What every component did in the windows of one shard; of those to be kept, only what is above
    `least`. batch: how many are run at a time, which changes nothing; best: what is kept already,
    into which it is put."""
    every = groups(model)
    starts = offsets(every)
    kept = Found.none(model, settings, least).best if best is None else dict(best)
    sums = {group.name: Moments.none(group.n) for group in every}
    seen = Attends.none(model.config.n_layer, model.config.n_head)
    for start in range(shard.start, shard.stop, BLOCK):
        block = _block(model, windows, range(start, min(start + BLOCK, shard.stop)), batch)
        counted = block.counted(settings.skip)
        for group in every:
            did = block.did(group)
            least_, most = ends(did.values, counted)
            inside = rows(did.values, counted)
            sums[group.name] |= Moments.of(inside, least_.amin(0), most.amax(0))
            offer = Offer(starts[group.name], group, did, block.first, counted)
            offer.to(kept, least_, most, settings.seed)
        seen = block.attended(seen, settings.skip)
    return Found(Moments.joined([sums[group.name] for group in every]), kept, seen)


def _both(a: Best, b: Best) -> Best:
    """Of what was put into one, that."""
    return a if a is b else a | b


@dataclass(frozen=True, eq=False, repr=False)
class Block(Shown):
    """Windows that are measured together, the same ones in every run; their runs, by so many as
    were run at a time."""

    first: int
    lengths: Int[Tensor, "windows"]
    traces: tuple[Trace, ...]

    def did(self, group: Group) -> Did:
        """What a group's components did, [window, pos, n]; behind a window's end anything."""
        each = [group.read(trace) for trace in self.traces]
        width = int(self.lengths.max())
        source = [did.source for did in each if did.source is not None]
        joined = _joined(source, width) if source else None
        return Did(_joined([did.values for did in each], width), joined)

    def counted(self, skip: int) -> Bool[Tensor, "windows pos"]:
        """The tokens that count: not those behind an end, nor each window's first; of a window that
        has no others, its last."""
        places = torch.arange(int(self.lengths.max()))
        first = (self.lengths - 1).clamp(max=skip)
        return (places < self.lengths[:, None]) & (places >= first[:, None])

    def attended(self, seen: Attends, skip: int) -> Attends:
        """What is known of heads, and what they attended to here, window by window."""
        for trace in self.traces:
            for each in attends(trace, skip):
                seen |= each
        return seen


def _block(model: GPT2, windows: Windows, rows: range, batch: int) -> Block:
    tokens = [windows[window] for window in rows]
    lengths = torch.tensor([len(ids) for ids in tokens])
    runs = [model.run(tokens[i : i + batch]) for i in range(0, len(tokens), batch)]
    return Block(rows.start, lengths, tuple(runs))


def _joined(each: Sequence[Tensor], width: int) -> Tensor:
    """Windows of several runs, with room for the longest; of one run that is wide enough as it
    is."""
    if len(each) == 1 and each[0].shape[1] == width:
        return each[0]
    return torch.cat([F.pad(x, (0, 0, 0, width - x.shape[1])) for x in each])


Windowed = Float[Tensor, "windows pos n"]
Ends = Float[Tensor, "windows n"]


def rows(values: Windowed, counted: Bool[Tensor, "windows pos"]) -> Float[Tensor, "rows n"]:
    """The numbers that count, one after the other."""
    first = _alike(counted)
    return values[counted] if first is None else values[:, first:].flatten(0, 1)


def ends(values: Windowed, counted: Bool[Tensor, "windows pos"]) -> tuple[Ends, Ends]:
    """The smallest and the largest number that counts, of each component in each window."""
    first = _alike(counted)
    if first is not None:
        return values[:, first:].amin(1), values[:, first:].amax(1)
    outside = ~counted[..., None]
    least = values.masked_fill(outside, torch.inf).amin(1)
    return least, values.masked_fill(outside, -torch.inf).amax(1)


def _alike(counted: Bool[Tensor, "windows pos"]) -> int | None:
    """Where all windows begin to count, if they all do from the same token to the last."""
    first = int(counted[0].int().argmax())
    return first if bool(counted[:, first:].all()) and not counted[:, :first].any() else None


@dataclass(frozen=True, eq=False, repr=False)
class Offer(Shown):
    """Windows of a group to be kept: for their largest number, their smallest one, and by the
    lot."""

    start: int
    group: Group
    did: Did
    first: int
    counted: Bool[Tensor, "windows pos"]

    def to(self, best: Mapping[str, Best], least: Ends, most: Ends, seed: int) -> None:
        """Offer them."""
        windows = range(self.first, self.first + len(most))
        drawn = torch.stack([lots(seed, w, self.start, self.group.n) for w in windows])
        given = self.first, self.did, self.counted
        best["top"].offer(self.start, most.double(), *given)
        best["sample"].offer(self.start, drawn, *given)
        if self.group.is_neurons:  # others are at nothing in most windows
            best["bottom"].offer(self.start, -least.double(), *given, -1)


def lots(seed: int, window: int, start: int, n: int) -> Float[Tensor, "n"]:
    """A number for each component in a window, as good as drawn, the same in every run (the last
    steps of splitmix64, of both numbers)."""
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
    moved: Tensor = (x >> by) & (2 ** (64 - by) - 1)
    return moved
