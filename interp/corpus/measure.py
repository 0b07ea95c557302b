"""What every head, neuron and latent did in some windows of a corpus: the same bits however many
are run at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from interp.corpus import attends, dense
from interp.corpus.attends import Attends, looked
from interp.corpus.best import Best, keys
from interp.corpus.groups import Did, Group, groups, offsets
from interp.corpus.moments import Moments
from interp.corpus.windows import Windows
from minigpt import GPT2, Trace
from minigpt.shown import Shown

# Windows that are measured together; they are run together too, where there is room.
BLOCK = 16
KINDS = ("top", "bottom", "sample")
# What a rank must exceed to be kept, by kind.
Least = Mapping[str, Int[Tensor, "n"]]
NOTHING: Least = MappingProxyType({})


@dataclass(frozen=True)
class Settings(Shown):
    """size: of a window, in tokens; skip: a window's first tokens, which do not count; top, bottom,
    sample: how many windows are kept of each component; shard: windows between two times that what
    is known is written down; dense: nodes of which every number is kept."""

    size: int = 64
    skip: int = 1
    top: int = 20
    bottom: int = 8
    sample: int = 30
    seed: int = 0
    shard: int = 512
    dense: tuple[str, ...] = ()


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
        """What a later window's rank must exceed to be kept."""
        return {kind: best.least for kind, best in self.best.items()}

    @classmethod
    def none(cls, model: GPT2, settings: Settings, least: Least = NOTHING) -> Found:
        """Nothing yet, and no window to be kept whose rank is not above `least`."""
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
    roots = [attends.outputs(model.params, i) for i in range(model.config.n_layer)]
    for start in range(shard.start, shard.stop, BLOCK):
        rows = range(start, min(start + BLOCK, shard.stop))
        block = Block(model, windows, rows, settings, batch, roots)
        for group in every:
            sums[group.name] |= _took(block, group, starts[group.name], kept, settings.seed)
        for each in block.attends:
            seen |= each
        del block  # its run makes room for the next one
    return Found(Moments.joined([sums[group.name] for group in every]), kept, seen)


def _took(block: Block, group: Group, start: int, kept: Mapping[str, Best], seed: int) -> Moments:
    """How a group's numbers in a block are spread; its windows are offered."""
    did = block.did(group)
    some, low, high = Moments.of(did.values, block.counted)
    Offer(start, group, did, block).to(kept, low, high, seed)
    return some


def _both(a: Best, b: Best) -> Best:
    """Of what was put into one, that."""
    return a if a is b else a | b


class Block:
    """Windows that are measured together, the same ones in every run, by so many as are run at a
    time. marks: their checksums; counted: the tokens that count; attends: what heads attended to,
    window by window."""

    def __init__(
        self,
        model: GPT2,
        windows: Windows,
        rows: range,
        settings: Settings,
        batch: int,
        roots: Sequence[attends.Roots],
    ) -> None:
        tokens = [windows[window] for window in rows]
        self.first = rows.start
        self.marks = torch.tensor([windows.mark(window) for window in rows])
        self.counted = _counted(torch.tensor([len(ids) for ids in tokens]), settings.skip)
        self.attends: list[Attends] = []
        self._reads: list[Callable[[Group], Did]] = []
        for start in range(0, len(tokens), batch):
            trace = model.run(tokens[start : start + batch])
            heads = [looked(trace, layer, settings.skip, each) for layer, each in enumerate(roots)]
            self.attends += attends.each(heads)
            read: Callable[[Group], Did] = partial(_read, trace, heads)
            if batch < len(tokens):  # its trace makes room for the next one
                read = {group: read(group) for group in groups(model)}.pop
            self._reads.append(read)
            dense.put(trace, windows, rows.start + start, settings.dense)

    def did(self, group: Group) -> Did:
        """What a group's components did, [window, pos, n]; behind a window's end anything."""
        each, width = [read(group) for read in self._reads], self.counted.shape[1]
        source = [did.source for did in each if did.source is not None]
        joined = _joined(source, width) if source else None
        return Did(_joined([did.values for did in each], width), joined)


def _read(trace: Trace, heads: Sequence[attends.Looked], group: Group) -> Did:
    """What a group's components did in a run."""
    return Did(*heads[group.layer][:2]) if group.is_heads else group.read(trace)


def _counted(lengths: Int[Tensor, "windows"], skip: int) -> Bool[Tensor, "windows pos"]:
    """The tokens that count: not those behind an end, nor each window's first; of a window that has
    no others, its last."""
    places = torch.arange(int(lengths.max()))
    first = (lengths - 1).clamp(max=skip)
    return (places < lengths[:, None]) & (places >= first[:, None])


def _joined(each: Sequence[Tensor], width: int) -> Tensor:
    """Windows of several runs, with room for the longest; of one run that is wide enough as it
    is."""
    if len(each) == 1 and each[0].shape[1] == width:
        return each[0]
    return torch.cat([F.pad(x, (0, 0, 0, width - x.shape[1])) for x in each])


Ends = Float[Tensor, "windows n"]


@dataclass(frozen=True, eq=False, repr=False)
class Offer(Shown):
    """Windows of a group to be kept: for their largest number, their smallest one, and by the
    lot."""

    start: int
    group: Group
    did: Did
    block: Block

    def to(self, best: Mapping[str, Best], least: Ends, most: Ends, seed: int) -> None:
        """Offer them."""
        drawn = lots(seed, self.block.marks[:, None], self.start + torch.arange(self.group.n))
        given = self.block.first, self.did, self.block.counted
        best["top"].offer(self.start, keys(most), *given)
        best["sample"].offer(self.start, drawn, *given)
        if self.group.is_neurons:  # others are at nothing in most windows
            best["bottom"].offer(self.start, keys(-least), *given, -1)


def lots(
    seed: int, marks: Int[Tensor, "*m"], components: Int[Tensor, "*n"]
) -> Int[Tensor, "*both"]:
    """A number of 31 bits for a component in a window, as good as drawn, the same in every store
    that has the window (the last steps of splitmix64, of the component's number and the window's
    checksum)."""
    x = marks * 0x2545F4914F6CDD1D + _wrapped((seed + 1) * 0x5851F42D4C957F2D)
    x = x + components * 0x1E3779B97F4A7C15
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _shifted(x, shift)) * _wrapped(factor)
    return _shifted(x ^ _shifted(x, 31), 33)


def _wrapped(x: int) -> int:
    """As 64 bits with a sign."""
    return (x + 2**63) % 2**64 - 2**63


def _shifted(x: Int[Tensor, "*n"], by: int) -> Int[Tensor, "*n"]:
    """To the right, zeros coming in."""
    moved: Tensor = (x >> by) & (2 ** (64 - by) - 1)
    return moved
