"""Random patches of every kind, and the reference's answer to them: what the fast engine is
compared with.

case = patches(model.config, 6, 3, {"clean": clean, "corrupt": corrupt})     # a hypothesis strategy
of Patch assert_agrees(model.rerun(trace, patch), reference_of(model, trace, patch))
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain, count, product, zip_longest

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.vendor.pretty import for_type_by_name

from minigpt import GPT2, Address, Config, Site, Trace, parse, reference
from minigpt.address import heads, nodes, streams
from minigpt.batch import Batch
from minigpt.errors import PatchError
from minigpt.params import tensors
from minigpt.patch import Patch
from minigpt.patch.edit import ZERO, Edit, Hold, Source

# In an example that hypothesis prints, a patch is its text and not all the numbers of its runs.
for printed in (Patch, Trace):
    for_type_by_name(
        printed.__module__,
        printed.__name__,
        lambda value, printer, cycle: printer.text(repr(value)),
    )

MOST_NEURONS = 32


@lru_cache
def senders(config: Config) -> list[Site]:
    """Everything that writes to the stream, whole and part, simple first; of many neurons, some
    evenly spread."""
    wholes = [Site(kind, layer) for kind in ("attn", "mlp") for layer in range(config.n_layer)]
    step = -(-config.d_mlp // MOST_NEURONS)
    parts = [
        site
        for site in nodes(config, neurons=True)
        if site.kind not in ("attn", "out.b") and (site.part or 0) % step == 0
    ]
    return [*heads(config), *wholes, Site("input"), *parts]


def ports(config: Config, *, layers: bool = True) -> list[Site]:
    """Everything that reads the stream; with `layers` also a1.q, which is all of a layer's at
    once."""
    found = [Site("out")]
    for layer in range(config.n_layer):
        found += [Site(kind, layer, head) for kind in "vqk" for head in range(config.n_head)] + [
            Site("in", layer)
        ]
        found += [Site(kind, layer) for kind in "vqk"] * layers
    return found


def insides(config: Config) -> list[Site]:
    """Every z and pattern, of one head and of a layer."""
    return [
        Site(kind, layer, head)
        for layer, kind, head in product(
            range(config.n_layer), ("z", "pattern"), (*range(config.n_head), None)
        )
    ]


def pairs(config: Config, *keys: int) -> list[Site]:
    """What each head takes from these positions."""
    every = heads(config)
    return [Site("pair", head.layer, head.part, key) for head, key in product(every, keys)]


def edges(config: Config, sender: Site) -> list[Address]:
    """Every edge out of a sender to single ports."""
    return [
        Address((sender, port))
        for port in ports(config, layers=False)
        if sender.stage <= port.stage
    ]


def addresses(config: Config) -> Iterator[Site]:
    """All that can be read off a run."""
    yield from senders(config)
    yield from (Site("out.b"), *streams(config), *ports(config), *insides(config))
    yield from pairs(config, 0)


@lru_cache
def targets(config: Config) -> dict[str, list[Address]]:
    """All that can be patched, by the kind of edit."""
    written = [*senders(config), *insides(config), *streams(config), Site("out.b")]
    written += pairs(config, 0)
    return {
        "write": [Address((site,)) for site in written],
        "read": [
            Address((m, p)) for m in senders(config) for p in ports(config) if m.stage <= p.stage
        ],
        "input": [Address((site,)) for site in ports(config)],
    }


@lru_cache
def sorts(config: Config, kind: str) -> list[list[Address]]:
    """The targets of one kind of edit, like with like: all heads, all MLPs, all edges from a head
    to a value port."""
    found: dict[object, list[Address]] = {}
    for address in targets(config)[kind]:
        found.setdefault(
            tuple((site.kind, site.part is None) for site in address.sites), []
        ).append(address)
    return list(found.values())


@st.composite
def patches(
    draw: st.DrawFn,
    config: Config,
    length: int | Sequence[int],
    batch: int,
    runs: Mapping[str, Trace],
    *,
    positions: Mapping[str, Sequence[int]] | None = None,
    most: int = 4,
) -> Patch:
    """Up to `most` edits and holds for a batch of prompts of this length (or these lengths), from
    runs of prompts like them. Often two of them are of a whole and its part.

    Shrinks towards fewer edits, earlier heads, no position, zero. What conflicts with edits drawn
    before it is left out.
    """
    lengths = [length] * batch if isinstance(length, int) else list(length)
    names = positions or {}
    with unrandom():
        patch, left = Patch(), draw(st.integers(1, most))
        while left > 0:
            kind = draw(
                st.sampled_from(["write", "read", "input", "hold", *["kin"] * 2 * (left > 1)])
            )
            more = draw(lines(config, kind, lengths, runs, names))
            with suppress(PatchError):
                joined = patch | more
                refuse_meetings(joined, lengths, names)
                patch = joined
            left -= 2 if kind == "kin" else 1
        return patch


def lines(
    config: Config,
    kind: str,
    lengths: Sequence[int],
    runs: Mapping[str, Trace],
    positions: Mapping[str, Sequence[int]],
) -> st.SearchStrategy[Patch]:
    """One edit or hold of this kind; for "kin" two that meet at a whole and its part."""
    if kind == "hold":
        return holds(config, runs, lengths, positions)
    if kind == "kin":
        drawn = st.sampled_from(MEETINGS)
        return drawn.flatmap(lambda way: meetings(config, way, lengths, runs, positions))
    return edits(config, kind, lengths, runs, positions)


@contextmanager
def unrandom() -> Iterator[None]:
    """beartype draws at random which element of a list it checks, and hypothesis would mind."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@st.composite
