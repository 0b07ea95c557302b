"""What a circuit is judged by: faithfulness, completeness, minimality (Wang et al. 2022, section
4), and circuits drawn at random.

F is the metric's mean over prompts. Everything is kept prompt by prompt, so that each figure has
its interval; ratios are given both ways, of means (the paper's) and the mean of each prompt's own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp.circuit.ablation import Ablation, Nodes
from interp.numerics.bootstrap import interval
from minigpt import Config, parse
from minigpt.address import heads
from minigpt.errors import MiniGPTError
from minigpt.progress import COUNTED
from minigpt.shown import Row, Shown


@dataclass(frozen=True, eq=False)
class Faithfulness(Shown):
    """F(M), F(C) and F of the empty circuit, prompt by prompt [prompts]."""

    model: Float[Tensor, "prompts"]
    circuit: Float[Tensor, "prompts"]
    empty: Float[Tensor, "prompts"]

    def __repr__(self) -> str:
        model, circuit = float(self.model.mean()), float(self.circuit.mean())
        return (
            f"Faithfulness(F(M) {model:.4f}, F(C) {circuit:.4f}, gap {self.gap:.4f}, share "
            f"{self.share:.1%}; {len(self.model)} prompts)"
        )

    def _table(self) -> Iterator[Row]:
        yield "", ">mean"
        names = {"model": "F(M)", "circuit": "F(C)", "empty": "F(empty)"}
        yield from ((names[name], float(run.mean())) for name, run in self._fields())
        for name in ("gap", "share", "mean_of_ratios", "recovered"):
            yield name.replace("_", " "), getattr(self, name)

    @property
    def gap(self) -> float:
        """|F(M) - F(C)|: how unfaithful the circuit is (Wang et al. 2022, section 4)."""
        return abs(float(self.model.mean() - self.circuit.mean()))

    @property
    def share(self) -> float:
        """F(C) / F(M), the ratio of means."""
        return float(self.circuit.mean() / self.model.mean())

    @property
    def mean_of_ratios(self) -> float:
        """The mean over prompts of F(C) / F(M); prompts on which the model's own metric is near
        zero make it wild."""
        return float((self.circuit / self.model).mean())

    @property
    def recovered(self) -> float:
        """(F(C) - F(empty)) / (F(M) - F(empty)): the faithfulness of Miller et al. 2024 and MIB."""
        floor = self.empty.mean()
        return float((self.circuit.mean() - floor) / (self.model.mean() - floor))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with bootstrap intervals of the means and quartiles of the
        prompts' own ratios."""
        runs = {"model": self.model, "circuit": self.circuit, "empty": self.empty}
        figures = ("gap", "share", "mean_of_ratios", "recovered")
        return {
            **{name: float(run.mean()) for name, run in runs.items()},
            **{name: getattr(self, name) for name in figures},
            "intervals": self._intervals({**runs, "difference": self.model - self.circuit}),
            "ratio_quartiles": self._quartiles(),
            "per_prompt": {"model": self.model.tolist(), "circuit": self.circuit.tolist()},
        }

    def _intervals(self, values: Mapping[str, Float[Tensor, "prompts"]]) -> dict[str, list[float]]:
        ends = interval(torch.stack(list(values.values())))
        return dict(zip(values, ends.tolist(), strict=True))

    def _quartiles(self) -> list[float]:
        """Of the prompts' own F(C) / F(M)."""
        quarters = torch.tensor([0.25, 0.5, 0.75], dtype=self.model.dtype)
        quartiles: list[float] = (self.circuit / self.model).quantile(quarters).tolist()
        return quartiles

    def __str__(self) -> str:
        return (
            f"F(M) {float(self.model.mean()):.3f}, F(C) {float(self.circuit.mean()):.3f}: "
            f"{self.share:.1%}, unfaithful by {self.gap:.3f}"
        )


@dataclass(frozen=True, repr=False)
class Removal(Shown):
    """What is left when the same nodes K are taken from the circuit and from the model."""

    name: str
    nodes: tuple[str, ...]
    circuit: float
    model: float

    @property
    def gap(self) -> float:
        """|F(C\\K) - F(M\\K)|: how incomplete the circuit is in this respect."""
        return abs(self.circuit - self.model)


@dataclass(frozen=True, repr=False)
class Need(Shown):
    """What a node does in its circuit, seen where other nodes K are gone: F(C\\K) and F(C\\(K and
    the node))."""

    node: str
    others: tuple[str, ...]
    before: float
    after: float

    @property
    def change(self) -> float:
        """F(C\\(K and the node)) - F(C\\K)."""
        return self.after - self.before


def faithfulness(on: Ablation, nodes: Nodes) -> Faithfulness:
    """How near the circuit comes to the model."""
    circuit, empty = on.only([nodes, ()])
    return Faithfulness(on.full, circuit, empty)


def removals(on: Ablation, nodes: Nodes, named: Mapping[str, Sequence[str]]) -> list[Removal]:
    """Each set K taken from both, the circuit and the model."""
    sets = list(named.values())
    circuits, models = (f.mean(1).tolist() for f in (on.within(nodes, sets), on.without(sets)))
    return [
        Removal(name, tuple(some), circuit, model)
        for (name, some), circuit, model in zip(named.items(), circuits, models, strict=True)
    ]


