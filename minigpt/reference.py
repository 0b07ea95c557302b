"""GPT-2, and everything that a patch can do to it, written out once more: slow, dense, float64, one
prompt after another.

Read it from the top. `forward` is the whole model in the order of computation. Its numbers pass
through two doors only:

    fill(address, x)     x is what this cell would hold; where the patch says that it holds
                         something else, it does
    read(port, point)    the port looks at the stream at that point; where the patch shows it
                         another stream, it sees that

Behind the doors, in `Sheet`, is all that a patch means; the tests hold the fast engine to it. Knows
addresses, patches and dictionaries as plain data, and NumPy; shares no code with the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from minigpt.address import Address, Site, parse
from minigpt.config import Config
from minigpt.dictionary import Activation, Dictionary, Gated, JumpRelu, TopK
from minigpt.patch import Patch
from minigpt.patch.edit import Edit, Source

Array = NDArray[np.float64]
Weights = Mapping[str, Array]  # by their names in the checkpoint
Cells = dict[str, Array]  # what one prompt's addresses hold, each [pos, ...]


def forward(w: Weights, c: Config, tokens: list[int], sheet: Sheet) -> None:
    """One prompt through the model. The stream is a running sum: each part reads it and adds what
    it writes."""
    fill, read, n = sheet.fill, sheet.read, len(tokens)
    embedded = fill("emb", w["wte.weight"][tokens]) + fill("pos", w["wpe.weight"][:n])
    stream = fill("input", embedded)  # [pos, d_model]
    for i in range(c.n_layer):
        block = of_layer(w, i)
        stream = point(f"resid{i}", stream, sheet)
        stream = point(f"resid{i}.mid", stream + attention(block, c, i, sheet), sheet)
        stream = stream + mlp(block, c, i, sheet)
    point(f"resid{c.n_layer}", stream, sheet)
    bias = fill("out.b", np.tile(w["ln_f.bias"], (n, 1)))
    seen = read("out", f"resid{c.n_layer}")
    out = fill("out", layer_norm(seen, w["ln_f.weight"], bias, c.eps))  # [pos, d_model]
    sheet.cells["logits"] = out @ w.get("lm_head.weight", w["wte.weight"]).T  # [pos, vocab]


def of_layer(w: Weights, i: int) -> Weights:
    """One layer's weights, by their names within it."""
    prefix = f"h.{i}."
    return {name.removeprefix(prefix): x for name, x in w.items() if name.startswith(prefix)}


def point(
    name: str, stream: Float[Array, "pos d_model"], sheet: Sheet
) -> Float[Array, "pos d_model"]:
    """The stream at a point, its latents among it, where a dictionary splits it."""
    return latents(name, sheet.fill(name, stream), {}, {}, sheet)


def attention(w: Weights, c: Config, i: int, sheet: Sheet) -> Float[Array, "pos d_model"]:
    """What layer a{i} writes: its heads and its bias."""
    parts = [head(w, c, i, n, sheet) for n in range(c.n_head)]
    parts.append(sheet.fill(f"a{i}.b", np.tile(w["attn.c_proj.bias"], (len(parts[0]), 1))))
    return latents(f"a{i}", sheet.fill(f"a{i}", np.sum(parts, axis=0)), {}, w, sheet)


def head(w: Weights, c: Config, i: int, n: int, sheet: Sheet) -> Float[Array, "pos d_model"]:
    """What head a{i}.{n} writes. It reads the stream three times: for queries, keys and values."""
    fill, a = sheet.fill, f"a{i}.{n}"
    q, k, v = (seen(w, c, i, n, port, sheet) for port in "qkv")  # each [pos, d_head]
    pattern = fill(f"{a}.pattern", causal_softmax(q @ k.T / np.sqrt(c.d_head)))  # [pos, key]
    w_o = w["attn.c_proj.weight"][c.head_columns(n)]
    taken = pattern[:, :, None] * v  # [pos, key, d_head]
    pairs = sheet.pairs(a, taken @ w_o)  # [pos, key, d_model]
    change = sheet.pairs(f"{a}.z", taken) - taken
    z = fill(f"{a}.z", pattern @ v + change.sum(1))  # [pos, d_head]
    return fill(a, np.where(np.isnan(z).any(-1, keepdims=True), pairs.sum(1), z @ w_o))


