"""What cannot be meant is refused with a remedy, and only that: edits that decide one thing, a
whole and its part, holds of nothing, names of nobody."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt import Address, Config, Site
from minigpt.address import nodes
from minigpt.errors import AddressError, PatchError
from minigpt.patch import Patch
from minigpt.patch.conflict import clash
from minigpt.patch.edit import ZERO, Edit, Source
from tests.minigpt.oracle import world, write
from tests.patches import targets

REFUSED = {  # what is refused, and what the message says besides
    "a node twice": (
        lambda x, y: write("a0.1", x) | write("a0.1", y, "y"),
        PatchError,
        "leave one of them out",
    ),
    "at meeting positions": (
        lambda x, y: write("a0.1", x) | write("a0.1@3", y, "y"),
        PatchError,
        "'a0.1 = corrupt' and 'a0.1@3 = y'",
    ),
    "whole and part": (lambda x, y: write("a0", x) | write("a0.1", x), PatchError, "decided once"),
    "MLP and neuron": (
        lambda x, y: write("m1@2", x) | write("m1.n3", x),
        PatchError,
        "decided once",
    ),
    "input and emb": (lambda x, y: write("input", x) | write("emb", x), PatchError, "decided once"),
    "layer and bias": (
        lambda x, y: write("a0", x) | Patch.zero("a0.b"),
        PatchError,
        "decided once",
    ),
    "head and its z": (
        lambda x, y: write("a1.1", x) | write("a1.1.z", x),
        PatchError,
        "decided once",
    ),
    "layer and a z": (lambda x, y: write("a1", x) | write("a1.1.z", x), PatchError, "decided once"),
    "pattern and z": (
        lambda x, y: write("a1.1.pattern", x) | write("a1.z", x),
        PatchError,
        "decided once",
    ),
    "input and read": (
        lambda x, y: Patch.input("a1.0.q", x) | Patch.read("a0.1>a1.0.q", x),
        PatchError,
        "leave one of them out",
    ),
    "input and read of a layer": (
        lambda x, y: Patch.input("a1.q", x) | Patch.read("a0.1>a1.0.q", x),
        PatchError,
        "leave one of them out",
    ),
    "one of two inputs": (
        lambda x, y: Patch.input("out@1", x) | Patch.input("out@2", x) | Patch.read("m0>out@1", x),
        PatchError,
        "decided once",
    ),
    "edges, whole and part": (
        lambda x, y: Patch.read("a0>a1.0.v", x) | Patch.read("a0.1>a1.v", x),
        PatchError,
        "decided once",
    ),
    "a part of a written whole": (
        lambda x, y: write("m0", x) | Patch.read("m0.n1>out", x),
        PatchError,
        "writing the parts of 'm0' one by one",
    ),
    "two holds": (
        lambda x, y: Patch.hold("heads", x) | Patch.hold("a1", y, name="y"),
        PatchError,
        "to which a hold gives way",
    ),
    "backward": (
        lambda x, y: Patch.read("a1.0>a0.1.v", x),
        AddressError,
        "earlier writer to a later reader",
    ),
    "a path": (lambda x, y: Patch.read("a0.0>a1.1.v>out", x), PatchError, "patching.path"),
    "write on a port": (
        lambda x, y: Patch.write("a1.0.q", x),
        PatchError,
        "Patch.input('a1.0.q', ...)",
    ),
    "write on an edge": (
        lambda x, y: Patch.write("a0.0>out", x),
        PatchError,
        "Patch.read('a0.0>out', ...)",
    ),
    "read on a node": (lambda x, y: Patch.read("a1.0", x), PatchError, "Patch.write('a1.0', ...)"),
    "input on a node": (
        lambda x, y: Patch.input("resid1", x),
        PatchError,
        "Patch.write('resid1', ...)",
    ),
    "no number": (lambda x, y: Patch.write("a1.0", math.nan), PatchError, "nan that is NaN"),
    "an infinite tensor": (
        lambda x, y: Patch.add("a1.0", torch.tensor([1.0, math.inf])),
        PatchError,
        "a tensor that is NaN or infinite",
    ),
    "a truth": (lambda x, y: Patch.write("a1.0", True), PatchError, "a Trace, a tensor"),
    "texts": (lambda x, y: Patch.add("a1.0", np.array(["a"])), PatchError, "a Trace, a tensor"),
    "times a run": (lambda x, y: Patch.parse("a1.0 *= x", {"x": x}), PatchError, "a1.0 *= 0.5"),
    "a hold that adds": (
        lambda x, y: Patch.parse("hold heads += x", {"x": x}),
        PatchError,
        "hold heads = NAME",
    ),
    "a hold at a number": (lambda x, y: Patch.hold("heads", 2.0), PatchError, "or 0"),
    "what is written, scaled": (
        lambda x, y: Patch.zero("a1.0") | Patch.scale("a1.0.z", 2.0),
        PatchError,
        "both decide",
    ),
    "hold of nothing": (lambda x, y: Patch.hold("", x), PatchError, "Patch.hold('heads', run)"),
    "hold of a place": (
        lambda x, y: Patch.hold("a0.1@2", x),
        PatchError,
        "Patch.write('a0.1@2', run)",
    ),
    "hold of a port": (lambda x, y: Patch.hold("heads m1.in", x), PatchError, "'a9.9 m3'"),
    "hold of no address": (lambda x, y: Patch.hold("head", x), AddressError, "is no address"),
    "hold beyond the model": (
        lambda x, y: Patch.hold("a0.1 a2.0", x),
        AddressError,
        "layers 0 to 1",
    ),
    "hold at a tensor": (
        lambda x, y: Patch.parse("hold heads = t", {"t": torch.ones(8)}),
        PatchError,
        "Patch.write(node, tensor)",
    ),
    "an unknown name": (
        lambda x, y: Patch.parse("a0.1 = nobody", {"clean": x}),
        PatchError,
        "0, clean",
    ),
    "unknown groups": (
        lambda x, y: Patch.parse("a0.1 = mean(clean by nothing)", {"clean": x}),
        PatchError,
        "'nothing'",
    ),
    "no line": (lambda x, y: Patch.parse("a0.1 is zero", {}), PatchError, "ADDRESS = NAME"),
    "half a mean": (
        lambda x, y: Patch.parse("a0.1 = mean(clean", {"clean": x}),
        PatchError,
        "ADDRESS = mean(NAME)",
    ),
    "no address": (lambda x, y: Patch.parse("a0.z1 = 0", {}), AddressError, "a9.9"),
    "mean of a tensor": (
        lambda x, y: Patch.parse("a0.1 = mean(t)", {"t": torch.ones(8)}),
        PatchError,
        "the mean of a run",
    ),
    "a name that is no word": (
        lambda x, y: Patch.write("a0.1", x, name="a = b"),
        PatchError,
        "a word of letters",
    ),
    "a run called 0": (
        lambda x, y: Patch.write("a0.1", x, name="0"),
        PatchError,
        "a word of letters",
    ),
    "too few groups": (
        lambda x, y: Patch.mean("a0.1", x, torch.tensor([0, 1])),
        PatchError,
        "one number for each prompt",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_meant_is_refused_with_a_remedy(what):
    make, error, remedy = REFUSED[what]
    with pytest.raises(error) as refusal:
        make(*world()[1:])
    assert remedy in str(refusal.value)
    assert "\n  legal: " in str(refusal.value)


@pytest.mark.parametrize(
    "nodes",
    ["", "a0.1@2", "m1.in", "resid1", "head", "a0.z1", "a1.1.z", "a0.0>out", "heads a0.1@2"],
)
@pytest.mark.parametrize("value", [0.0, "run", "mean"])
def test_a_hold_of_what_is_no_node_is_refused_at_any_value(nodes, value):
    run = world()[1]
    at = {0.0: ZERO, "run": run, "mean": Source("run", run=run, mean=True)}[value]
    with pytest.raises((PatchError, AddressError), match="\n  legal: "):
        Patch.hold(nodes, at)


@pytest.mark.parametrize("whole_first", [True, False])
@pytest.mark.parametrize(
    ("whole", "part"),
    [("a1", "a1.0"), ("a1", "a1.b"), ("m0", "m0.n3"), ("m0", "m0.b"), ("input", "pos")],
)
def test_a_whole_and_its_part_are_held_at_one_value(whole, part, whole_first):
    _, x, y = world()
    nodes = [whole, part] if whole_first else [part, whole]
    with pytest.raises(PatchError, match="to which a hold gives way"):
        Patch.hold(nodes[0], x) | Patch.hold(nodes[1], y, name="y")
    both = Patch.hold(nodes[0], x) | Patch.hold(nodes[1], x)
    assert str(both) == f"hold {min(nodes)} = run; hold {max(nodes)} = run"


@pytest.mark.parametrize(
    ("address", "needed"),
    [
        ("a0.1", [3, 5, 8]),
        ("a0.1@2", [3, 8]),
        ("m0", [3, 5, 8]),
        ("resid1", [3, 5, 8]),
        ("a1.0.z", [3, 5, 4]),
        ("a1.z@-1", [3, 2, 4]),
        ("a1.0.pattern", [3, 5, 5]),
        ("a1.pattern", [3, 2, 5, 5]),
    ],
)
def test_a_tensor_has_the_shape_of_what_it_is_put_for_or_broadcasts_to_it(address, needed):
    model, clean, _ = world()
    model.rerun(clean, Patch.write(address, torch.ones(needed, dtype=torch.float64)))
    for shape in ([needed[-1] + 1], [len(needed) + 1, *needed], [2, *needed[1:]]):
        with pytest.raises(PatchError) as refusal:
            model.rerun(clean, Patch.write(address, torch.ones(shape, dtype=torch.float64)))
        assert f"a value of shape {shape} for '{address}'" in str(refusal.value)
        assert f"{needed}, or what broadcasts to it" in str(refusal.value)


FREE = {  # what a hold leaves free, and whether it holds it otherwise
    ("heads", "a0.1"): True,
    ("heads", "a1.0@2 a0.1@END"): True,
    ("heads", "a1"): True,
    ("mlps", "m1@-1"): True,
    ("heads mlps", "m0 a1.1"): True,
    ("a1.0 m0", "m0@2"): True,
    ("a1", "a1.0"): False,
    ("m0.n3", "m0"): True,
    ("heads", "m0"): False,
    ("heads", "a0.b"): False,
    ("heads", "emb"): False,
    ("mlps", "a0.1"): False,
    ("mlps", "m0.n3"): False,
    ("mlps", "m0.b"): False,
    ("a1.0", "a1.1"): False,
    ("a1.0 m0", "m1"): False,
    ("m0", "m0.n3"): False,
    ("a1.0", "a1.0 a1.1@2"): False,
}


@pytest.mark.parametrize(("nodes", "but"), FREE)
def test_what_a_hold_leaves_free_it_would_hold_otherwise(nodes, but):
    run = world()[1]
    if FREE[nodes, but]:
        text = f"hold {' '.join(sorted(nodes.split()))} but {' '.join(sorted(but.split()))} = run"
        assert str(Patch.hold(nodes, run, but=but)) == text
        return
    with pytest.raises(PatchError) as refusal:
        Patch.hold(nodes, run, but=but)
    not_held = but.split()[-1].partition("@")[0]
    assert f"'hold {nodes} but {but} = run' holds no {not_held}\n" in str(refusal.value)
    assert "behind 'but', nodes that are held otherwise" in str(refusal.value)


@pytest.mark.parametrize("but", ["m1.in", "a0.1.z", "resid1", "a0.0>out", "head"])
def test_what_a_hold_leaves_free_is_a_node(but):
    with pytest.raises((PatchError, AddressError), match="\n  legal: "):
        Patch.hold("heads mlps", world()[1], but=but)
    with pytest.raises(AddressError, match="layers 0 to 1"):
        Patch.hold("heads mlps", world()[1], but="a2.0")


ALLOWED = [
    "a0.1@1 = x; a0.1@2 = x",
    "a0@1 = x; a0.1@2 = x",
    "a0.0 = x; a0.1 = x; a0.b = x",
    "a0.z = x; a0.b = x",
    "a0.1 = x; a0.1>out = y",
    "a0.1 = x; a0>out = y",
    "m0.n1 = x; m0>out = 0",
    "a0>a1.v = x; a0.1>a1.q = y",
    "a1.q = x; a1.k = y",
    "a1.0.q = x; a0.1>a1.1.q = y",
    "out@1 = x; out@2 = x; m0>out@3 = y",
    "a0.1@1 = x; a0.1@S = y",
    "resid1 = x; a0 = y",
    "a0.1 = x; hold heads = y",
    "m0@1 = x; m0.n1>out@2 = y",
    "hold heads = x; hold mlps a0.b = y",
    "hold heads = x; hold a0.1 = x",
    "hold heads = mean(x); a0.1 = 0",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_can_be_meant_is_not(text):
    patch = Patch.parse(text, {"x": world()[1], "y": world()[2]})
    assert len(patch.edits) + len(patch.holds) == text.count(";") + 1


@given(data=st.data(), kind=st.sampled_from(["write", "read", "input"]))
def test_a_patch_refuses_just_the_edits_that_clash(data, kind):
    """Many edits are checked by what they have in common, two by `clash`, and this is what both
    should say."""

    def overlap(a: Site, b: Site) -> bool:
        return a == b or a.contains(b) or b.contains(a)

    def one_thing(a: Site, b: Site) -> bool:
        inside = {a.kind, b.kind} <= {"attn", "z", "pattern", "pair"} and a.kind != b.kind
        return overlap(a, b) or (
            inside and a.layer == b.layer and (a.part == b.part or None in (a.part, b.part))
        )

    every = targets(world()[0].config)[kind]
    a, b = (Edit(data.draw(st.sampled_from(every)), Source(name, run=world()[1])) for name in "ab")
    assert clash(a, b) == clash(b, a) == all(map(one_thing, a.target.sites, b.target.sites))
    try:
        Patch((a, b))
        refused = False
    except PatchError:
        refused = True
    assert refused == clash(a, b)


def test_thousands_of_edits_are_no_trouble():
    config = Config(2, 2, 8, 2000, 4, 5)
    source = Source("x", run=world()[1])
    many = Patch(tuple(Edit(Address((site,)), source) for site in nodes(config, neurons=True)))
    assert len(many.edits) == 4011
    with pytest.raises(PatchError, match="'m1 = 0'"):
        many | Patch.zero("m1")
