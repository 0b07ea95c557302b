"""Edges of a circuit by how much is lost without them: of the whole model, or searched for, each
time of what is left. Every effect is exact: the model runs again with the edge cut.

Scores are those of EAP-IG and MIB: the metric with the edge less that without it, so that an edge
that helps is positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tqdm import tqdm

from interp.circuit.ablation import Ablation
from interp.circuit.curve import SIZES, pruned, ranked
from minigpt import parse
from minigpt.address import edges as every_edge

Scores = dict[str, float]


def exact(on: Ablation, edges: Sequence[str] | None = None, *, progress: bool = False) -> Scores:
    """What is lost on average where one edge carries what its sender writes in the source; every
    edge of the model, unless some are given."""
    names = list(every_edge(on.model.config)) if edges is None else list(edges)
    return _lost(on, names, (), progress)


def removed(
    on: Ablation, *, shares: Sequence[float] = SIZES, progress: bool = False
) -> Mapping[str, float]:
    """Edges removed block by block, from the whole model down to the smallest share: what is left
    is scored anew after each block, at the state that was reached.

    The order as scores: the last that are left are the largest; within a block, by what was lost
    when it went.
    """
    every = list(every_edge(on.model.config))
    counts = sorted({int(share * len(every)) for share in shares if share < 1}, reverse=True)
    left, found = every, dict.fromkeys(every, 0.0)
    bar = tqdm(counts, desc="blocks", disable=not progress, leave=False)
    for rank, count in enumerate(bar):
        scores = _lost(on, left, [edge for edge in every if edge not in set(left)], progress)
        ordered = ranked(scores)
        _place(found, ordered[count:], scores, rank)
        left = [edge for edge in left if edge in set(ordered[:count])]
    _place(found, left, scores, len(counts))
    return found


def _place(found: Scores, some: Sequence[str], scores: Mapping[str, float], rank: int) -> None:
    """Scores of a block: above those of all before it, below all after it, in their own order."""
    least, most = (f([scores[edge] for edge in some], default=0.0) for f in (min, max))
    for edge in some:
        found[edge] = rank + (scores[edge] - least) / (2 * (most - least) or 1.0)


def acdc(
    on: Ablation, threshold: float, *, absolute: bool = False, progress: bool = False
) -> list[str]:
    """The edges that are left by ACDC's order (Conmy et al. 2023, algorithm 1), each effect exact:
    from the output back, an edge is removed for good where the metric then falls by less than
    `threshold` from what it was, with absolute=True where it moves by less."""
    every = list(every_edge(on.model.config))
    gone, before = list[str](), float(on.full.mean())
    order = sorted(every, key=_depth, reverse=True)
    for edge in tqdm(order, desc="edges", disable=not progress, leave=False):
        after = float(on.edges([e for e in every if e not in {*gone, edge}], every).mean())
        lost = before - after
        if (abs(lost) if absolute else lost) < threshold:
            gone.append(edge)
            before = after
    return pruned([edge for edge in every if edge not in set(gone)])


def _depth(edge: str) -> tuple[int, str]:
    """Edges into later ports come first, of one port those from later senders."""
    sender, port = parse(edge).sites
    return port.stage * 1000 + sender.stage, edge


def _lost(on: Ablation, edges: Sequence[str], gone: Sequence[str], progress: bool) -> Scores:
    """By edge, what is lost when it goes too where others are gone already."""
    state = on.cut(gone)
    base = on.model.rerun(on.clean, state) if gone else on.clean
    # Edges into one port are computed together, so they are asked for one after the other.
    ordered = sorted(edges, key=lambda edge: str(parse(edge).sites[-1]))
    patches = [on.cut([edge]) | state for edge in ordered]
    after, _ = on.metric.after(on.model, base, patches, progress=progress)
    change = (on.metric(base) - after).mean(1)
    values = dict(zip(ordered, change.tolist(), strict=True))
    return {edge: values[edge] for edge in edges}
