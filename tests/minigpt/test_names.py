"""Other tools' names: what each can say comes back as it was, and what it cannot say is refused in
words."""

from __future__ import annotations

import contextlib
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from minigpt import SIZES, Batch, Patch, parse
from minigpt.address import heads, nodes, streams
from minigpt.errors import AddressError
from minigpt.names import TOOLS, ours, theirs
from tests.conftest import tiny, unchecked

GPT2 = SIZES["gpt2"]
BOTH_WAYS = {
    "transformerlens": {
        "hook_embed": "emb",
        "hook_pos_embed": "pos",
        "blocks.5.hook_resid_pre": "resid5",
        "blocks.5.hook_resid_mid": "resid5.mid",
        "blocks.11.hook_resid_post": "resid12",
        "blocks.9.hook_attn_out": "a9",
        "blocks.3.hook_mlp_out": "m3",
        "blocks.3.hook_mlp_in": "m3.in",
        "ln_final.hook_normalized": "out",
        "blocks.9.attn.hook_q": "a9.q",
        "blocks.9.attn.hook_k": "a9.k",
        "blocks.9.attn.hook_v": "a9.v",
        "blocks.9.attn.hook_z": "a9.z",
        "blocks.9.attn.hook_pattern": "a9.pattern",
        "blocks.9.attn.hook_pattern[:, 6]": "a9.6.pattern",
        "blocks.9.attn.hook_result[:, :, 6]": "a9.6",
        "blocks.9.attn.hook_q[:, :, 6]": "a9.6.q",
        "blocks.9.attn.hook_k[:, :, 6]": "a9.6.k",
        "blocks.9.attn.hook_v[:, :, 6]": "a9.6.v",
        "blocks.9.attn.hook_z[:, :, 6]": "a9.6.z",
        "blocks.3.mlp.hook_post[:, :, 127]": "m3.n127",
    },
    "eap": {
        "input": "input",
        "a9.h6": "a9.6",
        "a9.h6<q>": "a9.6.q",
        "a9.h6<k>": "a9.6.k",
        "a9.h6<v>": "a9.6.v",
        "m4": "m4",
        "logits": "out",
        "a5.h5->a8.h6<v>": "a5.5>a8.6.v",
        "input->m3": "input>m3.in",
        "m3->logits": "m3>out",
        "m3->m5": "m3>m5.in",
        "input->logits": "input>out",
        "a5.h5->m5": "a5.5>m5.in",
        "input->a0.h0<q>": "input>a0.0.q",
    },
    "autocircuit": {
        "Resid Start": "input",
        "A9.6": "a9.6",
        "A9.6.Q": "a9.6.q",
        "A9.6.K": "a9.6.k",
        "A9.6.V": "a9.6.v",
        "MLP 4": "m4",
        "Resid End": "out",
        "A2.4->Resid End": "a2.4>out",
        "MLP 3->MLP 5": "m3>m5.in",
        "Resid Start->A5.5.Q": "input>a5.5.q",
        "A5.5->A8.6.V": "a5.5>a8.6.v",
    },
    "paper": {"9.9": "a9.9", "11.10": "a11.10", "0.0": "a0.0"},
    "lh": {"L9H9": "a9.9", "L11H10": "a11.10", "L0H0": "a0.0"},
}
ONE_WAY = {
    "blocks.5.hook_resid_post": "resid6",
    "blocks.9.hook_q_input[:, :, 6]": "a9.6.q",
    "blocks.9.hook_k_input[:, :, 6]": "a9.6.k",
    "blocks.9.hook_v_input[:,:,6]": "a9.6.v",
    "blocks.9.attn.hook_z[:,:,6]": "a9.6.z",
    "blocks.9.attn.hook_pattern[:,6]": "a9.6.pattern",
}


@pytest.mark.parametrize(
    ("tool", "name", "address"),
    [(tool, *row) for tool, rows in BOTH_WAYS.items() for row in rows.items()],
)
def test_a_name_stands_for_an_address_and_the_address_for_the_name(
    tool: str, name: str, address: str
) -> None:
    assert str(ours(name)) == str(ours(name, 12)) == address
    assert theirs(address, tool, 12) == theirs(parse(address), tool, 12) == name


@pytest.mark.parametrize(("name", "address"), ONE_WAY.items())
def test_a_second_name_is_understood_too(name: str, address: str) -> None:
    assert str(ours(name)) == str(ours(name, 12)) == address


