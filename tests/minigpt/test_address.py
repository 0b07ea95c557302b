"""The grammar of addresses: what is legal comes back as it was, what is not is refused in words."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigpt import SIZES, Address, Config, Site
from minigpt.address import GRAMMAR, heads, nodes, parse, streams
from minigpt.errors import AddressError
from tests.conftest import unchecked

GPT2 = SIZES["gpt2"]

layer, head, neuron = st.integers(0, 11), st.integers(0, 11), st.integers(0, 3071)
places = st.one_of(
    st.just(""),
    st.integers(-1024, 1023).map("@{}".format),
    st.sampled_from(["@S1", "@S2", "@IO", "@END", "@S1+1", "@a_b-2"]),
)


def spelled(template: str) -> st.SearchStrategy[str]:
    """Every text of a template such as a{L}.{H}.q for GPT-2 small; written out here, not read off
    the parser's own table."""
    return st.builds(lambda L, H, N: template.format(L=L, H=H, N=N), layer, head, neuron)


keys = st.one_of(
    st.integers(-1024, 1023).map(str), st.sampled_from(["S1", "S2", "END", "S1+1", "a_b-2"])
)


@st.composite
def pairs(draw: st.DrawFn) -> str:
    """What a head takes at a query, or at every one, from a source no later."""
    at, key = draw(places), draw(keys)
    numbers = re.fullmatch("@(-?)[0-9]+", at), re.fullmatch("(-?)[0-9]+", key)
    if all(numbers) and numbers[0][1] == numbers[1][1]:
        key, at = sorted((at[1:], key), key=int)
        at = f"@{at}"
    return f"{draw(spelled('a{L}.{H}'))}{at}<{key}"


SINGLE = """
    emb pos input out out.b a{L} a{L}.b a{L}.{H} m{L} m{L}.b m{L}.n{N} resid{L} resid{L}.mid resid12
    m{L}.in a{L}.q a{L}.k a{L}.v a{L}.z a{L}.pattern
    a{L}.{H}.q a{L}.{H}.k a{L}.{H}.v a{L}.{H}.z a{L}.{H}.pattern
""".split()
singles = st.sampled_from(SINGLE).flatmap(spelled)