def seen(
    w: Weights, c: Config, i: int, n: int, port: str, sheet: Sheet
) -> Float[Array, "pos d_head"]:
    """The queries, keys or values that head a{i}.{n} makes of what this port reads."""
    third, name, own = "qkv".index(port), f"a{i}.{n}.{port}", c.head_columns(n)
    m = np.split(w["attn.c_attn.weight"], 3, -1)[third]  # [d_model, d_model]
    b = np.split(w["attn.c_attn.bias"], 3)[third]
    x = sheet.read(name, f"resid{i}")  # [pos, d_model]
    x = layer_norm(x, w["ln_1.weight"], w["ln_1.bias"], c.eps)
    return sheet.fill(name, x @ m[:, own] + b[own])


def mlp(w: Weights, c: Config, i: int, sheet: Sheet) -> Float[Array, "pos d_model"]:
    """What layer m{i} writes: its neurons and its bias. A neuron writes its activation times its
    own row of W_out."""
    fill, w_out = sheet.fill, w["mlp.c_proj.weight"]
    x = sheet.read(f"m{i}.in", f"resid{i}.mid")  # [pos, d_model]
    x = fill(f"m{i}.in", layer_norm(x, w["ln_2.weight"], w["ln_2.bias"], c.eps))
    act = sheet.activate(i, gelu(x @ w["mlp.c_fc.weight"] + w["mlp.c_fc.bias"]))  # [pos, d_mlp]
    parts = [fill(f"m{i}.n{n}", np.outer(act[:, n], w_out[n])) for n in range(c.d_mlp)]
    parts.append(fill(f"m{i}.b", np.tile(w["mlp.c_proj.bias"], (len(x), 1))))
    wrote, reads = fill(f"m{i}", np.sum(parts, axis=0)), {".in": x, ".act": sheet.acted(i, act)}
    return latents(f"m{i}", wrote, reads, w, sheet)


def latents(
    name: str, wrote: Float[Array, "pos d_model"], reads: Cells, w: Weights, sheet: Sheet
) -> Float[Array, "pos d_model"]:
    """What a layer writes, or the stream at a point is, once latents are edited, where a dictionary
    splits it: each part changes the sum by what it differs by. The error is that of what was
    there."""
    if (d := sheet.dictionaries.get(name)) is None:
        return wrote
    within = d.reads.removeprefix(name)
    out = w["mlp.c_proj.weight"] if within == ".act" else np.eye(wrote.shape[-1])
    beside = sheet.cells[f"{name}.b"] if within == ".act" else 0.0
    z, units, bias = split(d, reads.get(within, wrote))
    units, bias = units @ out, bias @ out  # [latent, pos, d_model], [pos, d_model]
    parts = {f"{name}.l{n}": z[:, n, None] * unit for n, unit in enumerate(units)}
    parts[f"{name}.l.b"], sheet.cells[f"{name}.z"] = bias, z
    parts[f"{name}.e"] = wrote - beside - bias - np.sum([*parts.values()][:-1], axis=0)
    total = wrote
    for (part, own), unit in zip_longest(parts.items(), units):
        total = total + sheet.fill(part, own, unit) - own
    sheet.cells[name] = total
    return total


def split(
    d: Dictionary, x: Float[Array, "pos d_in"]
) -> tuple[Float[Array, "pos latent"], Float[Array, "latent pos d_out"], Float[Array, "pos d_out"]]:
    """Activations of a dictionary's latents, what each writes for a unit of it, and the bias."""
    w, b, w_out, b_out = (
        np.asarray(t, dtype=np.float64)
        for t in (d.encoder, d.encoder_bias, d.decoder, d.decoder_bias)
    )
    mean, s, least = np.zeros((len(x), 1)), np.ones((len(x), 1)), 0.0
    if d.normalise in ("centre", "layer_norm"):
        mean = x.mean(-1, keepdims=True)
    if d.normalise == "layer_norm":  # divided by a little more than what it is multiplied by again
        s, least = x.std(-1, ddof=1, keepdims=True), 1e-5
    if d.normalise == "rms":
        s = np.sqrt((x**2).mean(-1, keepdims=True))
        s[s == 0] = 1
    seen = (x - mean) / (s + least) * d.scale - (b_out if d.centred else 0.0)
    skipped = 0.0 if d.skip is None else seen @ np.asarray(d.skip, dtype=np.float64)
    z = activations(seen @ w + b, d.activation)
    return z, w_out[:, None, :] / d.scale * s, (b_out + skipped) / d.scale * s + mean