@pytest.mark.parametrize(
    "text", ["a9.9.q", "a9.9@-1", "resid12", "m3.n127@S2", "a5.5>a8.6.v>out@END", "out.b"]
)
def test_our_own_addresses_stand_for_themselves(text: str) -> None:
    assert ours(text) == ours(text, 12) == ours(parse(text)) == parse(text)


layer, head = st.integers(0, 11), st.integers(0, 11)
alone = {
    "transformerlens": st.one_of(
        st.sampled_from([str(site) for site in streams(GPT2)] + ["emb", "pos", "out"]),
        st.builds(
            "{}{}{}".format,
            st.just("a"),
            layer,
            st.sampled_from(["", ".q", ".k", ".v", ".z", ".pattern"]),
        ),
        st.builds(
            "a{}.{}{}".format,
            layer,
            head,
            st.sampled_from(["", ".q", ".k", ".v", ".z", ".pattern"]),
        ),
        st.builds("m{}{}".format, layer, st.sampled_from(["", ".in", ".n0", ".n3071"])),
    ),
    "eap": st.one_of(
        st.builds("a{}.{}{}".format, layer, head, st.sampled_from(["", ".q", ".k", ".v"])),
        layer.map("m{}".format),
        st.sampled_from(["input", "out"]),
    ),
    "paper": st.builds("a{}.{}".format, layer, head),
}
alone |= {"autocircuit": alone["eap"], "lh": alone["paper"]}
writers = st.one_of(
    st.just("input"), st.builds("a{}.{}".format, layer, head), layer.map("m{}".format)
)
readers = st.one_of(
    st.just("out"),
    st.builds("a{}.{}.{}".format, layer, head, st.sampled_from("qkv")),
    layer.map("m{}.in".format),
)


@given(st.sampled_from(TOOLS).flatmap(lambda tool: st.tuples(st.just(tool), alone[tool])))
def test_every_address_a_tool_can_say_comes_back(said: tuple[str, str]) -> None:
    tool, address = said
    assert str(ours(theirs(address, tool, 12), 12)) == address
    assert str(ours(theirs(address, tool))) == address


@given(st.sampled_from(["eap", "autocircuit"]), writers, readers)
def test_every_edge_a_tool_can_say_comes_back(tool: str, writer: str, reader: str) -> None:
    assume(parse(writer).site.stage < parse(reader).site.stage)
    edge = parse(f"{writer}>{reader}")
    assert ours(theirs(edge, tool, 12), 12) == edge


def test_an_edge_between_all_heads_and_mlps_of_gpt2_has_a_name_of_its_own() -> None:
    """32,491 edges, as EAP-IG and MIB count them, and no two with the same name."""
    senders = ["input", *map(str, heads(GPT2)), *(f"m{layer}" for layer in range(12))]
    ends = [
        "out",
        *(f"{site}.{port}" for site in heads(GPT2) for port in "qkv"),
        *(f"m{layer}.in" for layer in range(12)),
    ]
    stage = {text: parse(text).site.stage for text in [*senders, *ends]}
    edges = [(one, other) for one in senders for other in ends if stage[one] < stage[other]]
    assert len(edges) == 32491
    for tool in ("eap", "autocircuit"):
        first, last = (
            {
                text: theirs(f"{text}>out" if text in senders else f"input>{text}", tool)
                for text in texts
            }
            for texts in (senders, ends)
        )
        assert len(
            {
                first[one].partition("->")[0] + "->" + last[other].partition("->")[2]
                for one, other in edges
            }
        ) == len(edges)


def test_every_site_has_one_name_or_is_refused() -> None:
    sites = [str(site) for site in nodes(GPT2)] + [str(site) for site in streams(GPT2)]
    for tool in TOOLS:
        said = {}
        for text in sites:
            with contextlib.suppress(AddressError):
                said[text] = theirs(text, tool, 12)
        assert len(set(said.values())) == len(said) >= 144


