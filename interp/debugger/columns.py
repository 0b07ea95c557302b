"""What every node of a run did at every position, block by block: embeddings, then each layer's
heads, MLP and biases.

A block at a time is in memory; split by key or by neuron, one layer's is the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.attribution import splits
from minigpt import Site, Trace, parse
from minigpt.address import heads
from minigpt.shown import Shown

# By address: the direct effect, and the same at the left side's LayerNorm scale.
Direct = Mapping[str, tuple[float, float]]
# Makes a block, or finds that it was made before.
Make = Callable[[int, Callable[[], "Block"]], "Block"]


@dataclass(frozen=True, eq=False, repr=False)
class Block(Shown):
    """Nodes of one kind; NaN where a node has no such number. names: the text before the position,
    and after it ("a2.6", "<3"). held: the direct effect at the left side's LayerNorm scale.

    key: the position that a head's node looks at, -1 where none; valid: cells that exist (a head
    never looks ahead).
    """

    kind: str
    names: tuple[tuple[str, str], ...]
    norm: Float[Tensor, "nodes pos"]
    activation: Float[Tensor, "nodes pos"]
    direct: Float[Tensor, "nodes pos"]
    held: Float[Tensor, "nodes pos"]
    key: Int[Tensor, "nodes pos"]

    @property
    def valid(self) -> Bool[Tensor, "nodes pos"]:
        """Which cells there are."""
        return ~self.norm.isnan()

    def matching(self, find: str, tokens: Sequence[str]) -> Bool[Tensor, "nodes pos"]:
        """Which cells there are that have every word of `find`: in the node's name or kind, as
        "@position", or in the position's token."""
        matching, folded = self.valid, [token.casefold() for token in tokens]
        for word in find.casefold().split():
            nodes = torch.tensor([word in f"{name}{end} {self.kind}" for name, end in self.names])
            places = [word == f"@{t}" or word in token for t, token in enumerate(folded)]
            matching = matching & (nodes[:, None] | torch.tensor(places))
        return matching

    def under(self, names: Sequence[tuple[str, str]], twins: Sequence[int | None]) -> Block:
        """The same with each number where its twin stands: under these names (of another side), and
        at twin positions; nothing elsewhere."""
        if tuple(twins) == tuple(range(self.norm.shape[1])):
            return self
        index = {name: i for i, name in enumerate(self.names)}
        rows = [index.get((name, _twin(end, twins))) for name, end in names]
        here = torch.tensor([i is not None for i in rows])[:, None] & torch.tensor(
            [t is not None for t in twins]
        )
        there = torch.tensor([i or 0 for i in rows])[:, None], torch.tensor([t or 0 for t in twins])
        moved = {
            name: getattr(self, name)[there].masked_fill(~here, torch.nan)
            for name in ("norm", "activation", "direct", "held")
        }
        return replace(
            self, names=tuple(names), key=self.key[there].masked_fill(~here, -1), **moved
        )


def blocks(
    trace: Trace,
    split: Sequence[str],
    direct: Direct,
    names: Iterable[str],
    make: Make = lambda _, block: block(),
) -> Iterator[Block]:
    """The blocks of a run of one prompt. direct: effects at the last position by address, as
    attribution.direct names them, the run's own and at the left side's scale; none: NaN.

    names: every address with a direct effect on any side; those that are neither a node nor of a
    key are edits, the last block. make: gives a block, by its number and what makes it anew.
    """
    seen: set[str] = set()
    for block in (make(i, written) for i, written in enumerate(_nodes(trace, split))):
        seen |= {_name(block, i) for i in range(len(block.names))}
        yield _with(block, direct)
    rest = tuple((name, "") for name in names if name not in seen and ".v@" not in name)
    if rest:
        yield _with(_block("edit", rest, torch.zeros(len(rest), trace.tokens.shape[1])), direct)


def norms(trace: Trace, head: Site) -> Float[Tensor, "key"]:
    """The length of each position's value through a head's own rows of W_O."""
    w_o = trace.params.blocks[head.depth].w_o[trace.config.head_columns(_part(head))]
    lengths: Tensor = (trace[f"{head}.v"][0] @ w_o).norm(dim=-1)
    return lengths


def _nodes(trace: Trace, split: Sequence[str]) -> Iterator[Callable[[], Block]]:
    """What makes each block, without direct effects."""
    cut = lit(trace, split)
    yield partial(_whole, "embedding", trace, "emb", "pos")
    for layer in range(trace.config.n_layer):
        if f"a{layer}" in cut:
            yield from _latents(trace, f"a{layer}")
        else:
            yield partial(_pairs if "keys" in split else _heads, trace, layer)
            yield partial(_whole, "bias", trace, f"a{layer}.b")
        if f"m{layer}" in cut:
            yield from _latents(trace, f"m{layer}")
        elif "neurons" in split:
            yield partial(_neurons, trace, layer)
            yield partial(_whole, "bias", trace, f"m{layer}.b")
        else:
            yield partial(_whole, "mlp", trace, f"m{layer}")
    yield partial(_whole, "bias", trace, "out.b")


def lit(trace: Trace, split: Sequence[str]) -> list[str]:
    """The writes that are cut into latents."""
    known = splits(trace.params, sources="keys" in split) if "latents" in split else []
    return [whole for whole in known if parse(whole).site.role == "node"]


