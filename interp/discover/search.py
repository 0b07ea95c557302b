"""Which heads make up the answer, and how: the method of Wang et al. 2022 (section 3, App. B) as an
algorithm, without gradients.

From the logits backwards. Every head is path-patched to the output; those that stand out are
followed: every head is path-patched to their queries where they stand, and to their keys and values
where they look; and so on until nothing new stands out. Heads of a layer that push the same way in
one map are followed together, as the paper follows a class, so that what they read shows although
each could be spared; those of other layers are not, since what pushes one may hold back the other,
and cancel. At last the movers are knocked out, and who stands out on the logits only then is a
backup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp import patching
from interp.circuit.ablation import Ablation
from interp.discover.null import cutoff
from interp.discover.record import Discovery, Finding, Map
from interp.discover.roles import BACKUP, LOOKS, NAME_MOVER, NEGATIVE, Judge, judge
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, parse
from minigpt.address import heads
from minigpt.errors import PromptError
from minigpt.patch import Patch

# Keys and values are followed to positions that get this share of a head's attention or more: less
# than a head is classed by, since what is not there is decided by the maps.
FOLLOWED = LOOKS / 2
MOVERS = (NAME_MOVER, NEGATIVE)


def discover(
    model: GPT2,
    pairs: Prompts,
    metric: Metric,
    *,
    reference: Prompts | None = None,
    threshold: float = 0.02,
    level: float = 0.05,
    progress: bool = False,
) -> Discovery:
    """The heads, at their positions, that make the metric what it is on the clean prompts rather
    than the corrupt ones.

    threshold: the least effect, as a share of the metric's mean difference between the two sides
    (the paper's backups: 2%). level: the chance of a false find in a map (interp.discover.null).
    reference: more prompts over whose corrupt side, with the pairs' own, knock-outs take their
    means, by group. Positions are the prompts' named ones; where they mean one thing, others by
    number.
    """
    search = _search(model, pairs, metric, threshold, level, progress)
    maps = [*search.backwards()]
    maps += search.backups(maps[0], reference)
    return Discovery(
        tuple(_findings(search.judge, maps)),
        tuple(maps),
        metric.name,
        search.total,
        threshold,
        level,
        model.config.n_layer * model.config.n_head,
    )


@dataclass(frozen=True, eq=False)
class _Search:
    """A search as it is set up; total: what there is to explain; end: where the metric reads."""

    model: GPT2
    pairs: Prompts
    metric: Metric
    judge: Judge
    total: float
    end: int | str
    threshold: float
    level: float
    progress: bool

    def backwards(self) -> Iterator[Map]:
        """Every map from the logits backwards, until nothing new stands out."""
        first = self.map(["out"], self.end)
        yield first
        seen, waiting = set(first.nodes), self._sides(first, first.nodes)
        while waiting:
            for ports, at in self._inputs(waiting.pop(0)):
                drawn = self.map(ports, at)
                yield drawn
                waiting += self._sides(drawn, [node for node in drawn.nodes if node not in seen])
                seen.update(drawn.nodes)

    def backups(self, first: Map, reference: Prompts | None) -> Iterator[Map]:
        """The logits' map once those that move the answer there are knocked out, without whom it
        knew; none where nobody moves it."""
        movers = [
            node
            for node in first.nodes
            if first.helps(node) and self.judge.scores(node).attention.get("answer", 0) >= LOOKS
        ]
        if movers:
            ablation = Ablation(self.model, self.pairs, self.metric, reference=reference)
            drawn = self.map(["out"], self.end, ablation.knocked(movers), movers)
            yield replace(drawn, kept=tuple(head for head in drawn.kept if head not in first.kept))

    def map(
        self,
        ports: Sequence[str],
        at: int | str,
        standing: Patch | None = None,
        knocked: Sequence[str] = (),
    ) -> Map:
        """One map: every head that comes before the last of these ports, but those that are knocked
        out."""
        setting = (self.model, self.pairs, self.metric)
        senders = self._senders(ports, knocked)
        effects = patching.paths(
            *setting, senders, ports, at, standing=standing, progress=self.progress
        )
        bar = cutoff(effects, self.total, self.threshold, self.level)
        kept = tuple(effects.addresses[i] for i in bar.kept(effects))
        return Map(tuple(ports), at, self.total, effects, bar, kept, tuple(knocked))

    def _senders(self, ports: Sequence[str], knocked: Sequence[str]) -> list[str]:
        last = max(parse(port).site.stage for port in ports)
        gone = {parse(node).site for node in knocked}
        every = heads(self.model.config)
        return [str(head) for head in every if head.stage < last and head not in gone]

    def _sides(self, drawn: Map, nodes: Sequence[str]) -> list[list[str]]:
        """The nodes of each layer that help in a map, and those that hinder: what is followed
        together."""
        sides: dict[tuple[int, bool], list[str]] = {}
        for node in nodes:
            sides.setdefault((parse(node).site.depth, drawn.helps(node)), []).append(node)
        return list(sides.values())

    def _inputs(self, nodes: Sequence[str]) -> Iterator[tuple[list[str], int | str]]:
        """What nodes at one position read, and where: queries there, keys and values where they
        look. Only what heads can have changed."""
        at = parse(nodes[0]).at
        assert at is not None
        # No head writes before layer 0 reads.
        readers = [str(parse(node).site) for node in nodes if parse(node).site.layer]
        if readers and self._changed(at):
            yield [f"{head}.q" for head in readers], at
        for place, looking in self._looked(readers, at):
            yield from (([f"{head}.{port}" for head in looking], place) for port in "kv")

    def _looked(
        self, readers: Sequence[str], at: int | str
    ) -> Iterator[tuple[int | str, list[str]]]:
        """Every position that differs between the sides, with those of the heads that look
        there."""
        weights = {head: self.judge.trace[f"{head}.pattern@{at}"] for head in readers}
        for place, rows, new in _places(self.pairs):
            looking = [
                head
                for head, seen in weights.items()
                if float((seen.gather(1, rows[:, None])[:, 0] * new).mean()) >= FOLLOWED
            ]
            if looking and self._changed(place):
                yield place, looking

    def _changed(self, at: int | str) -> bool:
        """Whether the sides differ at a position or before it: where they do not, nothing can."""
        differs = (self.pairs.batch.tokens != self.pairs.corrupted.tokens).int().cumsum(1)
        return bool(differs.gather(1, self.pairs.batch.index(at)[:, None]).any())


def _search(
    model: GPT2, pairs: Prompts, metric: Metric, threshold: float, level: float, progress: bool
) -> _Search:
    _check(pairs)
    clean, corrupt = (metric(model.run(side)).mean() for side in (pairs, pairs.corrupted))
    end, total = _end(pairs, metric), float(clean - corrupt)
    scorer = judge(model, pairs, end)
    return _Search(model, pairs, metric, scorer, total, end, threshold, level, progress)


def _check(pairs: Prompts) -> None:
    """PromptError for pairs from which nothing could be told."""
    if len(pairs) < 2:
        raise PromptError(
            f"{len(pairs)} pair of prompts, from which no chance can be told",
            "two pairs or more",
            "a hundred",
        )
    if pairs.groups is None and pairs.batch.ragged:
        raise PromptError(
            "prompts of several lengths without groups, over which a knock-out takes its means",
            "groups=... for each prompt",
        )


def _end(pairs: Prompts, metric: Metric) -> int | str:
    """Where the metric reads, by name where it has one."""
    reads = pairs.batch.index(metric.position)
    same = (name for name, rows in pairs.positions.items() if torch.equal(rows, reads))
    return next(same, metric.position)


def _places(
    pairs: Prompts,
) -> Iterator[tuple[int | str, Int[Tensor, "prompts"], Bool[Tensor, "prompts"]]]:
    """Every position that means one thing in all prompts, once: its name or number, where it is,
    and in which prompts nothing before stands for it."""
    known: list[Tensor] = []
    for place, rows in [*_named(pairs).items(), *_numbered(pairs).items()]:
        new = torch.ones_like(rows, dtype=torch.bool)
        for other in known:
            new &= rows != other
        known.append(rows)
        if bool(new.any()):
            yield place, rows, new


def _named(pairs: Prompts) -> dict[int | str, Int[Tensor, "prompts"]]:
    """The positions with names, and one step before and after each, where all prompts have them."""
    stepped = {
        f"{name}{step:+d}": rows + step
        for name, rows in pairs.positions.items()
        for step in (-1, 1)
    }
    return {
        name: rows
        for name, rows in {**pairs.positions, **stepped}.items()
        if bool(((rows >= 0) & (rows < pairs.batch.lengths)).all())
    }


def _numbered(pairs: Prompts) -> dict[int | str, Int[Tensor, "prompts"]]:
    """Positions by number, where every name has the same number in all prompts."""
    if not all(bool((rows == rows[0]).all()) for rows in pairs.positions.values()):
        return {}
    lengths = pairs.batch.lengths
    return {place: torch.full_like(lengths, place) for place in range(int(lengths.min()))}


def _findings(judge: Judge, maps: Sequence[Map]) -> Iterator[Finding]:
    """What is known of every node that stands out, in the order of finding."""
    for node, role in _roles(judge, maps).items():
        head, _, _ = node.partition("@")
        effects = {str(drawn): drawn.effects[head] for drawn in maps if node in drawn.nodes}
        yield Finding(node, role, effects, judge.scores(node))


def _roles(judge: Judge, maps: Sequence[Map]) -> dict[str, str]:
    """The class of each node, told from the first map that it stands out in, or from one into the
    queries of movers."""
    roles: dict[str, str] = {}
    for drawn in maps:
        through = _into_movers(drawn, roles)
        for node in drawn.nodes:
            if node not in roles or (through and roles[node] not in MOVERS):
                backs_up = drawn.knocked and drawn.helps(node)
                roles[node] = BACKUP if backs_up else judge.role(node, through)
    return roles


def _into_movers(drawn: Map, roles: Mapping[str, str]) -> bool:
    """Whether a map's receivers are queries of movers."""
    queries = [port.removesuffix(".q") for port in drawn.receivers if port.endswith(".q")]
    return any(roles.get(f"{head}@{drawn.at}") in MOVERS for head in queries)
