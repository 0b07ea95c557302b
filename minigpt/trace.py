"""Everything a forward pass computed, readable by address.

A trace keeps six tensors for each layer, just as the pass made them; what else an address names (a
head's write, a neuron's write, a pattern, a bias) is read off these when it is asked for, by the
operations the pass itself used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minigpt import ops
from minigpt.address import GRAMMAR, LATENT, Address, Site
from minigpt.batch import Batch
from minigpt.config import Config
from minigpt.device import sent
from minigpt.errors import AddressError
from minigpt.names import parse
from minigpt.params import Block, Params
from minigpt.receipt import Receipt
from minigpt.shown import Row, Shown
from minigpt.split import Split

# Takes the positions that are wanted out of a [batch, pos, ...] tensor.
Pick = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Cells(Shown):
    """One layer's record [batch, pos, ...]."""

    resid: Float[Tensor, "batch pos d_model"]
    qkv: Float[Tensor, "batch pos 3*d_model"]
    z: Float[Tensor, "batch pos d_model"]
    mid: Float[Tensor, "batch pos d_model"]
    act: Float[Tensor, "batch pos d_mlp"]
    out: Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True, eq=False, repr=False)
class Override(Shown):
    """What an edit put in place of a node's write, a stream or a pattern's row, where the cells do
    not tell: where, and what."""

    rows: Bool[Tensor, "batch pos"]
    values: Float[Tensor, "batch pos *rest"]