def activations(p: Float[Array, "pos latent"], how: Activation) -> Float[Array, "pos latent"]:
    """What a dictionary's latents make of the encoder's numbers."""
    if isinstance(how, Gated):
        gate, factor, bias = (np.asarray(x, dtype=np.float64) for x in vars(how).values())
        return np.where(p + gate > 0, np.maximum(p * factor + bias, 0), 0)
    if isinstance(how, JumpRelu):
        return np.where(p > np.asarray(how.threshold, dtype=np.float64), np.maximum(p, 0), 0)
    if isinstance(how, TopK):  # of equals, those of the lower numbers
        kept = np.argsort(-p, axis=-1, kind="stable")[:, : how.k]
        on = np.zeros_like(p)
        np.put_along_axis(on, kept, 1.0, axis=-1)
        p = p * on
    return np.maximum(p, 0)


def layer_norm(
    x: Float[Array, "pos d_model"], weight: Array, bias: Array, eps: float
) -> Float[Array, "pos d_model"]:
    """Centre, divide by the standard deviation of what is seen here, then scale and shift."""
    x = x - x.mean(-1, keepdims=True)
    deviation: Array = np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return x / deviation * weight + bias


def causal_softmax(scores: Float[Array, "pos key"]) -> Float[Array, "pos key"]:
    """Weights that sum to one over the keys up to each position."""
    scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
    weights: Array = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights


def gelu(x: Float[Array, "pos d_mlp"]) -> Float[Array, "pos d_mlp"]:
    """The tanh form."""
    y: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return y


class Change(NamedTuple):
    """One line of a patch as it concerns one prompt."""

    kind: str  # "write", "read" or "input"
    # what is written: a node, a stream point, a z, a pattern; or the port that sees something else
    site: Site
    rows: list[int]  # the positions at which it does
    source: Source
    # The position as the patch has it, None for all: whether a tensor has an axis pos.
    at: int | str | None = None
    key: int | str | None = None  # likewise of a pair, whose site has it as a number
    sender: Site | None = None  # of the edge that is read
    how: str = "="  # or "+=", "*=": to or times what would be there

    @property
    def activates(self) -> bool:
        """Whether it is a number for a neuron: its activation."""
        changed = bool(self.source.number or self.how == "*=")
        return self.kind == "write" and self.site.is_neuron and changed

    def concerns(self, site: Site) -> bool:
        """Whether a write is one of this cell. What is put for a whole is put for its parts; what
        is added stands in the whole alone; what is multiplied are the numbers that writes are made
        of: each z, neuron, bias and embedding."""
        if self.activates:
            return False
        if self.how == "+=":
            family = self.site.role == "inside" and self.site.contains(site)
            return self.site == site or family
        made = site.kind in ("attn", "input") or (site.kind == "mlp" and site.part is None)
        return covers(self.site, site) and not (self.how == "*=" and made)

    def of(self, now: Any, value: Any) -> Any:
        """What stands there after it."""
        return value if self.how == "=" else now + value if self.how == "+=" else now * value