def _latents(trace: Trace, whole: str) -> Iterator[Callable[[], Block]]:
    """The latents that are on somewhere, the decoder's bias and the error; the layer's own bias
    where that is none of them."""
    yield partial(_active, trace, whole)
    bias = [f"{whole}.b"] * trace.params.dictionaries[whole].reads.endswith(".act")
    yield partial(_whole, "bias", trace, f"{whole}.l.b", *bias)
    yield partial(_whole, "error", trace, f"{whole}.e")


def _active(trace: Trace, whole: str) -> Block:
    """A row a latent that is on somewhere, or that an edit wrote; a cell where it is."""
    act, site = trace.act(f"{whole}.l")[0], parse(whole).site
    edited = {
        _part(other)
        for other in trace.overrides
        if (other.kind, other.layer) == (f"{site.kind}.l", site.layer)
    }
    on = sorted({*(act > 0).any(0).nonzero().flatten().tolist(), *edited})
    names = tuple((f"{whole}.l{n}", "") for n in on)
    if not names:
        return _block("latent", (), act.new_zeros(0, len(act)))
    norm = torch.stack([trace[name][0].norm(dim=-1) for name, _ in names])
    shown = act[:, on].T
    return _block("latent", names, norm.masked_fill((shown == 0) & (norm == 0), torch.nan), shown)


def _heads(trace: Trace, layer: int) -> Block:
    """A node a head; its activation is the largest weight of its pattern, its key where that is."""
    sites = [str(site) for site in heads(trace.config, layer)]
    weight, key = trace[f"a{layer}.pattern"][0].max(-1)
    return _block(
        "head", tuple((site, "") for site in sites), _head_norms(trace, layer), weight, key
    )


def _head_norms(trace: Trace, layer: int) -> Float[Tensor, "head pos"]:
    """The norms of all heads' writes in one product; of those that edits wrote as vectors, of
    these."""
    z, w_o = trace[f"a{layer}.z"][0].transpose(0, 1), trace.params.blocks[layer].w_o
    lengths: Tensor = (z @ w_o.unflatten(0, (trace.config.n_head, -1))).norm(dim=-1)
    for site in (
        site
        for site in trace.overrides
        if site.kind == "attn" and site.layer == layer and site.part is not None
    ):
        lengths[_part(site)] = trace[str(site)][0].norm(dim=-1)
    return lengths


def _pairs(trace: Trace, layer: int) -> Block:
    """A node a head and key: what it takes from that position, for each query from there on."""
    sites, n = list(heads(trace.config, layer)), trace.tokens.shape[1]
    weights = trace[f"a{layer}.pattern"][0].transpose(1, 2)
    hidden = torch.ones(n, n, dtype=torch.bool).tril(-1)
    norm = (weights * torch.stack([norms(trace, site) for site in sites])[..., None]).masked_fill(
        hidden, torch.nan
    )
    key = torch.arange(n)[None, :, None].expand_as(weights)
    return _block(
        "pair",
        tuple((str(site), f"<{u}") for site in sites for u in range(n)),
        norm.flatten(0, 1),
        weights.flatten(0, 1),
        key.flatten(0, 1),
    )


def _neurons(trace: Trace, layer: int) -> Block:
    act, w_out = trace.act(f"m{layer}")[0].T, trace.params.blocks[layer].w_out
    norm = act.abs() * w_out.norm(dim=-1)[:, None]
    for site in (
        site
        for site in trace.overrides
        if site.kind == "mlp" and site.layer == layer and site.part is not None
    ):
        norm[_part(site)] = trace[str(site)][0].norm(dim=-1)
    return _block("neuron", tuple((f"m{layer}.n{n}", "") for n in range(len(act))), norm, act)


def _whole(kind: str, trace: Trace, *names: str) -> Block:
    """A row a node, whatever it is made of."""
    lengths = torch.stack([trace[name][0].norm(dim=-1) for name in names])
    return _block(kind, tuple((name, "") for name in names), lengths)


def _block(
    kind: str,
    names: tuple[tuple[str, str], ...],
    norm: Tensor,
    activation: Tensor | None = None,
    key: Tensor | None = None,
) -> Block:
    none = norm.new_tensor(torch.nan).expand_as(norm)
    return Block(
        kind,
        names,
        norm,
        none if activation is None else activation,
        none,
        none,
        torch.tensor(-1).expand(norm.shape) if key is None else key,
    )


def _with(block: Block, direct: Direct) -> Block:
    """With direct effects: only what stands at the last position, where the metric is read, has
    any."""
    if not direct:
        return block
    names = [_name(block, i) for i in range(len(block.names))]
    last = torch.tensor([direct.get(name, (0.0, 0.0)) for name in names], dtype=torch.float64)
    effects = torch.zeros(2, *block.norm.shape, dtype=torch.float64)
    effects[:, :, -1] = last.T
    return replace(block, direct=effects[0], held=effects[1])


def _twin(end: str, twins: Sequence[int | None]) -> str:
    """What a name ends with on the other side: its key's twin."""
    return f"<{twins[int(end[1:])]}" if end else ""


def _name(block: Block, i: int) -> str:
    """The address by which attribution.direct calls a node: what a head takes from position 3 is
    a2.6.v@3 there."""
    name, end = block.names[i]
    return f"{name}.v@{end[1:]}" if end else name


def _part(site: Site) -> int:
    assert site.part is not None
    return site.part
