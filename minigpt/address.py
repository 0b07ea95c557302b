"""One grammar and one parser for the name of everything in the model; str(parse(s)) == s.

    node    emb  pos  input (= emb + pos)   a9.9  a9.b  a9 (= its heads + b)   m3.n127  m3.b  m3
            out.b
    stream  resid5  resid5.mid  resid12     what block 5 reads, after its attention, what the final
            LayerNorm reads
    port    a8.6.q  a8.6.k  a8.6.v  m3.in  out          inside  a9.9.pattern  a9.9.z
    edge    a5.5>a8.6.v    path  a5.5>a8.6.v>a9.9.q>out
    pair    a2.6@13<1  a2.6<1               what a head takes at a query from a source (its weight
            times its value there, through W_O); at every query
    place   any of them @14  @-1  @S2       (a name is resolved by the batch of prompts)
    layer   a9.q  a9.k  a9.v  a9.z  a9.pattern          all heads at once
    latent  m3.l127  m3.l.b  m3.e           by a dictionary (minigpt.dictionary): a latent, the
                                            decoder's bias, what the dictionary leaves over
            a5.l9  a5.l.b  a5.e             likewise of an attention layer, and of a stream point
            resid6.l12  resid6.l.b  resid6.e  resid6.mid.l3
            m3.l  a5.l  resid6.l            all latents at once, to be read only

Knows the order in which a model computes. Knows nothing of tensors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from minigpt.config import Config
from minigpt.errors import AddressError
from minigpt.shown import Shown

# kind -> (role, how it is written with a part's number, how it is written without)
GRAMMAR: dict[str, tuple[str, str | None, str | None]] = {
    "input": ("node", None, "input"),
    "emb": ("node", None, "emb"),
    "pos": ("node", None, "pos"),
    "attn": ("node", "a{layer}.{part}", "a{layer}"),
    "attn.b": ("node", None, "a{layer}.b"),
    "pair": ("node", "a{layer}.{part}<{key}", None),
    "mlp": ("node", "m{layer}.n{part}", "m{layer}"),
    "mlp.b": ("node", None, "m{layer}.b"),
    "out.b": ("node", None, "out.b"),
    "resid": ("stream", None, "resid{layer}"),
    "mid": ("stream", None, "resid{layer}.mid"),
    "q": ("port", "a{layer}.{part}.q", "a{layer}.q"),
    "k": ("port", "a{layer}.{part}.k", "a{layer}.k"),
    "v": ("port", "a{layer}.{part}.v", "a{layer}.v"),
    "in": ("port", None, "m{layer}.in"),
    "out": ("port", None, "out"),
    "pattern": ("inside", "a{layer}.{part}.pattern", "a{layer}.pattern"),
    "z": ("inside", "a{layer}.{part}.z", "a{layer}.z"),
}
# What a dictionary splits, and how its parts are written behind that.
SPLIT = {"attn": "a{layer}", "mlp": "m{layer}", "resid": "resid{layer}", "mid": "resid{layer}.mid"}
for _kind, _text in SPLIT.items():
    GRAMMAR[f"{_kind}.l"] = ("node", f"{_text}.l{{part}}", None)
    GRAMMAR[f"{_kind}.l.b"] = ("node", None, f"{_text}.l.b")
    GRAMMAR[f"{_kind}.e"] = ("node", None, f"{_text}.e")
    GRAMMAR[f"{_kind}.ls"] = ("reading", None, f"{_text}.l")
LATENT = frozenset(f"{kind}.{part}" for kind in SPLIT for part in ("l", "l.b", "e", "ls"))
_WHOLE = {"emb": "input", "pos": "input", "attn.b": "attn", "mlp.b": "mlp"}
_WHOLE |= {kind: kind.partition(".")[0] for kind in LATENT if not kind.endswith(".ls")}
_STAGE = {
    "resid": 1,
    "q": 2,
    "k": 2,
    "v": 2,
    "pattern": 3,
    "z": 4,
    "attn": 5,
    "attn.b": 5,
    "pair": 5,
    "mid": 6,
    "in": 7,
    "mlp": 8,
    "mlp.b": 8,
}
_STAGE |= {kind: _STAGE[kind.partition(".")[0]] for kind in LATENT}
_LAST = 10**9
_NUMBER = r"(?:0|[1-9][0-9]{0,6})"
_AT = re.compile(rf"-[1-9][0-9]{{0,6}}|{_NUMBER}|[A-Za-z][A-Za-z0-9_]*(?:[+-][0-9]+)?")


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for kind, (_, *texts) in GRAMMAR.items():
        for text in texts:
            if text:
                yield kind, _pattern(text)


def _pattern(text: str) -> re.Pattern[str]:
    """What spells this form, its fields being numbers, a key any position."""
    form = re.escape(text).replace(r"\{", "{").replace(r"\}", "}")
    form = form.replace("{key}", f"(?P<key>{_AT.pattern})")
    return re.compile(re.sub(r"\{(\w+)\}", rf"(?P<\1>{_NUMBER})", form))


_PATTERNS = tuple(_patterns())


@dataclass(frozen=True)
class Site(Shown):
    """One node, stream point, port or inside value, without a position. No layer or part where the
    kind has none; a key, the position that a head takes from, of a pair only."""

    kind: str
    layer: int | None = None
    part: int | None = None
    key: int | str | None = None

    def __str__(self) -> str:
        _, with_part, without = GRAMMAR[self.kind]
        text = without if self.part is None else with_part
        assert text is not None
        return text.format(layer=self.layer, part=self.part, key=self.key)

    @property
    def role(self) -> str:
        """ "node", "stream", "port", "inside"; or "reading", of what can only be read.

        >>> [parse(text).site.role for text in ('m3.n7', 'resid2', 'a1.0.q', 'a1.0.z', 'resid2.l')]
        ['node', 'stream', 'port', 'inside', 'reading']
        """
        return GRAMMAR[self.kind][0]

    @property
    def is_head(self) -> bool:
        """Whether it is one head's write, not a whole layer's."""
        return self.kind == "attn" and self.part is not None

    @property
    def is_neuron(self) -> bool:
        """Whether it is one neuron's write, not a whole MLP's.

        >>> [parse(text).site.is_neuron for text in ('m3.n7', 'm3', 'm3.b', 'a1.0')]
        [True, False, False, False]
        """
        return self.kind == "mlp" and self.part is not None

    @property
    def is_latent(self) -> bool:
        """Whether it is of a dictionary's cut: a latent, the decoder's bias or the error.

        >>> [parse(text).site.is_latent for text in ('m3.l7', 'm3.l.b', 'm3.e', 'm3.b', 'm3')]
        [True, True, True, False, False]
        """
        return self.kind in LATENT

    @property
    def whole(self) -> Site:
        """What a dictionary's parts sum to, of one of them: m3.l7 -> m3, resid6.mid.e ->
        resid6.mid.

        >>> str(Site('mlp.l', 3, 7).whole), str(Site('mid.e', 6).whole)
        ('m3', 'resid6.mid')
        """
        return Site(self.kind.partition(".")[0], self.layer)

    @property
    def source(self) -> int:
        """The position that a pair takes from, where its key is a number."""
        assert isinstance(self.key, int)
        return self.key

    @property
    def depth(self) -> int:
        """Its layer; 0 where it has none."""
        return self.layer or 0

    @property
    def stage(self) -> int:
        """When it happens in a forward pass: a number that grows from embedding to output."""
        if self.kind in ("out", "out.b"):
            return _LAST + (self.kind == "out.b")
        return 0 if self.layer is None else 10 * self.layer + _STAGE[self.kind]

    @property
    def writer(self) -> Site:
        """The node that turns what this port reads into a write: a8.6.v -> a8.6, m3.in -> m3.

        >>> str(Site('v', 8, 6).writer), str(Site('in', 3).writer)
        ('a8.6', 'm3')
        """
        return Site("mlp" if self.kind == "in" else "attn", self.layer, self.part)

    def contains(self, other: Site) -> bool:
        """Whether this is a whole and other a part of it, of either cut: a9 and a9.9, m3 and
        m3.n127 or m3.l7, a9.9 and a9.9<1.

        >>> layer, head = Site('attn', 9), Site('attn', 9, 9)
        >>> layer.contains(head), head.contains(layer)
        (True, False)
        """
        if other.kind == "pair":
            return self in (Site("attn", other.layer), Site("attn", other.layer, other.part))
        if self.part is not None or self.layer != other.layer:
            return False
        numbered = self.kind == other.kind and other.part is not None
        return numbered or _WHOLE.get(other.kind) == self.kind


@dataclass(frozen=True)
class Address(Shown):
    """A site, or a chain of them (an edge, a path), at one position or (None) at all."""

    sites: tuple[Site, ...]
    at: int | str | None = None

    def __str__(self) -> str:
        name, sign, key = ">".join(map(str, self.sites)).partition("<")
        return name + ("" if self.at is None else f"@{self.at}") + sign + key

    @property
    def site(self) -> Site:
        """The one site of an address that is no path."""
        if len(self.sites) > 1:
            raise AddressError(
                f"'{self}' is a path",
                "a single node, stream point, port or inside value here",
                " or ".join(f"'{s}'" for s in self.sites),
            )
        return self.sites[0]


def parse(text: str | Address, config: Config | None = None) -> Address:
    """The address that a text spells. With a config, also that this model has it.

    Raises AddressError with what was given, what is legal and what was probably meant.

    >>> parse('a2.6@13<1')
    Address(sites=(Site(kind='pair', layer=2, part=6, key=1),), at=13)
    >>> parse('a5.5>a8.6.v@-1').at, [str(site) for site in parse('a5.5>a8.6.v@-1').sites]
    (-1, ['a5.5', 'a8.6.v'])
    """
    if not isinstance(text, (str, Address)):
        raise AddressError(
            f"an address of type {type(text).__name__}: {text!r}", "a text such as 'a9.9@-1'"
        )
    address = _parse(str(text))
    if config is not None:
        for site in address.sites:
            _check_range(site, config)
    return address


@lru_cache(maxsize=65536)
def _parse(text: str) -> Address:
    chain, sign, place = text.partition("@")
    at, less, key = place.partition("<")
    if "<" in chain + key and sign:
        raise _no_pair(text)
    sites = tuple(_site(part, text) for part in f"{chain}{less}{key}".split(">"))
    _check_order(sites, text)
    address = Address(sites, _position(at, text) if sign else None)
    if later(address):
        raise _no_pair(text)
    return address


def later(pair: Address) -> bool:
    """Whether its key comes after its query, as far as the numbers tell without a prompt."""
    at, key = pair.at, pair.sites[0].key
    if not (isinstance(at, int) and isinstance(key, int)):
        return False
    return (at < 0) == (key < 0) and key > at


def _no_pair(text: str) -> AddressError:
    head = re.match(rf"a{_NUMBER}\.{_NUMBER}(?=[.@<])", text)
    return AddressError(
        f"'{text}' is no pair",
        "a head, and a key no later than its query, as in a2.6@13<1; or at every query, a2.6<1",
        f"'{head[0] if head else 'a2.6'}@-1<0'",
    )


def _site(text: str, whole: str) -> Site:
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            fields = match.groupdict()
            key = fields.pop("key", None)
            numbers = {name: int(number) for name, number in fields.items()}
            return Site(kind, **numbers, key=None if key is None else _number_or_name(key))
    if "<" in text:
        raise _no_pair(whole)
    raise AddressError(
        f"'{whole}' is no address" + (f": '{text}' names nothing" if text != whole else ""),
        "a9.9 a9.b a9 m3.n127 m3.b m3 emb pos input out.b | resid5 resid5.mid | a8.6.q .k .v "
        "m3.in out | a9.9.pattern .z | m3.l127 m3.l.b m3.e, "
        "an edge such as a5.5>a8.6.v, each with or without @position",
        _meant(text),
    )


def _position(text: str, whole: str) -> int | str:
    if not _AT.fullmatch(text):
        raise AddressError(
            f"'{whole}': '{text}' is no position",
            "a number from 0 up, one from -1 down (counted from "
            "the end), or a name such as S2, END, S1+1",
            f"'{whole.partition('@')[0]}@-1'",
        )
    return _number_or_name(text)


def _number_or_name(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _check_order(sites: tuple[Site, ...], text: str) -> None:
    if len(sites) == 1:
        return
    first, *ports = sites
    if first.role != "node" or first.kind == "pair" or any(port.role != "port" for port in ports):
        raise AddressError(
            f"'{text}' is no edge",
            "a node (no pair), then one port or more: writer>reader, as in a5.5>a8.6.v>out",
        )
    for a, b in pairwise(sites):
        _check_step(a, b, text)


def _check_step(a: Site, b: Site, text: str) -> None:
    if a.kind == "out":
        raise AddressError(
            f"'{text}' goes on after out, where the stream ends", "out as the last of a path"
        )
    writer = a if a.role == "node" else a.writer
    if writer.stage > b.stage:
        raise AddressError(
            f"'{text}' runs backwards: {writer} writes after {b} has read",
            "edges from an earlier writer to a later reader",
        )


def _check_range(site: Site, config: Config) -> None:
    layers = config.n_layer + (site.kind.partition(".")[0] == "resid")
    if site.layer is not None and site.layer >= layers:
        raise AddressError(
            f"'{site}': layer {site.layer} of {config.n_layer}",
            f"layers 0 to {layers - 1}",
            f"'{replace(site, layer=layers - 1)}'",
        )
    parts, word = (config.d_mlp, "neuron") if site.kind == "mlp" else (config.n_head, "head")
    if site.part is not None and site.part >= parts and not site.is_latent:
        raise AddressError(
            f"'{site}': {word} {site.part} of {parts}",
            f"{word}s 0 to {parts - 1}",
            f"'{replace(site, part=parts - 1)}'",
        )


def _meant(text: str) -> str:
    """A guess at what was meant: the same numbers in the nearest legal form."""
    numbers = [n.lstrip("0")[:7] or "0" for n in re.findall(r"[0-9]+", text)]
    layer, part = [*numbers, "0", "0"][:2]
    forms = [
        form.format(layer=layer, part=part)
        for _, *forms in GRAMMAR.values()
        for form in forms
        if form and form.count("{") == min(len(numbers), 2)
    ]
    near = difflib.get_close_matches(text.lower(), forms, n=3, cutoff=0.3)
    return " or ".join(f"'{form}'" for form in near)


def nodes(config: Config, *, neurons: bool = False) -> Iterator[Site]:
    """Every node of a model in the order of writing; together they sum to the logits. Neurons one
    by one if asked.

    >>> [str(site) for site in nodes(Config(1, 2, 8, 32, 16, 50))]
    ['emb', 'pos', 'a0.0', 'a0.1', 'a0.b', 'm0', 'out.b']
    """
    yield Site("emb")
    yield Site("pos")
    for layer in range(config.n_layer):
        yield from heads(config, layer)
        yield Site("attn.b", layer)
        if neurons:
            yield from (Site("mlp", layer, n) for n in range(config.d_mlp))
            yield Site("mlp.b", layer)
        else:
            yield Site("mlp", layer)
    yield Site("out.b")


def edges(config: Config) -> Iterator[str]:
    """Every edge between layers' parts, by receiver: from input, heads and MLPs to heads' q, k, v,
    MLPs and the output.

    The graph of EAP-IG and MIB: 32,491 edges for GPT-2 small.
    """
    writers = ["input"]
    for layer in range(config.n_layer):
        own = list(map(str, heads(config, layer)))
        ports = [f"{head}.{port}" for head in own for port in "qkv"]
        yield from (f"{writer}>{port}" for port in ports for writer in writers)
        writers += own
        yield from (f"{writer}>m{layer}.in" for writer in writers)
        writers.append(f"m{layer}")
    yield from (f"{writer}>out" for writer in writers)


def heads(config: Config, layer: int | None = None) -> Iterator[Site]:
    """The heads of one layer, or of all."""
    for own in range(config.n_layer) if layer is None else (layer,):
        yield from (Site("attn", own, head) for head in range(config.n_head))


def streams(config: Config) -> Iterator[Site]:
    """Every stream point in order: resid0, resid0.mid, ... up to what the final LayerNorm reads."""
    for layer in range(config.n_layer):
        yield Site("resid", layer)
        yield Site("mid", layer)
    yield Site("resid", config.n_layer)