@st.composite
def paths(draw: st.DrawFn) -> str:
    """A writer and one reader or more, each later than the last: attention of layer l acts at time
    2l, its MLP at 2l + 1."""
    start, *times = draw(
        st.lists(st.integers(-1, 23), min_size=1, max_size=5, unique=True).map(sorted)
    )
    ends = draw(st.sampled_from([[], [">out"]])) if times else [">out"]

    def one(time: int, attention: list[str], mlp: list[str]) -> str:
        options = ["emb", "pos", "input"] if time < 0 else mlp if time % 2 else attention
        return draw(st.sampled_from(options)).format(L=time // 2, H=draw(head), N=draw(neuron))

    writer = one(start, ["a{L}", "a{L}.b", "a{L}.{H}"], ["m{L}", "m{L}.b", "m{L}.n{N}"])
    readers = [
        ">"
        + one(
            time,
            ["a{L}.{H}.q", "a{L}.{H}.k", "a{L}.{H}.v", "a{L}.q", "a{L}.k", "a{L}.v"],
            ["m{L}.in"],
        )
        for time in times
    ]
    return "".join([writer, *readers, *ends])


legal = st.one_of(pairs(), st.builds("{}{}".format, st.one_of(singles, paths()), places))


@given(legal)
def test_a_legal_address_is_read_and_written_back_letter_for_letter(text: str) -> None:
    assert str(parse(text)) == text
    assert parse(text, GPT2) == parse(text) == parse(parse(text))
    assert hash(parse(text)) == hash(parse(str(parse(text))))


@given(legal, legal)
def test_two_texts_are_two_addresses(one: str, other: str) -> None:
    assert (parse(one) == parse(other)) == (one == other)


def test_no_two_sites_of_a_model_print_the_same() -> None:
    sites = [
        Site(kind, layer, part, 0 if kind == "pair" else None)
        for kind, (_, with_part, without) in GRAMMAR.items()
        for form, parts in ((with_part, range(3)), (without, [None]))
        if form
        for part in parts
        for layer in (range(3) if "{layer}" in form else [None])
    ]
    texts = [str(site) for site in sites]
    assert len(set(texts)) == len(texts) == 3 * (3 * 8 + 12) + 5 + 4 * 3 * (3 + 3)
    assert [parse(text).site for text in texts] == sites


noise = st.text(alphabet="a9m3.nqkvzb><@-+0 resid\n٣\uff10²_S", max_size=12)


@given(
    st.one_of(
        st.text(),
        noise,
        st.builds(lambda a, b, at: a[:at] + b + a[at:], legal, noise, st.integers(0, 12)),
    )
)
@example("a9.٣")
@example("a9.9@٣")
@example("a9.9\n")
@example("a9.9@")
def test_whatever_is_read_at_all_is_read_as_it_is_written(text: str) -> None:
    """So the parser is nowhere looser than the grammar: what it would repair, it refuses."""
    with contextlib.suppress(AddressError):
        assert str(parse(text)) == text


ILLEGAL = {
    "": "no address",
    "a09.9": "no address",
    "a9.09": "no address",
    "resid05": "no address",
    " a9.9": "no address",
    "a9.9 ": "no address",
    "a9. 9": "no address",
    "A9.9": "no address",
    "a9.h9": "no address",
    "a-1.0": "no address",
    "a9.9.w": "no address",
    "a9.b.q": "no address",
    "m3.127": "no address",
    "m3.n": "no address",
    "emb.b": "no address",
    "resid5.pre": "no address",
    "blocks.9.attn.hook_z": "no address",
    "a9.9,a9.6": "no address",
    "a9.9>": "'' names nothing",
    ">out": "'' names nothing",
    "a9.9>a11.q.3": "'a11.q.3' names nothing",
    "a9.9@": "'' is no position",
    "a9.9@+3": "'+3' is no position",
    "a9.9@-0": "'-0' is no position",
    "a9.9@03": "'03' is no position",
    "a9.9@1.5": "'1.5' is no position",
    "a9.9@ 3": "' 3' is no position",
    "a9.9@1@2": "'1@2' is no position",
    "a9.9@1>out": "'1>out' is no position",
    "a9.9@S+": "'S+' is no position",
    "a12.0": "layer 12 of 12",
    "a12": "layer 12 of 12",
    "m12.in": "layer 12 of 12",
    "resid13": "layer 13 of 12",
    "resid12.mid": "layer 12 of 12",
    "a0.12": "head 12 of 12",
    "a0.12.pattern": "head 12 of 12",
    "m0.n3072": "neuron 3072 of 3072",
    "a9.9>a11.12.q": "head 12 of 12",
    "a9.9>a8.6.v": "runs backwards",
    "a9.9>a9.8.q": "runs backwards",
    "a9.9>a9.9.q": "runs backwards",
    "a9.b>a9.9.q": "runs backwards",
    "m3>m3.in": "runs backwards",
    "m3.n7>a3.0.q": "runs backwards",
    "out.b>out": "runs backwards",
    "emb>a9.9.q>a9.8.q": "runs backwards",
    "emb>m9.in>a9.8.q": "runs backwards",
    "a5.5>a8.6": "is no edge",
    "a9.9@3<4": "is no pair",
    "a9.9@-2<-1": "is no pair",
    "a9.9<3@4": "is no pair",
    "a9.9@4<": "is no pair",
    "a9.9@4<03": "is no pair",
    "a9.9@4<3<2": "is no pair",
    "a9@4<3": "is no pair",
    "m3.n7@4<3": "is no pair",
    "a9.9.q@4<3": "is no pair",
    "a9.9@<3": "is no position",
    "a9.9@4<3>out": "is no edge",
    "a9.9@4<3>a10.0.q@4": "names nothing",
    "a9.12@4<3": "head 12 of 12",
    "a5.5>m8": "is no edge",
    "a5.5>resid8": "is no edge",
    "a5.5>a8.6.z": "is no edge",
    "a5.5.q>a8.6.q": "is no edge",
    "out>out": "is no edge",
    "resid5>out": "is no edge",
    "a5.5.z>out": "is no edge",
    "a5.5>out>a8.6.q": "goes on after out",
    "emb>out>out": "goes on after out",
    "a" + "9" * 5000: "no address",
    "a9.9@" + "9" * 5000: "is no position",
}


@pytest.mark.parametrize(("text", "why"), ILLEGAL.items(), ids=lambda value: repr(value)[:40])
def test_an_illegal_address_is_refused_with_what_was_given_and_what_is_legal(
    text: str, why: str
) -> None:
    with pytest.raises(AddressError) as raised:
        parse(text, GPT2)
    message = str(raised.value)
    given = (
        next(part for part in re.split("[>@]", text) if part in message)
        if "of 12" in why or "3072" in why
        else text
    )
    assert given in message
    assert why in message
    assert "\n  legal: " in message


@pytest.mark.parametrize("text", ILLEGAL)
def test_what_an_error_says_to_try_is_legal(text: str) -> None:
    with pytest.raises(AddressError) as raised:
        parse(text, GPT2)
    for tried in re.findall("'([^']+)'", str(raised.value).partition("\n  try: ")[2]):
        parse(tried)


@pytest.mark.parametrize(
    ("text", "wanted"),
    {
        "A9.9": "'a9.9'",
        "L9H9": "'a9.9'",
        "a09.9": "'a9.9'",
        "mlp3": "'m3'",
        "a12.3": "'a11.3'",
        "m0.n9999": "'m0.n3071'",
        "resid13": "'resid12'",
        "a9.9@+1": "'a9.9@-1'",
        "residual5": "'resid5'",
    }.items(),
)
def test_a_near_miss_is_told_what_was_probably_meant(text: str, wanted: str) -> None:
    with pytest.raises(AddressError, match=re.escape(wanted)):
        parse(text, GPT2)


@pytest.mark.parametrize(
    "thing", [None, 9.9, 9, b"a9.9", ("a", 9, 9), ["a9.9"], Site("attn", 9, 9)], ids=repr
)
def test_what_is_no_text_is_refused(thing: object) -> None:
    with pytest.raises(AddressError, match="of type " + type(thing).__name__):
        unchecked(parse)(thing)


@pytest.mark.parametrize(
    "address",
    [
        Address((Site("attn"),)),
        Address((Site("attn", 9, 9), Site("v", 8, 6))),
        Address((Site("emb"),), "no place"),
    ],
    ids=str,
)
def test_an_address_built_by_hand_is_checked_like_a_text(address: Address) -> None:
    with pytest.raises(AddressError):
        parse(address)


def test_addresses_cannot_be_changed_and_can_be_keys() -> None:
    address = parse("a9.9>out@-1")
    for frozen, field in ((address, "at"), (address.sites[0], "layer")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, field, 3)
    assert {address: 1}[parse("a9.9>out@-1")] == 1
    assert (
        len({parse("a9.9"), parse("a9.9@-1"), parse("a9.9@1"), parse("a9.9.q"), parse("a9")}) == 5
    )


def test_a_path_has_no_single_site() -> None:
    assert parse("a9.9@-1").site == Site("attn", 9, 9)
    with pytest.raises(AddressError, match=r"'a9\.9>out' is a path"):
        _ = parse("a9.9>out").site


def test_gpt2_small_has_so_many_nodes_heads_and_streams() -> None:
    assert len(list(heads(GPT2))) == 144
    assert list(map(str, heads(GPT2, 9)))[:2] == ["a9.0", "a9.1"]
    assert len(list(streams(GPT2))) == 25
    assert len(list(nodes(GPT2))) == 2 + 12 * (12 + 1 + 1) + 1
    assert len(list(nodes(GPT2, neurons=True))) == 2 + 12 * (12 + 1 + 3072 + 1) + 1
    for site in [*nodes(GPT2), *streams(GPT2)]:
        assert parse(str(site), GPT2).site == site


def test_nodes_and_streams_come_in_the_order_of_the_pass() -> None:
    for listed in (nodes(GPT2), nodes(Config(3, 2, 4, 5, 6, 7), neurons=True), streams(GPT2)):
        stages = [site.stage for site in listed]
        assert stages == sorted(stages)


@given(legal)
def test_an_edge_is_legal_exactly_when_its_writer_comes_before_its_reader(text: str) -> None:
    """The rule in its own words: of a layer, attention comes first, all heads at once, and then the
    MLP."""
    for one in parse(text).sites:
        for other in (Site("q", 5, 3), Site("in", 5), Site("out")):
            if one.role != "node" or one.kind == "pair":
                continue
            time = {"attn": 0, "mlp": 1}.get(one.kind.partition(".")[0])
            written = -1 if one.layer is None else 2 * one.layer + (time or 0)
            earlier = one.kind != "out.b" and written < {"q": 10, "in": 11, "out": 999}[other.kind]
            edge = Address((one, other))
            if earlier:
                assert str(parse(str(edge), GPT2)) == str(edge)
            else:
                with pytest.raises(AddressError, match="runs backwards"):
                    parse(str(edge), GPT2)


def test_a_whole_contains_its_parts_and_nothing_else() -> None:
    tree = {
        "a9": ["a9.0", "a9.0<-1", "a9.0<S", "a9.11", "a9.b"],
        "a9.0": ["a9.0<-1", "a9.0<S"],
        "m3": ["m3.n0", "m3.n3071", "m3.b"],
        "input": ["emb", "pos"],
        "a9.q": ["a9.3.q"],
        "a9.z": ["a9.3.z"],
        "a8": ["a8.9"],
        "m9": ["m9.n0"],
    }
    every = sorted(
        {
            *tree,
            *itertools.chain(*tree.values()),
            "out",
            "out.b",
            "resid9",
            "resid9.mid",
            "a9.3.k",
            "m3.in",
            "a9.pattern",
        }
    )
    for whole in every:
        assert [part for part in every if parse(whole).site.contains(parse(part).site)] == sorted(
            tree.get(whole, [])
        )


def test_roles_are_in_the_kind() -> None:
    roles = {
        "a9.9": "node",
        "a9.9@3<1": "node",
        "input": "node",
        "out.b": "node",
        "resid12": "stream",
        "resid0.mid": "stream",
        "a8.6.v": "port",
        "m3.in": "port",
        "out": "port",
        "a9.9.z": "inside",
        "a9.pattern": "inside",
    }
    assert {text: parse(text).site.role for text in roles} == roles