def edits(
    draw: st.DrawFn,
    config: Config,
    kind: str,
    lengths: Sequence[int],
    runs: Mapping[str, Trace],
    positions: Mapping[str, Sequence[int]],
) -> Patch:
    """One edit of this kind. Sites of one sort are as likely as those of another, however many
    there are of each."""
    address = draw(st.sampled_from(draw(st.sampled_from(sorts(config, kind)))))
    address = replace(address, at=draw(places(lengths, positions)))
    if address.sites[0].kind == "pair":
        address = with_key(address, draw(places(lengths, positions)) or 0, lengths, positions)
    return Patch((draw(an_edit(config, address, runs, lengths, positions)),))


def with_key(
    pair: Address,
    key: int | str,
    lengths: Sequence[int],
    positions: Mapping[str, Sequence[int]],
) -> Address:
    """A pair from this source, unless that is later than its query in some prompt."""
    after = pair.at is not None and any(
        position(key, n, positions, index) > position(pair.at, n, positions, index)
        for index, n in enumerate(lengths)
    )
    return pair if after else replace(pair, sites=(replace(pair.site, key=key),))


@st.composite
def an_edit(
    draw: st.DrawFn,
    config: Config,
    address: Address,
    runs: Mapping[str, Trace],
    lengths: Sequence[int],
    positions: Mapping[str, Sequence[int]],
) -> Edit:
    """An edit of this address: a value put there, added or multiplied."""
    how = draw(st.sampled_from(["=", "=", "=", "+=", "*="]))
    numbers = st.sampled_from([Source.of(x) for x in (0.5, -1.5, 2.0)])
    if how == "*=":
        return Edit(address, draw(numbers), how)
    known = sources(runs, lengths).filter(lambda source: _has(source, address))
    values = known | tensors_for(config, address, lengths, positions) | numbers
    return Edit(address, draw(values), how)


def _has(source: Source, address: Address) -> bool:
    """Whether a mean can be taken at a position: its run's prompts have one of that name."""
    names = {at for at in (address.at, address.sites[0].key) if isinstance(at, str)}
    meant = source.mean and source.run is not None
    return not meant or names <= source.run.batch.positions.keys()


def places(
    lengths: Sequence[int], positions: Mapping[str, Sequence[int]]
) -> st.SearchStrategy[int | str | None]:
    """All positions, or one that every prompt has, from the start, from the end or by name."""
    least = min(lengths)
    return st.sampled_from([None, None, None, -1, *range(least), *range(-least, -1), *positions])