@dataclass(frozen=True, eq=False)
class Sheet:
    """One prompt's cells, as they are filled, and the patch, which has a say in each of them."""

    index: int  # the prompt's place in its batch
    length: int
    changes: list[Change]
    runs: Mapping[str, Run]
    sizes: Mapping[str, int]  # of each axis that a tensor in a patch can have
    cells: Cells
    neurons: Collection[int] | None = None  # whose single writes are kept; None: every one's
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)

    def fill(
        self,
        name: str,
        x: Float[Array, "pos *rest"],
        unit: Float[Array, "pos *rest"] | None = None,
    ) -> Float[Array, "pos *rest"]:
        """The cell holds x, but in rows where it, or the whole that it is a part of, is written,
        what is written there: from here on everybody sees that. (A port's cell, such as a9.9.q,
        holds what was made of what it read; none is written.) A number that is put for a latent, or
        added to it, is its activation, of which each unit writes `unit`."""
        site, x = parse(name).site, x.copy()
        for change in self.changes:
            if change.kind == "write" and change.concerns(site):
                value = self.value(change, site)
                if unit is not None and change.source.number and change.how != "*=":
                    value = value * unit[change.rows]
                x[change.rows] = change.of(x[change.rows], value)
        if site.kind != "mlp" or site.part is None or self.keeps(site.part):
            self.cells[name] = x
        return x

    def pairs(self, name: str, x: Float[Array, "pos key *rest"]) -> Float[Array, "pos key *rest"]:
        """`fill`, of what a head takes from every source, of which an edit is of one: its writes,
        or its z. In which z a vector is that is written or added, nobody can tell: NaN."""
        site, x = parse(name).site, x.copy()
        for change in self.changes:
            whole = Site(site.kind, change.site.layer, change.site.part)
            if change.kind == "write" and change.site.kind == "pair" and site == whole:
                place = change.rows, change.site.source
                lost = site.kind == "z" and change.how == "+="
                of = change.site if site.kind == "attn" else site
                x[place] = np.nan if lost else change.of(x[place], self.value(change, of))
        self.cells[f"{name}<"] = x
        return x

    def activate(self, layer: int, act: Float[Array, "pos d_mlp"]) -> Float[Array, "pos d_mlp"]:
        """A layer's activations, numbers that are put for a neuron being its activation."""
        act = act.copy()
        for change in self.changes:
            if change.activates and change.site.layer == layer:
                place = change.rows, change.site.part
                act[place] = change.of(act[place], change.source.number or 0.0)
        return act

    def acted(self, layer: int, act: Float[Array, "pos d_mlp"]) -> Float[Array, "pos d_mlp"]:
        """Activations as a dictionary reads them: where a neuron, or the whole MLP, is what it is
        in a run, or scaled, so are they."""
        name, act = f"m{layer}.act", act.copy()
        for change in self.changes:
            if (
                change.kind == "write"
                and (change.site.kind, change.site.layer) == ("mlp", layer)
                and not change.activates
                and (change.how == "*=" or (change.how == "=" and change.source.value is None))
            ):
                own = slice(None) if change.site.part is None else change.site.part
                given = change.source.number
                value = given if given is not None else self.of_run(change, name)[..., own]
                act[change.rows, own] = change.of(act[change.rows, own], value)
        self.cells[name] = act
        return act

    def keeps(self, neuron: int) -> bool:
        """Whether this neuron's own writes are kept."""
        return self.neurons is None or neuron in self.neurons

    def read(self, name: str, point: str) -> Float[Array, "pos d_model"]:
        """The stream at this point as this port sees it. An input is the stream of another run; an
        edge that is read takes out what the sender really wrote here, and puts in what the patch
        gives instead."""
        port, seen = parse(name).site, self.cells[point].copy()
        for change in self.changes:
            if change.site == port or change.site.contains(port):
                if change.sender is None:
                    now = seen[change.rows]
                    seen[change.rows] = change.of(now, self.value(change, parse(point).site))
                else:
                    wrote = self.cells[str(change.sender)][change.rows]
                    seen[change.rows] += change.of(wrote, self.value(change, change.sender)) - wrote
        return seen

    def value(self, change: Change, site: Site) -> Float[Array, "rows *rest"] | float:
        """What the source has for this site in the change's rows; position 3 of another run goes to
        position 3 of this one."""
        source = change.source
        if source.value is not None:
            return self.tensor(change, site)
        if source.run is None:
            return 0.0
        return self.of_run(change, site)

    def of_run(self, change: Change, site: Site | str) -> Float[Array, "rows *rest"]:
        """The same of a run, or of its mean; a name of a cell is what has no address."""
        source, kind = change.source, "" if isinstance(site, str) else site.kind
        if source.mean and change.at is not None and kind != "pattern":
            return self.mean_at(change, site, change.at)
        every = [self.there(change, site, index) for index in self.members(source)]
        x: Array = np.mean(every, axis=0)
        if kind == "pattern":  # over this prompt's keys; there is no weight beyond the other's
            x = np.pad(x, ((0, 0), (0, self.length)))[:, : self.length]
        return x[change.rows]

    def mean_at(
        self, change: Change, site: Site | str, at: int | str
    ) -> Float[Array, "rows *rest"]:
        """The mean at one position of all the run's prompts, or of its group's: where each of them
        has it."""
        run, found = self.runs[change.source.name], []
        for index in self.members(change.source):
            x = self.there(change, site, index)
            found.append(x[rows(at, len(x), index, run.positions)])
        mean: Array = np.mean(found, axis=0)
        return mean

    def there(self, change: Change, site: Site | str, index: int) -> Float[Array, "pos *rest"]:
        """What a prompt of the change's run holds at this site; of a pair, from the same source, or
        for a mean from the prompt's own."""
        run = self.runs[change.source.name]
        if isinstance(site, str) or change.site.kind != "pair":
            return run.prompts[index][str(site)]
        head = Site("z" if site.kind == "z" else "attn", site.layer, site.part)
        x = run.prompts[index][f"{head}<"]
        its_own = rows(change.key, len(x), index, run.positions)[0]
        return x[:, its_own if change.source.mean else change.site.source]

    def members(self, source: Source) -> list[int]:
        """The place of the run's prompt that stands where this one does; for a mean of all of them,
        or of those of its group."""
        every = range(len(self.runs[source.name].prompts))
        if not source.mean:
            return [self.index]
        if source.by is None:
            return list(every)
        return [index for index in every if source.by[index] == source.by[self.index]]

    def tensor(self, change: Change, site: Site) -> Float[Array, "rows *rest"] | float:
        """The same from a tensor, which broadcasts over the axes of what is changed. Of one that is
        written for a sum, nobody can tell what its parts wrote, nor from which z: they are NaN."""
        if change.source.number is not None:
            split = change.kind == "write" and change.site != site and change.how == "="
            return np.nan if split and change.site.role == "node" else change.source.number
        split, value = change.kind == "write" and change.site != site, change.source.value
        if value is None or (split and change.site.role == "node"):
            return np.nan
        names = axes(change.site if split else site, change.at)
        shape = [self.sizes[name] for name in ("batch", *names)]
        x: Array = np.broadcast_to(value.detach().double().cpu().numpy(), shape)[self.index]
        if split:  # a layer's patterns or z: the head's own
            x = np.moveaxis(x, names.index("head"), 0)[site.part]
        x = x[change.rows] if change.at is None else x[None]
        return x[:, : self.length] if site.kind == "pattern" else x