@dataclass(frozen=True, eq=False)
class Trace(Shown):
    """A run: trace["a9.9@-1"], trace.logits, trace.act("m3"), trace.scale("out"). Immutable; share
    it freely.

    A run after edits has a receipt, the vectors that edits wrote (overrides), what single ports,
    and dictionaries of stream points, saw (ports), and what heads took from sources at which edits
    act (pairs; before W_O).

    Reading without @ gives [batch, pos, ...]; with @ [batch, ...]. In a batch of prompts of
    different lengths, what lies behind a prompt's end reads as NaN, so that nothing can be averaged
    over it by mistake.
    """

    params: Params
    batch: Batch
    cells: tuple[Cells, ...]
    receipt: Receipt | None = None
    overrides: Mapping[Site, Override] = field(default_factory=dict)
    ports: Mapping[Site, Float[Tensor, "batch pos d_model"]] = field(default_factory=dict)
    pairs: Mapping[Site, Override] = field(default_factory=dict)

    @cached_property
    def _splits(self) -> dict[Site, Split]:
        """What dictionaries made of whole writes; each is computed when it is first asked for."""
        return {}

    @property
    def config(self) -> Config:
        """The model's shape."""
        return self.params.config

    @property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        """Token ids; a short prompt is filled up with zeros."""
        return self.batch.tokens

    @cached_property
    def logits(self) -> Float[Tensor, "batch pos vocab"]:
        """What the model says at every position, before the softmax."""
        with torch.inference_mode():
            return self._unpadded(self._logits(_whole))

    def logits_at(self, at: int | str = -1) -> Float[Tensor, "batch vocab"]:
        """The logits at one position of each prompt, without computing the others; the same
        bits."""
        return self._logits(self._picker(at))

    def __getitem__(self, address: str | Address) -> Float[Tensor, "batch *rest"]:
        """The value at an address: a node's write (a pair's, a latent's too), a stream, q, k, v, z,
        a pattern, or what m3 or the output reads."""
        asked = parse(address, self.config)
        self.check(asked)
        return self._read(asked, _READERS[asked.site.kind])

    def act(self, address: str | Address) -> Float[Tensor, "batch *rest"]:
        """Neurons' activations (after the GELU): act("m3") [batch, pos, d_mlp], act("m3.n127@-1")
        [batch]; latents' likewise: act("m3.l") [batch, pos, n], act("m3.l7@-1") [batch]."""
        asked = parse(address, self.config)
        if asked.site.kind != "mlp" and asked.site.kind.partition(".")[2] not in ("l", "ls"):
            raise AddressError(
                f"'{asked}' has no activation",
                "an MLP or a neuron, a latent or all of them",
                "act('m3'), act('m3.n127'), act('m3.l7') or act('m3.l')",
            )
        self.check(asked)
        return self._read(asked, _act_of_latents if asked.site.is_latent else _act)

    def check(self, address: Address) -> None:
        """AddressError for a part by a dictionary that is not there; PositionError for a pair whose
        key some prompt lacks, or has only after the query."""
        for site in address.sites:
            if site.is_latent:
                self.params.dictionary(site)
        self.batch.check(address)

    def scale(self, address: str | Address) -> Float[Tensor, "batch *rest"]:
        """LayerNorm's standard deviation at a port: scale("out") [batch, pos], scale("a9.9.q@-1")
        [batch]."""
        asked = parse(address, self.config)
        if asked.site.role != "port":
            raise AddressError(
                f"'{asked}' has no LayerNorm",
                "a port",
                "scale('out'), scale('m3.in') or scale('a9.9.q')",
            )
        return self._read(
            asked, lambda t, site, pick: ops.scale(pick(t.stream(site)), t.config.eps)
        )

    def stream(self, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """The whole stream at a point, or as a port reads it before its LayerNorm, or a dictionary
        of the point ("resid6.l") before edits of latents; behind the end of a short prompt too."""
        if site in self.ports:
            return self.ports[site]
        site = site.whole if site.is_latent else site
        if site.kind == "out" or site.layer == self.config.n_layer:
            return self.cells[-1].out
        cells = self.cells[site.depth]
        return cells.mid if site.kind in ("in", "mid") else cells.resid

    def write(self, site: Site) -> Float[Tensor, "batch pos d_model"]:
        """What a node wrote, behind the end of a short prompt too."""
        return _READERS[site.kind](self, site, _whole)

    def split(self, site: Site, pick: Pick | None = None) -> Split:
        """The parts of the write or stream point that this site, a latent or its like, is a part
        of: as its dictionary cuts what was written before edits of these parts."""
        if pick is None:
            if site.whole not in self._splits:
                self._splits[site.whole] = _split(self, site, _whole)
            return self._splits[site.whole]
        return _split(self, site, pick)

    def weights(self, site: Site) -> Float[Tensor, "batch pos *rest"]:
        """A pattern likewise: [batch, pos, key] of a head, [batch, pos, head, key] of a layer."""
        return _pattern(self, site, _whole)

    def taken(
        self, site: Site, keys: Int[Tensor, "batch"], pick: Pick | None = None
    ) -> Float[Tensor, "batch *pos d_head"]:
        """What the head of a pair takes from these positions of each prompt, whatever key the pair
        names: its weight times the value there, before W_O."""
        pick, prompts = pick or _whole, sent(torch.arange(len(keys)), self.tokens)
        weights = pick(self.weights(Site("pattern", site.layer, site.part)))[prompts, ..., keys]
        values = self.heads(site.depth, "v")[prompts, site.part, keys]
        x = weights[..., None] * values.view(len(keys), *[1] * (weights.ndim - 1), -1)
        return _put_pairs(x, site, keys, pick, self.pairs)

    def keys(self, site: Site) -> Int[Tensor, "batch"]:
        """The position of each prompt that is a pair's key; one by number may lie behind a prompt's
        end, where no head looks."""
        if isinstance(site.key, int) and site.key >= 0:
            return torch.full_like(self.tokens[:, 0], site.key)
        assert site.key is not None
        return self.batch.index(site.key)

    def heads(self, layer: int, which: str) -> Float[Tensor, "batch head pos d_head"]:
        """Queries ("q"), keys ("k") or values ("v") of one layer, as the pass made them."""
        third = self.cells[layer].qkv.chunk(3, dim=-1)["qkv".index(which)]
        return ops.split_heads(third, self.config.n_head)

    def _read(self, address: Address, reader: Callable[[Trace, Site, Pick], Tensor]) -> Tensor:
        if address.at is not None:
            return reader(self, address.site, self._picker(address.at))
        x = self._unpadded(reader(self, address.site, _whole))
        if x._is_view() or x.is_inference():  # of a cell or the parameters: the reader's own copy
            x = x.clone()
        return x.transpose(1, 2) if address.site == Site("pattern", address.site.layer) else x

    def _picker(self, at: int | str) -> Pick:
        prompts = sent(torch.arange(len(self.tokens)), self.tokens)
        rows = self.batch.index(at)
        return lambda x: x[prompts, rows]

    def _unpadded(self, x: Tensor) -> Tensor:
        """NaN behind each prompt's end."""
        if not self.batch.ragged:
            return x
        hidden = ~self.batch.mask
        return x.masked_fill(hidden.view(*hidden.shape, *[1] * (x.ndim - 2)), torch.nan)

    def _logits(self, pick: Pick) -> Tensor:
        return ops.logits(_out(self, Site("out"), pick), self.params.unembed)

    def __repr__(self) -> str:
        b, t = self.tokens.shape
        return f"Trace({b} prompt{'s' * (b > 1)}, {t} positions, {self.config.n_layer} layers)"

    def _table(self) -> Iterator[Row]:
        yield "", ""
        yield "tokens", self.tokens
        yield "named positions", self.batch.positions
        yield "model", self.config
        yield "edited", " ".join(map(str, [*self.overrides, *self.ports]))
        yield "receipt", self.receipt


def _block(t: Trace, site: Site) -> Block:
    return t.params.blocks[site.depth]


def _broadcast(row: Tensor, like: Tensor) -> Tensor:
    return row.expand(*like.shape[:-1], -1)


def _whole(x: Tensor) -> Tensor:
    return x


def _node(read: Callable[[Trace, Site, Pick], Tensor]) -> Callable[[Trace, Site, Pick], Tensor]:
    """A reader of a node's own write, put right where edits wrote free vectors into the node or its
    parts."""

    def reader(t: Trace, site: Site, pick: Pick) -> Tensor:
        return _edited(t, site, pick, read(t, site, pick), t.overrides)

    return reader


def _edited(
    t: Trace, site: Site, pick: Pick, x: Tensor, overrides: Mapping[Site, Override]
) -> Tensor:
    """A node's write put right where these overrides are of the node or its parts."""
    for other, override in overrides.items():
        if other == site:
            x = torch.where(pick(override.rows)[..., None], pick(override.values), x)
        elif site.contains(other):
            own = _OWN[other.kind](t, other, pick)
            x = x + torch.where(pick(override.rows)[..., None], pick(override.values) - own, 0)
    return x


def _input(t: Trace, site: Site, pick: Pick) -> Tensor:
    return _emb(t, site, pick) + _pos(t, site, pick)


def _emb(t: Trace, _site: Site, pick: Pick) -> Tensor:
    return t.params.wte[pick(t.tokens)]


def _pos(t: Trace, _site: Site, pick: Pick) -> Tensor:
    return pick(t.params.wpe[: t.tokens.shape[1]].expand(len(t.tokens), -1, -1))


def _attn(t: Trace, site: Site, pick: Pick) -> Tensor:
    """A head's write: its z through its own rows of W_O; a layer's: as the pass has it."""
    block, z = _block(t, site), pick(t.cells[site.depth].z)
    if site.part is None:
        return ops.settled(z, block.w_o, block.b_o)
    own = t.config.head_columns(site.part)
    return ops.settled(z[..., own], block.w_o[own])


def _pair(t: Trace, site: Site, pick: Pick) -> Tensor:
    """A pair's write: what the head takes there through its rows of W_O."""
    own = t.config.head_columns(site.part or 0)
    return ops.settled(t.taken(site, t.keys(site), pick), _block(t, site).w_o[own])


def _pair_edited(t: Trace, site: Site, pick: Pick) -> Tensor:
    return _put_pairs(_pair(t, site, pick), site, t.keys(site), pick, t.overrides)


def _put_pairs(
    x: Tensor, site: Site, keys: Tensor, pick: Pick, edited: Mapping[Site, Override]
) -> Tensor:
    """A pair's values, put right where edits wrote it, by whatever name its key was called."""
    for other, override in edited.items():
        if (other.kind, other.layer, other.part) == ("pair", site.layer, site.part):
            here = pick(override.rows & (keys == other.source)[:, None])
            x = torch.where(here[..., None], pick(override.values), x)
    return x


def _mlp(t: Trace, site: Site, pick: Pick) -> Tensor:
    """A neuron's write: its activation times its row of W_out; a layer's: as the pass has it."""
    block = _block(t, site)
    if site.part is None:
        return ops.settled(_act(t, site, pick), block.w_out, block.b_out)
    return _act(t, site, pick)[..., None] * block.w_out[site.part]


def _act(t: Trace, site: Site, pick: Pick) -> Tensor:
    act = pick(t.cells[site.depth].act)
    return act if site.part is None else act[..., site.part]


def _latent(t: Trace, site: Site, pick: Pick) -> Tensor:
    """What a part by a dictionary writes: a latent, all of them, the decoder's bias, the error."""
    return t.split(site, None if pick is _whole else pick).write(site)


def _act_of_latents(t: Trace, site: Site, pick: Pick) -> Tensor:
    act = t.split(site, None if pick is _whole else pick).act
    return act if site.part is None else act[..., site.part]


def _split(t: Trace, site: Site, pick: Pick) -> Split:
    """What a dictionary makes of a write, edits of neurons, heads and biases in it, or of a stream
    point."""
    known, whole = t.params.dictionary(site), site.whole
    if whole.role == "stream":
        x = pick(t.stream(Site(f"{whole.kind}.ls", whole.layer)))
        return Split(known, x, x)
    others = {site: override for site, override in t.overrides.items() if not site.is_latent}
    wrote = _edited(t, whole, pick, _OWN[whole.kind](t, whole, pick), others)
    if known.reads.endswith(".act"):
        bias = _READERS["mlp.b"](t, Site("mlp.b", whole.layer), pick)
        act, w_out = pick(t.cells[whole.depth].act), _block(t, whole).w_out
        return Split(known, act, wrote, w_out, bias)
    if known.reads.endswith(".in"):
        return Split(known, _mlp_in(t, Site("in", whole.layer), pick), wrote)
    return Split(known, wrote, wrote)


def _bias(t: Trace, site: Site, pick: Pick) -> Tensor:
    row = {
        "attn.b": lambda: _block(t, site).b_o,
        "mlp.b": lambda: _block(t, site).b_out,
        "out.b": lambda: t.params.ln_b,
    }[site.kind]()
    return _broadcast(row, pick(t.cells[0].resid))


def _stream(t: Trace, site: Site, pick: Pick) -> Tensor:
    return pick(t.stream(site))


def _qkv(t: Trace, site: Site, pick: Pick) -> Tensor:
    x = pick(t.heads(site.depth, site.kind).transpose(1, 2))
    return x if site.part is None else x[..., site.part, :]


def _z(t: Trace, site: Site, pick: Pick) -> Tensor:
    z = pick(t.cells[site.depth].z)
    z = z.view(*z.shape[:-1], t.config.n_head, t.config.d_head)
    return z if site.part is None else z[..., site.part, :]


def _pattern(t: Trace, site: Site, pick: Pick) -> Tensor:
    """[batch, pos, key] of one head, [batch, pos, head, key] of a layer; picked at a position,
    without pos."""
    part = slice(None) if site.part is None else slice(site.part, site.part + 1)
    q, k = (t.heads(site.depth, which)[:, part] for which in "qk")
    weights = pick(_weights(q, k, t.batch.lengths).transpose(1, 2))
    for head, override in _pattern_overrides(t, site):
        column = head if site.part is None else 0
        own, edited = weights[..., column, :], pick(override.values)
        weights[..., column, :] = torch.where(pick(override.rows)[..., None], edited, own)
    return weights if site.part is None else weights.squeeze(-2)


def _pattern_overrides(t: Trace, site: Site) -> Iterator[tuple[int | None, Override]]:
    """What edits put into the patterns of this head, or of the heads of this layer, by head."""
    for other, override in t.overrides.items():
        if (other.kind, other.layer) == ("pattern", site.layer) and site.part in (None, other.part):
            yield other.part, override


def _weights(q: Tensor, k: Tensor, lengths: Tensor) -> Tensor:
    """The pattern of each prompt over exactly its own positions, as the pass formed it; zero
    elsewhere."""
    every = torch.unique(lengths).tolist()
    if len(every) == 1:
        return ops.pattern(q, k)
    weights = q.new_zeros(*q.shape[:3], every[-1])
    for n in every:
        rows = sent((lengths == n).nonzero().flatten(), q)
        weights[rows, :, :n, :n] = ops.pattern(q[rows, :, :n], k[rows, :, :n])
    return weights


def _mlp_in(t: Trace, site: Site, pick: Pick) -> Tensor:
    block = _block(t, site)
    return ops.layer_norm(pick(t.stream(site)), block.ln2_w, block.ln2_b, t.config.eps)


def _out(t: Trace, site: Site, pick: Pick) -> Tensor:
    out = ops.layer_norm(pick(t.stream(site)), t.params.ln_w, t.params.ln_b, t.config.eps)
    if override := t.overrides.get(Site("out.b")):
        change = pick(override.values) - t.params.ln_b
        out = out + torch.where(pick(override.rows)[..., None], change, 0)
    return out


_OWN: dict[str, Callable[[Trace, Site, Pick], Tensor]] = {
    "input": _input,
    "emb": _emb,
    "pos": _pos,
    "attn": _attn,
    "attn.b": _bias,
    "pair": _pair,
    "mlp": _mlp,
    "mlp.b": _bias,
    "out.b": _bias,
    **{kind: _latent for kind in LATENT if GRAMMAR[kind][0] == "node"},
}
_READERS: dict[str, Callable[[Trace, Site, Pick], Tensor]] = {
    **{kind: _node(read) for kind, read in _OWN.items()},
    "pair": _pair_edited,
    "resid": _stream,
    "mid": _stream,
    "q": _qkv,
    "k": _qkv,
    "v": _qkv,
    "in": _mlp_in,
    "out": _out,
    "pattern": _pattern,
    "z": _z,
    **{kind: _latent for kind in LATENT if GRAMMAR[kind][0] == "reading"},
}