# How a line of a patch that is of a whole and one that is of its part can meet: at what both write,
# hold or read from, or at the port that sees it. (The whole's line, the part's, the whole's kind.)
MEETINGS = [
    *product(("write", "read", "hold"), ("write", "read", "hold"), ("attn", "mlp", "input")),
    *product(("input", "read"), ("input", "read"), "qkv"),
]


@lru_cache
def kin(config: Config, kind: str, *, paired: bool) -> list[tuple[Site, Site]]:
    """The wholes of this kind, nodes or ports, each with each of its parts, pairs too if asked."""
    sites = [*senders(config), *ports(config), *pairs(config, 0) * paired]
    return [(a, b) for a, b in product(sites, sites) if a.kind == kind and a.contains(b)]


@lru_cache
def named(config: Config, kind: str, site: Site) -> list[Address]:
    """All that a line of this kind can name to be of this node or port: the node, its z or its
    pattern, its edges."""
    if kind == "read":
        return [address for address in targets(config)["read"] if site in address.sites]
    inside = [Site(kind, site.layer, site.part) for kind in ("z", "pattern")]
    own = inside if kind == "write" and site.kind == "attn" else []
    return [Address((each,)) for each in (site, *own)]


@st.composite
def meetings(
    draw: st.DrawFn,
    config: Config,
    meeting: tuple[str, str, str],
    lengths: Sequence[int],
    runs: Mapping[str, Trace],
    positions: Mapping[str, Sequence[int]],
) -> Patch:
    """Two lines that meet like this, at two positions where they exclude each other at one."""
    with unrandom():
        return _met(draw, config, meeting, lengths, runs, positions)


def _met(
    draw: st.DrawFn,
    config: Config,
    meeting: tuple[str, str, str],
    lengths: Sequence[int],
    runs: Mapping[str, Trace],
    positions: Mapping[str, Sequence[int]],
) -> Patch:
    *kinds, of = meeting
    sites = draw(st.sampled_from(kin(config, of, paired=kinds[1] in ("write", "hold"))))
    two = [
        (kind, draw(st.sampled_from(named(config, kind, site))))
        for kind, site in zip(kinds, sites, strict=True)
    ]
    apart = draw(st.permutations(range(min(lengths)))) if excluded(two) else []
    patch = Patch()
    for (kind, address), at in zip_longest(two, apart[:2]):
        if kind == "hold":
            given = patch.holds[0].source if patch.holds else draw(sources(runs, lengths))
            patch |= Patch(holds=(Hold(str(address), given),))
        else:
            here = draw(places(lengths, positions)) if at is None else at
            address = replace(address, at=here)
            with suppress(PatchError):
                patch |= Patch((draw(an_edit(config, address, runs, lengths, positions)),))
    return patch


def excluded(two: Sequence[tuple[str, Address]]) -> bool:
    """Whether these edits cannot be at one position."""
    try:
        Patch(tuple(Edit(address, ZERO) for kind, address in two if kind != "hold"))
    except PatchError:
        return True
    return False