def changes(
    patch: Patch, c: Config, length: int, index: int, positions: Mapping[str, Sequence[int]]
) -> list[Change]:
    """The patch as it concerns one prompt: positions as numbers, and each hold as the writes that
    it is a shorthand for."""
    said = [edited(edit, length, index, positions) for edit in patch.edits]
    writes, held = [change for change in said if change.kind == "write"], []
    for hold in patch.holds:
        for node in hold.sites(c):
            write = edited(Edit(Address((node,)), hold.source), length, index, positions)
            free = [rows(at, length, index, positions) for at in hold.places(node)]
            free += [change.rows for change in writes if decides(change.site, write.site)]
            others = {row for some in free for row in some}
            held.append(write._replace(rows=[row for row in write.rows if row not in others]))
    return said + [unless_whole(change, held) for change in held]


def unless_whole(change: Change, held: Sequence[Change]) -> Change:
    """A node that is held; a pair, but where its head is held, whose z does not tell of it; a part
    by a dictionary likewise, but where the whole is held."""
    wholes = [other.rows for other in held if other.site.contains(change.site)]
    kept = [row for row in change.rows if not any(row in some for some in wholes)]
    gives_way = change.site.kind == "pair" or change.site.is_latent
    return change._replace(rows=kept) if gives_way else change


def edited(edit: Edit, length: int, index: int, positions: Mapping[str, Sequence[int]]) -> Change:
    """An edit as it concerns this prompt; of a pair, its source as a number, where that is not
    after the query."""
    *senders, site = edit.target.sites
    where, key = rows(edit.target.at, length, index, positions), site.key
    if key is not None:
        site = replace(site, key=rows(key, length, index, positions)[0])
        where = [row for row in where if row >= site.source]
    sender = senders[0] if senders else None
    return Change(edit.kind, site, where, edit.source, edit.target.at, key, sender, edit.how)


def covers(written: Site, site: Site) -> bool:
    """Whether this is written with that: it is the same, or a part of it, or the z that a head's
    write is made of. Parts by a dictionary are made of what was written."""
    if site.is_latent:
        return written == site
    head = Site("attn", site.layer, site.part) if site.kind == "z" else site
    return written in (site, head) or written.contains(site) or written.contains(head)


