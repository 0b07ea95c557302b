"""A model of whose edges some carry this run's writes and the others those of a source, all at
once: each port reads a sum of its own.

The same numbers as a rerun with a patch of every edge that is cut, but by products with the matrix
of edges: what many cut edges cost is one product a layer, where a patch costs as many steps as it
has edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.circuit.matrix import ports, senders
from minigpt import GPT2, Trace, ops, parse
from minigpt.params import Block
from minigpt.patch.edit import Edit, Source
from minigpt.recompute.values import Reader
from minigpt.shown import Shown

# Elements that the changes of one sender in one block of variants may have.
BLOCK = 1 << 19


@dataclass(frozen=True, eq=False, repr=False)
class Ports(Shown):
    """Ports of one layer, those together that hear the same: their numbers among the layer's, and
    which of the senders before them each group hears."""

    groups: list[list[int]]
    kept: Float[Tensor, "groups senders"]

    def group(self, port: int) -> int:
        """The group that a port is in."""
        return next(i for i, ports in enumerate(self.groups) if port in ports)


@dataclass(frozen=True, eq=False, repr=False)
class Layer(Shown):
    """What one layer had: its stream before attention and before the MLP, its queries, keys and
    values, and what its heads and its MLP wrote."""

    stream: Float[Tensor, "batch pos d_model"]
    mid: Float[Tensor, "batch pos d_model"]
    qkv: Float[Tensor, "batch pos parts d_head"]
    heads: Float[Tensor, "head batch pos d_model"]
    mlp: Float[Tensor, "batch pos d_model"]


class Wired:
    """Some prompts' run of a model of which only the edges `kept` carry what is written there. The
    others carry the source's."""

    def __init__(
        self,
        model: GPT2,
        clean: Trace,
        source: Source,
        kept: Bool[Tensor, "senders ports"],
        rows: slice = slice(None),
        reader: Reader | None = None,
    ) -> None:
        """rows: the prompts of the clean run that this is of; reader: of that run, where several
        of these have one together."""
        self.config, self.params, self.source = model.config, model.params, source
        self.kept = kept.to(self.params.wte)
        self.prompts = torch.arange(len(clean.tokens))[rows]
        self.width = self.config.n_head + 1  # senders of a layer
        self.length, self.first = clean.tokens.shape[1], _first(clean, source)
        self.batch = clean.batch
        self._run(clean.cells[0].resid[rows], reader or Reader(clean))

    # ---- the run itself

    def _run(self, stream: Tensor, reader: Reader) -> None:
        names = senders(self.config)
        self.apart = stream.new_zeros(len(names), *stream.shape)
        self._put(0, self._given(reader, names[0]) - stream)
        self.layers = list[Layer]()
        for number, block in enumerate(self.params.blocks):
            reads = self._read(self.into_heads[number], stream)
            qkv = self._project(block, reads, self.into_heads[number])
            heads, at = self._heads(block, qkv), 1 + number * self.width
            for sender, write in enumerate(heads, at):
                self._put(sender, self._given(reader, names[sender]) - write)
            mid = stream + heads.sum(0) + block.b_o
            mlp = _mlp(block, self._read(self.into_mlps[number], mid)[0], self.config.eps)
            at += self.config.n_head
            self._put(at, self._given(reader, names[at]) - mlp)
            self.layers.append(Layer(stream, mid, qkv, heads, mlp))
            stream = mid + mlp
        self.stream = self._read(self.into_out, stream)[0]

    def _given(self, reader: Reader, name: str) -> Float[Tensor, "batch pos d_model"]:
        """What the source has for a sender; of the input without a run of its own, as in EAP-IG
        and MIB, whose input node is the token embedding, only that is taken away."""
        place = torch.arange(self.length)
        rows = (self.prompts[:, None] * self.length + place).flatten()
        if name == "input" and (self.source.run is None or self.source.mean):
            return self._values(reader, "emb", rows) + self.params.wpe[: self.length]
        return self._values(reader, name, rows)

    def _values(self, reader: Reader, name: str, rows: Tensor) -> Tensor:
        address = parse(name)
        found = reader.values(Edit(address, self.source), address.site)(rows)
        return found.view(len(self.prompts), self.length, -1)

    def _put(self, sender: int, apart: Float[Tensor, "batch pos d_model"]) -> None:
        """How far the source is from what a sender wrote; before the first token that is another,
        nothing but rounding."""
        self.apart[sender, :, self.first :] = apart[:, self.first :]

    @cached_property
    def into_heads(self) -> list[Ports]:
        """Of each layer the heads' ports."""
        return [self._grouped(number) for number in range(self.config.n_layer)]

    @cached_property
    def into_mlps(self) -> list[Ports]:
        """Of each layer the MLP's port."""
        each = range(self.config.n_layer)
        return [self._single((n + 1) * self.width, self._column(n + 1) - 1) for n in each]

    @cached_property
    def into_out(self) -> Ports:
        """The output."""
        return self._single(len(self.kept), -1)

    def _single(self, heard: int, column: int) -> Ports:
        return Ports([[0]], self.kept[:heard, column][None].contiguous())

    def _grouped(self, number: int) -> Ports:
        heard, first = 1 + number * self.width, self._column(number)
        own = self.kept[:heard, first : first + 3 * self.config.n_head]
        columns, which = torch.unique(own, dim=1, return_inverse=True)
        groups = [(which == i).nonzero().flatten().tolist() for i in range(columns.shape[1])]
        return Ports(groups, columns.T.contiguous())

    def _column(self, number: int) -> int:
        return number * (3 * self.config.n_head + 1)

    def _read(
        self, ports: Ports, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "groups batch pos d_model"]:
        """What each group reads: the stream, with the source's writes along the edges that are
        cut."""
        cut, early = 1 - ports.kept, self.first
        found = stream.expand(len(cut), *stream.shape).clone()
        if bool(cut.any()):
            apart = self.apart[: cut.shape[1], :, early:]
            found[:, :, early:] += (cut @ apart.flatten(1)).view(len(cut), *apart.shape[1:])
        return found

    def _project(
        self, block: Block, reads: Float[Tensor, "groups *n d_model"], into: Ports
    ) -> Float[Tensor, "*n parts d_head"]:
        """Queries, keys and values of ports, from what each group of them reads."""
        config = self.config
        parts = 3 * config.n_head, config.d_head
        x = ops.layer_norm(reads, block.ln1_w, block.ln1_b, config.eps)
        if len(x) == 1:
            qkv: Tensor = ops.linear(x[0], block.w_qkv, block.b_qkv).unflatten(-1, parts)
            return qkv
        w, b = block.w_qkv.view(config.d_model, *parts), block.b_qkv.view(parts)
        found = x.new_empty(*x.shape[1:-1], *parts)
        for own, read in zip(into.groups, x, strict=True):
            mine = ops.linear(read, w[:, own].flatten(1), b[own].flatten())
            found[..., own, :] = mine.unflatten(-1, (len(own), -1))
        return found

    def _heads(
        self, block: Block, qkv: Float[Tensor, "n pos parts d_head"]
    ) -> Float[Tensor, "head n pos d_model"]:
        """What all heads write, each its own."""
        q, k, v = (x.transpose(1, 2) for x in qkv.chunk(3, dim=2))
        return _through(_attend(q, k, v).transpose(0, 1), self._w_o(block))

    def _w_o(self, block: Block) -> Float[Tensor, "head d_head d_model"]:
        return block.w_o.view(self.config.n_head, self.config.d_head, -1)

    def out(self, at: int | str | None = None) -> Float[Tensor, "batch *pos d_model"]:
        """What the unembedding reads, at a position or at all."""
        return self._final(self.stream, at)

    def _final(self, x: Tensor, at: int | str | None) -> Tensor:
        if at is not None:
            places = self.batch.index(at)[self.prompts]
            x = x[..., torch.arange(len(places)), places, :]
        return ops.layer_norm(x, self.params.ln_w, self.params.ln_b, self.config.eps)

    # ---- one port reads something else

    def turned(
        self, port: int, senders: Sequence[int], at: int | str | None = None
    ) -> Float[Tensor, "senders batch *pos d_model"]:
        """What the unembedding reads where the edge of one of these senders into a port carries
        the other thing than in this run: one that is kept the source's, one that is cut what its
        sender writes here."""
        weights = self.kept.new_zeros(len(senders), len(self.kept))
        here = torch.arange(len(senders))
        weights[here, list(senders)] = self.kept[list(senders), port].mul(2).sub(1)
        return self.changed(port, weights, at=at)

    def changed(
        self,
        port: int,
        weights: Float[Tensor, "variants senders"],
        at: int | str | None = None,
        apart: Float[Tensor, "senders batch pos d_model"] | None = None,
    ) -> Float[Tensor, "variants batch *pos d_model"]:
        """The same where a port reads so many times more of how far the source is from what each
        sender writes here (or of something else)."""
        late = (self.apart if apart is None else apart)[:, :, self.first :]
        found, size = [], max(1, BLOCK // late[0].numel())
        for some in weights.to(self.kept).split(size):
            change = (some @ late.flatten(1)).view(len(some), *late.shape[1:])
            found.append(self._final(self._after(port, change), at))
        return torch.cat(found)

    def _after(
        self, port: int, change: Float[Tensor, "variants batch late d_model"]
    ) -> Float[Tensor, "variants batch pos d_model"]:
        """The output's stream where one port reads something else: from `first` on, so much more
        than it reads here."""
        if port == len(ports(self.config)) - 1:
            return self._with(self.stream, change)
        number, own = divmod(port, 3 * self.config.n_head + 1)
        heads = own < 3 * self.config.n_head
        changes = self._head(number, own, change) if heads else self._mlp(number, change)
        sender = 1 + number * self.width + (own % self.config.n_head if heads else self.width - 1)
        return self._downstream(number, sender, changes, heads)

    def _with(self, x: Tensor, change: Tensor) -> Float[Tensor, "variants batch pos rest"]:
        """A tensor of this run, once a variant, changed from `first` on."""
        found = x.expand(len(change), *x.shape).clone()
        found[:, :, self.first :] += change
        return found

    def _head(self, number: int, own: int, change: Tensor) -> Tensor:
        """How much else a head writes where one of its ports reads so much else."""
        layer, block, config = self.layers[number], self.params.blocks[number], self.config
        into = self.into_heads[number]
        read = self._read(_one(into, own), layer.stream)[0][:, self.first :] + change
        x = ops.layer_norm(read, block.ln1_w, block.ln1_b, config.eps)
        columns = slice(own * config.d_head, (own + 1) * config.d_head)
        new = ops.linear(x, block.w_qkv[:, columns], block.b_qkv[columns])
        which, head = divmod(own, config.n_head)
        parts = [layer.qkv[:, :, part * config.n_head + head] for part in range(3)]
        q, k, v = (
            self._replaced(x, new) if part == which else x.expand(len(new), *x.shape)
            for part, x in enumerate(parts)
        )
        z = _attend(q[:, :, self.first :], k, v)
        return z @ self._w_o(block)[head] - layer.heads[head][:, self.first :]

    def _replaced(self, x: Tensor, late: Tensor) -> Tensor:
        """A tensor of this run, once a variant, with other values from `first` on."""
        early = x[:, : self.first].expand(len(late), -1, -1, *x.shape[2:])
        return torch.cat([early, late], 2)

    def _mlp(self, number: int, change: Tensor) -> Tensor:
        """How much else an MLP writes where it reads so much else."""
        layer, block = self.layers[number], self.params.blocks[number]
        read = self._read(self.into_mlps[number], layer.mid)[0][:, self.first :] + change
        return _mlp(block, read, self.config.eps) - layer.mlp[:, self.first :]

    def _downstream(
        self, number: int, sender: int, change: Tensor, heads: bool
    ) -> Float[Tensor, "variants batch pos d_model"]:
        """The output's stream where a sender writes so much else: on from the MLP of its layer,
        or from the next layer."""
        config, changes = self.config, Changes(self.apart, change, sender)
        for layer in range(number if heads else number + 1, config.n_layer):
            if layer > number:
                changes.add(self._other_heads(layer, changes), 1 + layer * self.width)
            heard = changes.heard(self.into_mlps[layer])[0]
            changes.add(self._mlp(layer, heard)[None], (layer + 1) * self.width)
        return self._with(self.stream, changes.heard(self.into_out)[0])

    def _other_heads(self, number: int, changes: Changes) -> Tensor:
        layer, block = self.layers[number], self.params.blocks[number]
        into = self.into_heads[number]
        reads = changes.heard(into)
        reads += self._read(into, layer.stream)[:, None, :, self.first :]
        late = self._project(block, reads, into)
        q, k, v = (x.transpose(2, 3) for x in late.chunk(3, dim=3))
        if self.first:
            early = layer.qkv[:, : self.first].chunk(3, dim=2)
            k, v = (
                torch.cat([x.transpose(1, 2).expand(len(y), -1, -1, -1, -1), y], 3)
                for x, y in zip(early[1:], (k, v), strict=True)
            )
        z = _attend(q, k, v).movedim(2, 0)
        return _through(z, self._w_o(block)) - layer.heads[:, None, :, self.first :]


class Changes:
    """How much else senders write, variant by variant, from the first that does on."""

    def __init__(
        self,
        like: Float[Tensor, "senders batch pos d_model"],
        change: Float[Tensor, "variants batch late d_model"],
        sender: int,
    ) -> None:
        self.begin, self.end = sender, sender
        self.all = like.new_zeros(len(like) - sender, *change.shape)
        self.add(change[None], sender)

    def add(self, changes: Float[Tensor, "some variants batch late d_model"], sender: int) -> None:
        """Those of the senders from this one on."""
        self.all[sender - self.begin : sender - self.begin + len(changes)] = changes
        self.end = sender + len(changes)

    def heard(self, into: Ports) -> Float[Tensor, "groups variants batch late d_model"]:
        """What each group of ports hears of them, all together."""
        weights = into.kept[:, self.begin : self.end]
        found = weights @ self.all[: self.end - self.begin].flatten(1)
        return found.view(len(weights), *self.all.shape[1:])


def _one(into: Ports, port: int) -> Ports:
    """The group of one port alone."""
    at = into.group(port)
    return Ports([into.groups[at]], into.kept[at : at + 1])


def _attend(
    q: Float[Tensor, "*n pos d_head"], k: Float[Tensor, "*n key d_head"], v: Tensor
) -> Float[Tensor, "*n pos d_head"]:
    """Causal attention of queries at the last positions."""
    scores = (q @ k.transpose(-1, -2)).mul_(q.shape[-1] ** -0.5)
    hidden = scores.new_full(scores.shape[-2:], torch.finfo(scores.dtype).min)
    late = scores.shape[-1] - scores.shape[-2]
    return torch.softmax(scores.add_(hidden.triu_(1 + late)), dim=-1) @ v


def _through(
    z: Float[Tensor, "head *n pos d_head"], w: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head *n pos d_model"]:
    """Each head's values through its own rows of W_O."""
    return torch.bmm(z.reshape(len(z), -1, z.shape[-1]), w).view(*z.shape[:-1], -1)


def _mlp(block: Block, read: Tensor, eps: float) -> Tensor:
    x = ops.layer_norm(read, block.ln2_w, block.ln2_b, eps)
    return ops.linear(ops.gelu(ops.linear(x, block.w_in, block.b_in)), block.w_out, block.b_out)


def _first(clean: Trace, source: Source) -> int:
    """The first position at which the source can be another than the clean run."""
    if source.run is None or source.mean:
        return 0
    other: Int[Tensor, "batch pos"] = source.run.tokens
    if other.shape != clean.tokens.shape:
        return 0
    differ = (other != clean.tokens).any(0).nonzero().flatten()
    return int(differ[0]) if len(differ) else clean.tokens.shape[1] - 1
