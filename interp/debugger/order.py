"""Which total effects are computed first, where computing all would take long: an estimate, read
off the run alone, of how much of what a node writes comes to where the metric reads.

The estimate is made of lengths. A change that is so long beside the stream at its position changes,
by that share, what heads take from there and what the MLP there writes; changes add as if at right
angles. It knows no directions and orders nodes only: no number that is shown comes from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from interp.debugger.columns import Block
from interp.debugger.nodes import written
from interp.debugger.place import Place
from interp.debugger.question import MAX_K
from interp.debugger.session import Runs, Side
from minigpt import Config, Site, Trace, parse
from minigpt.shown import Shown

# Arithmetic that the effects may take: ten seconds or twenty of two cores.
WORK = 2e12
# By point of the stream: how much of a change of length one at each position comes to the end.
Reach = dict[Site, Float[Tensor, "pos"]]


@dataclass(frozen=True, repr=False)
class First(Shown):
    """Addresses in the order in which to compute them, the likeliest for the k at either end first;
    of: how many nodes the question's `find` keeps."""

    addresses: tuple[str, ...]
    of: int

    def words(self, exact: int) -> str:
        """How far a table sorted by total effects is exact, when so many of them are known."""
        if exact >= self.of:
            return f"Exact for all {self.of:,} nodes."
        if exact < len(self.addresses):
            return f"Exact for {exact:,} of {self.of:,} nodes; {len(self.addresses):,} are to be."
        return (
            f"Exact for {exact:,} of {self.of:,} nodes, the others estimated smaller: by how long "
            "what they write is, and how much of it comes to the last position."
        )


def first(runs: Runs) -> First:
    """The nodes whose total effects are worth computing: as many as take no more than WORK, but at
    least k for each end; estimated on the left side.

    Those of the first page, then the others, each from the last position back: what is computed
    together is much alike then, and the quick ones come first.
    """
    reach: Reach = runs.kept.get((runs.left.run, "reach"), partial(reached, runs.left.trace))
    found: list[tuple[float, str]] = []
    of, page = 0, 2 * runs.question.k
    for block in written(runs, runs.left):
        match = block.matching(runs.question.find, runs.left.tokens)
        point = _point(block, runs.model.config)
        guess = block.norm * reach[point] * _differing(runs.left, point, runs.question.instead)
        found += _largest(block, torch.where(match, guess, 0), max(page, MAX_K))
        of += int(match.sum())
    ordered = [place for _, place in nlargest(max(page, MAX_K), found, key=lambda pair: pair[0])]
    places = [Place.parse(text, runs.left.trace) for text in ordered]
    places = places[: max(page, _affordable(places, runs))]
    pages = (sorted(some, key=lambda x: -x.at) for some in (places[:page], places[page:]))
    return First(tuple(str(place) for some in pages for place in some), of)


def reached(trace: Trace) -> Reach:
    """How much of a change at each point and position comes to the last position, by lengths."""
    config, n = trace.config, trace.tokens.shape[1]
    squared = {Site("resid", config.n_layer): torch.arange(n).eq(n - 1).double()}
    for layer in reversed(range(config.n_layer)):
        after, mid, before = Site("resid", layer + 1), Site("mid", layer), Site("resid", layer)
        passed = _share(trace.write(Site("mlp", layer))[0].norm(dim=-1), trace, mid)
        squared[mid] = squared[after] * (1 + passed**2)
        taken = _share(_taken(trace, layer), trace, before)
        squared[before] = squared[mid] + torch.einsum("hqk,q->k", taken**2, squared[mid])
    return {point: x.sqrt() for point, x in squared.items()}


def _taken(trace: Trace, layer: int) -> Float[Tensor, "head query key"]:
    """The length of what each head takes from each position."""
    w_o = trace.params.blocks[layer].w_o.unflatten(0, (trace.config.n_head, -1))
    values = (trace.heads(layer, "v")[0] @ w_o).norm(dim=-1)
    taken: Tensor = trace[f"a{layer}.pattern"][0] * values[:, None]
    return taken


def _share(
    lengths: Float[Tensor, "*some pos"], trace: Trace, point: Site
) -> Float[Tensor, "*some pos"]:
    """Lengths as shares of the stream at a point. float64."""
    stream = trace.stream(point)[0].double().norm(dim=-1)
    share: Tensor = lengths.double() / stream.clamp(min=torch.finfo(torch.float32).tiny)
    return share


def _differing(side: Side, point: Site, instead: str) -> Float[Tensor, "pos"]:
    """How much of the stream at a point would be another with what is put in a node's place: all of
    it, if that is 0."""
    stream, n = side.trace.stream(point)[0], len(side.tokens)
    run = side.sources.reference() if instead == "mean(reference)" else side.sources.other
    if instead == "0" or run is None:
        return torch.ones(n, dtype=torch.float64)
    twins = side.sources.twins if run.tokens.shape[1] != n else range(n)
    there = torch.tensor([-1 if twin is None else twin for twin in twins])
    change = (stream - run.stream(point).mean(0)[there]).norm(dim=-1)
    return _share(change, side.trace, point) * (there >= 0)


def _point(block: Block, config: Config) -> Site:
    """Where the nodes of a block write into the stream."""
    site = parse(block.names[0][0]).site
    if site.kind == "out.b":
        return Site("resid", config.n_layer)
    if site.layer is None:
        return Site("resid", 0)
    return Site("resid", site.layer + 1) if site.kind.startswith("mlp") else Site("mid", site.layer)


def _largest(
    block: Block, guess: Float[Tensor, "nodes pos"], k: int
) -> Iterator[tuple[float, str]]:
    """The k largest cells above zero, and their addresses."""
    best = guess.flatten().topk(min(k, guess.numel()))
    for i, x in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        name, end = block.names[i // guess.shape[1]]
        if x > 0:
            yield x, f"{name}@{i % guess.shape[1]}{end}"


def _affordable(places: Sequence[Place], runs: Runs) -> int:
    """How many of these take no more than WORK together: the layers from the node's own on, at the
    positions from its own on."""
    c, n = runs.model.config, len(runs.left.tokens)
    one = 2 * (4 * c.d_model**2 + 2 * c.d_model * c.d_mlp)
    spent = accumulate((n - at.at) * (c.n_layer - at.site.depth) * one for at in places)
    return sum(1 for work in spent if work <= WORK)
