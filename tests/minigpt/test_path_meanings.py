"""The named meanings of a path: an edge alone, path patching as in IOI, the direct effect; where
they are the same, and where they are not."""

from __future__ import annotations

from functools import cache

import pytest

from minigpt import GPT2, build, reference
from minigpt.params import tensors
from minigpt.patch import Patch
from tests.minigpt.oracle import draw, patched, same, world, write
from tests.patches import reference_of


@pytest.mark.parametrize("name", ["a0.0", "m0.n2", "m1", "a1", "input"])
def test_with_all_else_held_only_the_direct_effect_is_left(name):
    _, clean, corrupt = world()
    alone = patched(write(name, corrupt) | Patch.hold("heads mlps", clean, name="clean"))
    direct = patched(Patch.read(f"{name}>out", corrupt, name="corrupt"))
    if "n2" in name:  # its MLP is not held where it is written: hold the neurons one by one
        others = " ".join(f"m0.n{n}" for n in range(16) if n != 2)
        alone = patched(
            write(name, corrupt) | Patch.hold(f"heads m1 {others}", clean, name="clean")
        )
    assert same(alone, direct)
    loose = [
        patched(write(name, corrupt) | Patch.hold(part, clean, name="clean"))
        for part in ("heads", "mlps")
    ]
    assert name in ("a1", "m1") or not any(same(run, direct) for run in loose)


@cache
def without_mlps() -> GPT2:
    params = world()[0].params
    return GPT2(
        build(
            params.config, {name: x * (".mlp." not in name) for name, x in tensors(params).items()}
        )
    )


def by_edge(model: GPT2, sender: str, receiver: str) -> reference.Run:
    clean, corrupt = model.run(draw(1)), model.run(draw(2))
    return reference_of(model, clean, Patch.read(f"{sender}>{receiver}", corrupt, name="corrupt"))


def by_ioi(model: GPT2, sender: str, receiver: str) -> reference.Run:
    """Wang et al.: the sender from the corrupt run, all other heads held; what the receiver then
    reads, put into a clean run."""
    clean, corrupt = model.run(draw(1)), model.run(draw(2))
    first = reference_of(
        model, clean, write(sender, corrupt) | Patch.hold("heads", clean, name="clean")
    )
    return reference_of(model, clean, Patch.input(receiver, clean, name="first"), {"first": first})


@pytest.mark.parametrize(
    "pair", [("a0.0", "a1.1.v"), ("a0.1", "a1.0.q"), ("a0.1", "out"), ("a1.0", "out")], ids=">".join
)
def test_without_mlps_between_the_edge_is_path_patching_as_in_ioi(pair):
    assert same(by_edge(without_mlps(), *pair), by_ioi(without_mlps(), *pair))
    assert not same(by_edge(world()[0], *pair), by_ioi(world()[0], *pair)), (
        "an MLP lies between: two meanings"
    )


@pytest.mark.parametrize(
    "pair",
    [("a0.0", "m0.in"), ("a1.1", "m1.in"), ("emb", "a0.1.k"), ("m0", "a1.0.v")],
    ids=">".join,
)
def test_nor_does_an_mlp_lie_between_neighbours(pair):
    assert same(by_edge(world()[0], *pair), by_ioi(world()[0], *pair))
    assert not same(by_edge(world()[0], *pair), patched(Patch()))
