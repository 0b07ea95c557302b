"""How much of a metric circuits of growing size bring back, their edges taken in the order of some
scores: the curve that MIB judges by (Mueller et al. 2025, MIB: A Mechanistic Interpretability
Benchmark)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp.circuit.ablation import Ablation
from interp.numerics.bootstrap import interval
from minigpt import parse
from minigpt.address import edges as every_edge
from minigpt.errors import MiniGPTError
from minigpt.shown import Row, Shown

# MIB's sizes, as shares of all edges.
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Shown):
    """shares: of all edges (or other units), and counts: how many that are; metric: of each
    circuit, prompt by prompt; full, empty: of the whole model, and of a circuit without any."""

    shares: tuple[float, ...]
    counts: tuple[int, ...]
    metric: Float[Tensor, "sizes prompts"]
    full: Float[Tensor, "prompts"]
    empty: Float[Tensor, "prompts"]

    @property
    def recovered(self) -> Float[Tensor, "sizes"]:
        """Of each size (m(C) - m(empty)) / (m(M) - m(empty)), the ratio of means."""
        return _recovered(self.metric, self.full, self.empty)

    @property
    def cpr(self) -> float:
        """The area under what is recovered, by the trapezoid rule over shares: larger is better."""
        return float(_area(self.recovered[:, None], self.shares))

    @property
    def cmd(self) -> float:
        """The area between the curve and 1: smaller is better."""
        return float(_area((1 - self.recovered).abs()[:, None], self.shares))

    def intervals(self, draws: int = 2000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals (95%) of both areas, prompts drawn anew for all sizes together."""
        return {name: _interval(x) for name, x in self._areas(draws, seed).items()}

    def over(
        self, other: Curve, draws: int = 2000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Of the areas less those of another curve on the same prompts: intervals (95%), the same
        prompts drawn for both."""
        if not torch.equal(self.full, other.full):
            raise MiniGPTError("curves of different prompts", "two of the same prompts")
        mine, theirs = (each._areas(draws, seed) for each in (self, other))
        return {name: _interval(mine[name] - theirs[name]) for name in mine}

    def _areas(self, draws: int, seed: int) -> dict[str, Float[Tensor, "draws"]]:
        n = len(self.full)
        drawn = torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))
        metric, full, empty = (x[..., drawn] for x in (self.metric, self.full, self.empty))
        found = _recovered(metric, full, empty)
        return {"cpr": _area(found, self.shares), "cmd": _area((1 - found).abs(), self.shares)}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, with intervals of the means."""
        return {
            "shares": list(self.shares),
            "edges": list(self.counts),
            "recovered": self.recovered.tolist(),
            "cpr": self.cpr,
            "cmd": self.cmd,
            "intervals": self.intervals(),
            "metric": self.metric.mean(1).tolist(),
            "metric_intervals": interval(self.metric).tolist(),
            "full": float(self.full.mean()),
            "empty": float(self.empty.mean()),
        }

    def _table(self) -> Iterator[Row]:
        yield ">edges", ">of all", ">recovered"
        for count, share, found in zip(self.counts, self.shares, self.recovered, strict=True):
            yield str(count), f"{share:.1%}", f"{float(found):.3f}"


def judged(
    on: Ablation,
    scores: Mapping[str, float],
    *,
    draws: int = 3,
    shares: Sequence[float] = SIZES,
    progress: bool = False,
) -> dict[str, Curve]:
    """The curves of the signed order and of the order by size, and of orders by chance."""
    curves = {
        "signed": curve(on, scores, shares=shares, progress=progress),
        "by size": curve(on, scores, absolute=True, shares=shares, progress=progress),
    }
    every = list(every_edge(on.model.config))
    for seed in range(draws):
        curves[f"chance {seed}"] = curve(on, chance(every, seed), shares=shares, progress=progress)
    return curves


def chance(edges: Sequence[str], seed: int) -> dict[str, float]:
    """An order by chance, as scores: what a search is to be compared with."""
    order = torch.randperm(len(edges), generator=torch.Generator().manual_seed(seed))
    return dict(zip(edges, order.double().tolist(), strict=True))


def _recovered(
    metric: Float[Tensor, "sizes *draws prompts"],
    full: Float[Tensor, "*draws prompts"],
    empty: Float[Tensor, "*draws prompts"],
) -> Float[Tensor, "sizes *draws"]:
    floor = empty.mean(-1)
    return (metric.mean(-1) - floor) / (full.mean(-1) - floor)


def _interval(x: Float[Tensor, "draws"]) -> tuple[float, float]:
    low, high = x.quantile(torch.tensor([0.025, 0.975], dtype=x.dtype)).tolist()
    return low, high


def _area(y: Float[Tensor, "sizes draws"], x: Sequence[float]) -> Float[Tensor, "draws"]:
    area: Tensor = torch.trapezoid(y, torch.tensor(x, dtype=y.dtype), dim=0)
    return area


def curve(
    on: Ablation,
    scores: Mapping[str, float],
    *,
    absolute: bool = False,
    shares: Sequence[float] = SIZES,
    progress: bool = False,
) -> Curve:
    """The curve of circuits that are the edges of the largest scores, or of the largest in size.

    A circuit is pruned first: an edge that no path from the input to the output goes through
    carries what the empty circuit does. MIB: CPR of the signed order, CMD of the absolute one.
    """
    every = list(every_edge(on.model.config))

    def metric(kept: Sequence[str]) -> Float[Tensor, "prompts"]:
        left = pruned(kept)
        return on.full if len(left) == len(every) else on.edges(left, every)

    return grown(metric, ranked(scores, absolute=absolute), shares, progress=progress)


def grown(
    metric: Callable[[Sequence[str]], Float[Tensor, "prompts"]],
    ordered: Sequence[str],
    shares: Sequence[float] = SIZES,
    *,
    progress: bool = False,
) -> Curve:
    """The curve of circuits that are the first of some units; `metric` is that of a circuit."""
    counts = tuple(int(share * len(ordered)) for share in shares)
    some = tqdm(counts, desc="circuits", disable=not progress, leave=False)
    found = torch.stack([metric(ordered[:count]) for count in some])
    return Curve(tuple(shares), counts, found, metric(ordered), metric(()))


def ranked(scores: Mapping[str, float], *, absolute: bool = False) -> list[str]:
    """Edges by their scores, the largest first; of equals the one that comes first."""
    return sorted(scores, key=lambda edge: -(abs(scores[edge]) if absolute else scores[edge]))


def pruned(edges: Sequence[str]) -> list[str]:
    """The edges that lie on a path from the input to the output along them."""
    kept = {edge: _ends(edge) for edge in edges}
    while True:
        fed = {"input", *(reader for _, reader in kept.values())}
        heard = {"out", *(writer for writer, _ in kept.values())}
        left = {edge: (a, b) for edge, (a, b) in kept.items() if a in fed and b in heard}
        if len(left) == len(kept):
            return [edge for edge in edges if edge in left]
        kept = left


def _ends(edge: str) -> tuple[str, str]:
    """The node that writes and the one that reads: of "a0.1>a2.6.q" a0.1 and a2.6."""
    sender, port = parse(edge).sites
    return str(sender), "out" if port.kind == "out" else str(port.writer)