def random_subsets(nodes: Nodes, n: int, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """n sets K, each node in it with probability one half (Wang et al. 2022, section 4.2)."""
    rng = random.Random(seed)
    return {f"random {i}": tuple(node for node in nodes if rng.random() < 0.5) for i in range(n)}


def greedy(
    on: Ablation,
    nodes: Nodes,
    *,
    runs: int = 10,
    steps: int = 10,
    sample: int = 10,
    best: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> list[Removal]:
    """The sets K that show most of what is missing, found greedily (Wang et al. 2022, section 4.2
    and App. K), worst first.

    In each step `sample` nodes are drawn, and the one whose removal makes the gap largest is added,
    if the gap grows. The best set of each run is kept, and of these the `best`.
    """
    show = {"unit": "step", "bar_format": COUNTED, "disable": not progress, "delay": 1.0}
    with tqdm(total=runs * steps, **show) as bar:
        tops = [
            _climb(on, nodes, random.Random(f"{seed}.{run}"), steps, sample, f"greedy {run}", bar)
            for run in range(runs)
        ]
    return sorted(tops, key=_gap, reverse=True)[:best]


def _climb(
    on: Ablation, nodes: Nodes, rng: random.Random, steps: int, sample: int, name: str, bar: Any
) -> Removal:
    top = removals(on, nodes, {name: ()})[0]
    for _ in range(steps):
        left = [node for node in nodes if node not in top.nodes]
        bar.update()
        if left:
            tried = rng.sample(left, min(sample, len(left)))
            grown = removals(on, nodes, {node: (*top.nodes, node) for node in tried})
            top = max([top, *grown], key=_gap)
    return Removal(name, top.nodes, top.circuit, top.model)


def _gap(removal: Removal) -> float:
    return removal.gap


def needs(on: Ablation, nodes: Nodes, others: Mapping[str, Sequence[str]]) -> list[Need]:
    """What each node does where its given others are gone."""
    sets = [tuple(o for o in others.get(node, ()) if o != node) for node in nodes]
    larger = [(*some, node) for node, some in zip(nodes, sets, strict=True)]
    metric = on.within(nodes, [*sets, *larger]).mean(1).tolist()
    before, after = metric[: len(sets)], metric[len(sets) :]
    return [Need(*row) for row in zip(nodes, sets, before, after, strict=True)]


def searched_needs(
    on: Ablation, roles: Mapping[str, Sequence[str]], *, draws: int = 8, seed: int = 0
) -> list[Need]:
    """For each node the K, among several tried, under which it matters most: nothing, its role,
    each other role, chance.

    The paper found its K by hand (its figure 20); these are the same kinds of sets.
    """
    nodes = list(dict.fromkeys(node for some in roles.values() for node in some))
    tried: dict[str, list[Need]] = {node: [] for node in nodes}
    for sets in _candidates(roles, nodes, random.Random(seed), draws):
        for need in needs(on, nodes, sets):
            tried[need.node].append(need)
    return [max(tried[node], key=lambda need: abs(need.change)) for node in nodes]


def _candidates(
    roles: Mapping[str, Sequence[str]], nodes: Nodes, rng: random.Random, draws: int
) -> Iterator[dict[str, Sequence[str]]]:
    role = {node: name for name, some in roles.items() for node in some}
    yield {}
    yield {node: roles[role[node]] for node in nodes}
    for other in roles:
        yield {node: roles[other] for node in nodes}
        yield {node: [*roles[other], *roles[role[node]]] for node in nodes}
    for _ in range(draws):
        yield {node: [other for other in nodes if rng.random() < 0.5] for node in nodes}


def null_circuits(
    config: Config, nodes: Nodes, n: int, *, layers: bool = True, seed: int = 0
) -> list[tuple[str, ...]]:
    """n circuits of as many heads at the same positions, drawn at random; layers: as many from each
    layer as the circuit has."""
    rng = random.Random(seed)
    return [_drawn(config, nodes, layers, rng) for _ in range(n)]


def _drawn(config: Config, nodes: Nodes, layers: bool, rng: random.Random) -> tuple[str, ...]:
    """A head is drawn once for each position, as it stands once for each in a circuit."""
    addresses = [parse(node, config) for node in nodes]
    if any(address.site.kind != "attn" or address.site.part is None for address in addresses):
        raise MiniGPTError(
            "a random circuit like one that has other nodes than heads", "circuits of heads"
        )
    strata = Counter((address.site.layer if layers else None, address.at) for address in addresses)
    chosen: list[str] = []
    for (layer, at), count in sorted(strata.items(), key=str):
        drawn = rng.sample(list(heads(config, layer)), count)
        chosen += [f"{head}{'' if at is None else f'@{at}'}" for head in drawn]
    return tuple(chosen)


def beaten(
    on: Ablation, gap: float, nulls: Iterable[Nodes]
) -> tuple[float, Float[Tensor, "nulls"]]:
    """The share of the random circuits that are less faithful than one with this gap, and each
    one's F."""
    f = on.only(list(nulls)).mean(1)
    gaps = (f - on.full.mean()).abs()
    return float((gaps > gap).double().mean()), f