def decides(site: Site, node: Site) -> bool:
    """Whether writing this site writes the node otherwise: it is the node, its whole or part, or
    the z or pattern of these."""
    same = (
        Site(site.kind, node.layer, node.part)
        if site.role == "inside" and node.kind in ("attn", "pair")
        else node
    )
    return site == same or site.contains(same) or same.contains(site)


def rows(
    at: int | str | None, length: int, index: int, positions: Mapping[str, Sequence[int]]
) -> list[int]:
    """All positions, or the one that 3, -1 (the prompt's own last) or a name means; IndexError
    where the prompt has none."""
    return (
        list(range(length))
        if at is None
        else [range(length)[positions[at][index] if isinstance(at, str) else at]]
    )


def axes(site: Site, at: int | str | None = None) -> list[str]:
    """The axes of what an address holds, but the batch: one head has no axis head, one position has
    no axis pos."""
    names = {"pattern": "head pos key", **dict.fromkeys("qkvz", "pos head d_head")}.get(
        site.kind, "pos d_model"
    ).split()
    return [
        name
        for name in names
        if not ((name == "head" and site.part is not None) or (name == "pos" and at is not None))
    ]


@dataclass(frozen=True, eq=False)
class Run:
    """Every prompt's filled sheet: run["a9.9@-1"], run.logits. One array [batch, ...]; a list of
    arrays where the prompts differ in length."""

    config: Config
    prompts: list[Cells]
    positions: Mapping[str, Sequence[int]]

    def __getitem__(self, address: str | Address) -> Array | list[Array]:
        return together([self._cell(parse(address), index) for index in range(len(self.prompts))])

    @property
    def logits(self) -> Array | list[Array]:
        """What the model says at every position, before the softmax: [batch, pos, vocab]."""
        return together([cells["logits"] for cells in self.prompts])

    def _cell(self, address: Address, index: int) -> Array:
        site, names, cells = address.site, axes(address.site), self.prompts[index]
        if "head" in names:
            heads = [
                cells[str(Site(site.kind, site.layer, head))] for head in range(self.config.n_head)
            ]
        x = np.stack(heads, names.index("head")) if "head" in names else self._held(site, index)
        x = x.take(
            rows(address.at, len(cells["logits"]), index, self.positions), names.index("pos")
        )
        return x if address.at is None else x.squeeze(names.index("pos"))

    def _held(self, site: Site, index: int) -> Float[Array, "pos *rest"]:
        cells = self.prompts[index]
        if site.key is None:
            return cells[str(site)]
        x = cells[f"{Site('attn', site.layer, site.part)}<"]
        return x[:, rows(site.key, len(x), index, self.positions)[0]]


def together(arrays: list[Array]) -> Array | list[Array]:
    """As one array where the shapes agree."""
    return np.stack(arrays) if len({x.shape for x in arrays}) == 1 else arrays


def axis_sizes(c: Config, batch: int, width: int) -> dict[str, int]:
    """How long each axis is that a tensor in a patch can have."""
    places = {"pos": width, "key": width}
    return {"batch": batch, **places, "head": c.n_head, "d_head": c.d_head, "d_model": c.d_model}


def run(
    weights: Weights,
    config: Config,
    tokens: Sequence[Sequence[int]],
    patch: Patch | None = None,
    runs: Mapping[str, Run] | None = None,
    positions: Mapping[str, Sequence[int]] | None = None,
    neurons: Collection[int] | None = None,
    dictionaries: Mapping[str, Dictionary] | None = None,
) -> Run:
    """The prompts, each by itself, under a patch. `runs`: for each run that the patch takes values
    from, this file's own Run of it, by its name there. `positions`: for each name of a position,
    which one it is in each prompt. `neurons`: those of each MLP whose single writes are kept, for a
    patch to read (all of GPT-2 small's would take 3 GB for a short prompt); None: all.
    `dictionaries`: by what each explains, as plain data."""
    w = {name: np.asarray(x, dtype=np.float64) for name, x in weights.items()}
    sizes = axis_sizes(config, len(tokens), max(map(len, tokens)))
    prompts: list[Cells] = []
    for index, prompt in enumerate(tokens):
        prompts.append({})
        said = changes(patch or Patch(), config, len(prompt), index, positions or {})
        own, known = prompts[-1], dictionaries or {}
        sheet = Sheet(index, len(prompt), said, runs or {}, sizes, own, neurons, known)
        forward(w, config, list(prompt), sheet)
    return Run(config, prompts, positions or {})