@pytest.mark.parametrize(
    ("address", "tool", "message"),
    [
        (
            "a9.b",
            "transformerlens",
            "transformerlens has no name for 'a9.b'\n  legal: emb, pos, resid9",
        ),
        ("out.b", "eap", "eap has no name for 'out.b'\n  legal: input, a9.9"),
        ("input", "transformerlens", "has no name for 'input'"),
        (
            "m3.in",
            "eap",
            "eap has no name for 'm3.in'\n  legal: input, a9.9, a9.9.q, a9.9.k, a9.9.v, m9, out, "
            "and an edge of two",
        ),
        ("a9.9.pattern", "eap", "has no name for 'a9.9.pattern'"),
        ("a9.9.q", "paper", "paper has no name for 'a9.9.q'\n  legal: a9.9"),
        ("a9", "lh", "lh has no name for 'a9'"),
        ("a9.9>out", "transformerlens", "has no name for 'a9.9>out'"),
        ("a9.9>out", "paper", "has no name for 'a9.9>out'"),
        ("a5.5>a8.6.v>out", "eap", "has no name for 'a5.5>a8.6.v>out'"),
        ("a9.b>out", "eap", "has no name for 'a9.b>out'"),
        ("m3.n7>out", "autocircuit", "has no name for 'm3.n7>out'"),
        ("a9.9@-1", "transformerlens", "has no name for 'a9.9@-1'"),
        ("a9.9@-1", "eap", "try:   'a9.9', and the position as an index"),
        ("resid13", "transformerlens", "'resid13': layer 13 of 12"),
        ("a12.0", "eap", "'a12.0': layer 12 of 12"),
        (
            "a9.9",
            "TransformerLens",
            "no names of 'TransformerLens' are known here\n  legal: transformerlens, eap",
        ),
        ("a9.9.w", "eap", "'a9.9.w' is no address"),
    ],
)
def test_what_a_tool_has_no_name_for_is_refused_in_words(
    address: str, tool: str, message: str
) -> None:
    with pytest.raises(AddressError, match=re.escape(message)):
        theirs(address, tool, 12)


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "blocks.9.attn.hook_zz": "try:   'blocks.9.attn.hook_z'",
        "blocks.09.attn.hook_z": "names nothing known here",
        "blocks.-1.hook_resid_post": "names nothing known here",
        "blocks.12.hook_resid_pre": "names nothing known here in a model of 12 layers",
        "blocks.12.hook_resid_post": "names nothing known here",
        "L12H0": "names nothing known here",
        "a12.3": "names nothing known here",
        "m12->logits": "names nothing known here",
        "L9H9 ": "names nothing known here",
        "a9.h9<z>": "names nothing known here",
        "A9.9.q": "names nothing known here",
        "a9.h9->MLP 11": "names nothing known here",
        "9.9->10.0": "names nothing known here",
        "blocks.1.ln1.hook_scale": "try:   trace.scale(",
        "blocks.3.mlp.hook_post": "try:   trace.act('m3')",
        "blocks.9.attn.hook_attn_scores": "try:   'a9.9.pattern', after the softmax",
        "blocks.9.attn.hook_result": "try:   one head",
        "": "names nothing known here",
        "a9.h9->a8.h6<v>": "runs backwards",
        "a5.h5->a8.h6": "is no edge",
    }.items(),
)
def test_a_name_that_nobody_uses_is_refused_in_words(name: str, message: str) -> None:
    with pytest.raises(AddressError, match=re.escape(message)) as raised:
        ours(name, 12)
    assert "legal: " in str(raised.value)


@pytest.mark.parametrize("thing", [9.9, None, ("z", 9)], ids=repr)
def test_what_is_no_text_is_refused(thing: object) -> None:
    with pytest.raises((AddressError, TypeError)):
        unchecked(ours)(thing)


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("blocks.2.attn.hook_z@-1", "a2.z@-1"),
        ("blocks.1.attn.hook_result[:, :, 1]", "a1.1"),
        ("a2.h1<q>@END", "a2.1.q@END"),
        ("L1H0", "a1.0"),
        ("A2.1.K", "a2.1.k"),
        ("blocks.2.hook_resid_post@3", "resid3@3"),
        ("a0.h1->m2", "a0.1>m2.in"),
    ],
)
def test_other_tools_names_are_addresses_wherever_one_is_taken(typed, ours):
    assert str(parse(typed)) == ours
    if ">" in ours:
        assert str(Patch.read(typed, 0.0)) == f"{ours} = 0"
        return
    model = tiny(3, 2, 16, 32)
    batch = Batch(torch.arange(8)[None], torch.tensor([8]), {"END": torch.tensor([7])})
    trace = model.run(batch)
    assert torch.equal(trace[typed], trace[ours])
    if parse(ours).site.role in ("node", "stream", "inside"):
        assert str(Patch.zero(typed)) == f"{ours} = 0"
        assert str(Patch.parse(f"{typed} *= 2", {})) == f"{ours} *= 2"


def test_a_name_of_a_layer_that_the_model_lacks_is_refused():
    with pytest.raises(AddressError, match="no address"):
        parse("blocks.12.attn.hook_z", SIZES["gpt2"])
    with pytest.raises(AddressError, match="no address"):
        parse("blocks.2.attn.hook_zz")