@st.composite
def holds(
    draw: st.DrawFn,
    config: Config,
    runs: Mapping[str, Trace],
    lengths: Sequence[int],
    positions: Mapping[str, Sequence[int]],
) -> Patch:
    """A set, or some nodes; of a set, some nodes free, everywhere or at a position."""
    some = st.lists(
        st.sampled_from([*senders(config), *pairs(config, 0)]).map(str),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(" ".join)
    kept = draw(st.sampled_from(["heads", "mlps", "heads mlps"]) | some)
    inside = [
        site
        for site in (*senders(config), *pairs(config, 0))
        if str(site) in kept.split()
        or (site.kind == "attn" and site.part is not None and "heads" in kept)
        or (site.kind == "mlp" and site.part is None and "mlps" in kept)
    ]
    ats = st.sampled_from([None, -1, *range(min(lengths)), *positions])
    free = draw(st.lists(st.tuples(st.sampled_from(inside), ats), max_size=3))
    but = " ".join(str(Address((site,), at)) for site, at in free)
    return Patch(holds=(Hold(kept, draw(sources(runs, lengths)), but),))


def sources(runs: Mapping[str, Trace], lengths: Sequence[int]) -> st.SearchStrategy[Source]:
    """Zero, a run, or a run's mean, over all prompts where they are of one length, or by a grouping
    of prompts of one length."""
    found = [ZERO, *(Source(name, run=run) for name, run in runs.items())]
    for name, run in runs.items():
        found += [Source(name, run=run, mean=True)] * (len(set(lengths)) == 1)
        found += [
            Source(name, run=run, mean=True, by=by, by_name=grouping)
            for grouping, by in groups(tuple(lengths)).items()
        ]
    return st.sampled_from(found)


@lru_cache
def groups(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Prompts each in a group of its own, those of a length in one, and (where all are of one) in
    two groups alternately."""
    n = len(lengths)
    found = {"byone": torch.arange(n), "bylength": torch.tensor(lengths)}
    return {**found, "bytwo": torch.arange(n) % 2} if len(set(lengths)) == 1 else found


@st.composite
def tensors_for(
    draw: st.DrawFn,
    config: Config,
    address: Address,
    lengths: Sequence[int],
    positions: Mapping[str, Sequence[int]],
) -> Source:
    """A random tensor of the address's own shape, or one that broadcasts to it. Patterns give later
    keys no weight."""
    site = address.sites[0]
    inside = site.kind if site.role == "inside" and len(address.sites) == 1 else "stream"
    names = {
        "z": ["pos", "head", "d_head"],
        "pattern": ["head", "pos", "key"],
        "stream": ["pos", "d_model"],
    }[inside]
    names = [
        name
        for name in names
        if not (
            (name == "head" and site.part is not None) or (name == "pos" and address.at is not None)
        )
    ]
    sizes = {
        "pos": max(lengths),
        "key": max(lengths),
        "head": config.n_head,
        "d_head": config.d_head,
        "d_model": config.d_model,
    }
    shape = [len(lengths), *(sizes[name] for name in names)]
    if inside != "pattern":
        shape = shape[draw(st.integers(0, len(shape) - 1)) :]
    rows: tuple[int, ...] = ()
    if inside == "pattern" and address.at is not None:
        rows = tuple(position(address.at, n, positions, index) for index, n in enumerate(lengths))
    return random_tensor(draw(st.integers(0, 9)), tuple(shape), inside == "pattern", rows)


@lru_cache(maxsize=4096)
def random_tensor(seed: int, shape: tuple[int, ...], causal: bool, rows: tuple[int, ...]) -> Source:
    """Numbers of this shape, the same ones under the same name; causal: no weight on keys behind
    their row [..., pos, key], or behind each prompt's one row [batch, ..., key]."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if causal:
        here = (
            torch.tensor(rows).view(-1, *[1] * (len(shape) - 1))
            if rows
            else torch.arange(shape[-1])[:, None]
        )
        x = x.abs() * (torch.arange(shape[-1]) <= here)
    return Source("-".join(["x".join(map(str, ("t", seed, *shape))), *map(str, rows)]), value=x)


def refuse_meetings(
    patch: Patch, lengths: Sequence[int], positions: Mapping[str, Sequence[int]]
) -> None:
    """PatchError where two edits meet in some prompt, once its positions are numbers."""
    ats = {edit.target.at for edit in patch.edits} - {None}
    ats |= {edit.target.sites[0].key for edit in patch.edits} - {None}
    places = {
        tuple((at, position(at, length, positions, index)) for at in ats)
        for index, length in enumerate(lengths)
    }
    for place in (dict(place) for place in places):
        if len(set(place.values())) < len(ats):
            met = Patch(
                tuple(replace(e, target=placed(e.target, place)) for e in patch.edits), patch.holds
            )
            if len(met.edits) < len(patch.edits):
                raise PatchError("one edit twice")


def placed(address: Address, place: Mapping[int | str, int]) -> Address:
    """An address whose positions are the numbers that they mean."""
    keyed = (s if s.key is None else replace(s, key=place[s.key]) for s in address.sites)
    return Address(tuple(keyed), place.get(address.at))


def position(at: int | str, length: int, positions: Mapping[str, Sequence[int]], index: int) -> int:
    """The position of one prompt that a number or a name means."""
    return range(length)[positions[at][index] if isinstance(at, str) else at]


def rows_of(batch: Batch) -> list[list[int]]:
    """Each prompt's own tokens."""
    return [row[:n] for row, n in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)]


def places_of(batch: Batch) -> dict[str, list[int]]:
    """The positions that have names, of each prompt."""
    return {name: x.tolist() for name, x in batch.positions.items()}


def reference_of(
    model: GPT2, trace: Trace, patch: Patch | None = None, runs: Mapping[str, object] | None = None
) -> reference.Run:
    """The reference's run of a trace's prompts under a patch. The runs that the patch takes values
    from are run again by themselves, as unpatched; `runs` says otherwise for some names: a
    reference Run, or tokens."""
    patch, named = with_own_names(patch or Patch())
    given = {name: rows_of(run.batch) for name, run in named.items()} | dict(runs or {})
    found = {
        name: x if isinstance(x, reference.Run) else _unpatched(model, tuple(map(tuple, x)))
        for name, x in given.items()
    }
    found = {
        name: replace(run, positions=places_of(named[name].batch)) if name in named else run
        for name, run in found.items()
    }
    positions = places_of(trace.batch)
    return reference.run(
        _weights(model),
        model.config,
        rows_of(trace.batch),
        patch,
        found,
        positions,
        dictionaries=model.params.dictionaries,
    )


def with_own_names(patch: Patch) -> tuple[Patch, dict[str, Trace]]:
    """The same patch, no two of its runs under one name, and the runs by their names."""
    named: dict[str, Trace] = {}

    def renamed(source: Source) -> Source:
        if source.run is None:
            return source
        names = chain([source.name], (f"{source.name}.{n}" for n in count(2)))
        name = next(name for name in names if named.setdefault(name, source.run) is source.run)
        return replace(source, name=name)

    return Patch(
        tuple(replace(e, source=renamed(e.source)) for e in patch.edits),
        tuple(replace(h, source=renamed(h.source)) for h in patch.holds),
    ), named


@lru_cache(maxsize=64)
def _weights(model: GPT2) -> dict[str, np.ndarray]:
    return {name: x.double().numpy() for name, x in tensors(model.params).items()}


@lru_cache(maxsize=64)
def _unpatched(model: GPT2, tokens: tuple[tuple[int, ...], ...]) -> reference.Run:
    known = model.params.dictionaries
    return reference.run(_weights(model), model.config, tokens, dictionaries=known)


def disagreements(
    trace: Trace,
    run: reference.Run,
    *,
    among: Sequence[str | Site] | None = None,
    within: float = 1e-10,
) -> list[str]:
    """Where a trace and a reference run differ by more than `within` (relative to the larger of 1
    and the largest value).

    Compares logits and every address, or only those asked for; not what the reference calls unknown
    (NaN), nor what lies behind a prompt's end.
    """
    found = []
    for name in (
        ("logits", *map(str, addresses(trace.config))) if among is None else map(str, among)
    ):
        theirs, mine = (trace.logits, run.logits) if name == "logits" else (trace[name], run[name])
        at = None if name == "logits" else parse(name).at
        for index, (x, y) in enumerate(zip(theirs.double().cpu().numpy(), mine, strict=True)):
            x = x[tuple(slice(n) for n in y.shape)] if at is None or ".pattern" in name else x
            known = ~np.isnan(y)
            off = np.abs(x - y)[known].max(initial=0.0) / max(
                1.0, np.abs(y[known]).max(initial=0.0)
            )
            if x.shape != y.shape or not off <= within:
                found.append(f"{name} of prompt {index}: {off:.3g} apart")
    return found


def assert_agrees(trace: Trace, run: reference.Run, **how: object) -> None:
    """Fails with the places where a trace is not what the reference says."""
    wrong = disagreements(trace, run, **how)
    assert not wrong, f"{len(wrong)} places differ, first: {'; '.join(wrong[:5])}"
