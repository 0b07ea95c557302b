"""The reference: the engine's numbers where nothing is patched, a model solved by hand, and the
identities that say what a patch means. Each comes with a twin in which it fails, so that it is
known to be able to. Last, patches as values and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, reduce
from operator import or_

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from minigpt import GPT2, Address, Config, Site, Trace, build, parse, reference
from minigpt.address import nodes
from minigpt.errors import AddressError, PatchError
from minigpt.params import shapes, tensors
from minigpt.patch import Patch
from minigpt.patch.conflict import clash
from minigpt.patch.edit import ZERO, Edit, Hold, Source
from tests.conftest import tiny
from tests.patches import (
    addresses,
    assert_agrees,
    disagreements,
    edges,
    patches,
    ports,
    reference_of,
    senders,
    targets,
)

F64 = torch.float64


def draw(seed: int, batch: int = 3, length: int = 5, vocab: int = 50) -> torch.Tensor:
    return torch.randint(0, vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


@cache
def world(n_layer: int = 2, seed: int = 0) -> tuple[GPT2, Trace, Trace]:
    """A model, a run and another: "clean" and "corrupt"."""
    model = tiny(n_layer, seed=seed, dtype=F64)
    return model, model.run(draw(1)), model.run(draw(2))


def patched(patch: Patch, which: int = 1, **runs: object) -> reference.Run:
    """The reference's run of world()'s clean (1) or corrupt (2) prompts under a patch."""
    return reference_of(world()[0], world()[which], patch, runs)


def same(a: reference.Run, b: reference.Run, names: object = ("logits",)) -> bool:
    """Whether two runs agree, within rounding, at these addresses."""
    pairs = ((a.logits, b.logits) if name == "logits" else (a[name], b[name]) for name in names)
    return all(np.allclose(x, y, rtol=1e-10, atol=1e-10) for x, y in pairs)


def joined(parts: object) -> Patch:
    parts = list(parts)
    return Patch(tuple(e for p in parts for e in p.edits), tuple(h for p in parts for h in p.holds))


def write(name: str, run: Trace, label: str = "corrupt") -> Patch:
    return Patch.write(name, run, name=label)


# ---- the engine's numbers ------------------------------------------------------------------------


@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    neurons=st.integers(1, 9),
    tied=st.booleans(),
    seed=st.integers(0, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
@settings(max_examples=20)
def test_unpatched_it_is_the_engines_run_at_every_address(
    layers, heads, neurons, tied, seed, lengths
):
    model = tiny(layers, heads, 8, neurons, seed=seed, dtype=F64, tied=tied)
    rows = [draw(seed + i, 1, n)[0] for i, n in enumerate(lengths)]
    names = {"S": torch.tensor([n // 2 for n in lengths])}
    batch = model.batch(
        torch.stack([torch.nn.functional.pad(row, (0, max(lengths) - len(row))) for row in rows])
    )
    trace = model.run(type(batch)(batch.tokens, torch.tensor(lengths), names))
    run = reference_of(model, trace)
    assert_agrees(trace, run)
    assert_agrees(
        trace,
        run,
        among=[f"{site}@{at}" for site in addresses(model.config) for at in ("-1", "0", "S")],
    )


def test_another_models_run_does_not_agree_with_it():
    model, trace, _ = world()
    other = tiny(2, seed=1, dtype=F64).run(trace.tokens)
    apart = {line.split(" of ")[0] for line in disagreements(other, reference_of(model, trace))}
    assert apart >= {"logits", *map(str, addresses(model.config))}


# ---- a model solved by hand ----------------------------------------------------------------------

# Seven patterns of +1 and -1 over eight dimensions, each of mean 0 and variance 1, orthogonal to
# one another. A stream that is a sum of four of them has the standard deviation 2, one alone 1:
# LayerNorm is exact, and a vector is its seven coefficients.
WAVES = torch.tensor(
    [[(-1.0) ** bin(row & column).count("1") for column in range(8)] for row in range(1, 8)],
    dtype=F64,
)


def wave(*terms: float) -> np.ndarray:
    """wave(2, -5, 6) = w2 - w5 + w6; a number twice counts twice."""
    return sum((np.sign(n) * WAVES[abs(n) - 1].numpy() for n in terms), np.zeros(8))


def look(head: int, n: int, factor: float = 1.0) -> torch.Tensor:
    """A map [8, 8] by which a head's first dimension is the coefficient of wave n."""
    m = torch.zeros(8, 8, dtype=F64)
    m[:, 4 * head] = WAVES[n - 1] * factor / 8
    return m


def say(head: int, *terms: int) -> torch.Tensor:
    """An output map [8, 8] by which a head's first dimension writes these waves."""
    m = torch.zeros(8, 8, dtype=F64)
    m[4 * head] = torch.from_numpy(wave(*terms))
    return m


@cache
def by_hand() -> GPT2:
    """Token i is wave i + 1. What its parts do:

    a0.0  looks back at token 0 (wave 1), and where it finds it writes w5 + w6     a0.b  writes w7
    everywhere a0.1  looks everywhere alike; writes -4 w2 times the share of w2 there m0.n0 where it
    sees w5 writes -2 w5     m0.n1 where it sees -w2 writes 2 w2     (32 in, 32 out: there GELU is
    exact) a1.0  looks everywhere alike; writes 4 w6 times the mean share of w5 out.b 3 w4.
    Everything else is 0.
    """
    config = Config(n_layer=2, n_head=2, d_model=8, d_mlp=2, n_ctx=4, n_vocab=7, eps=0.0)
    w = {
        name: torch.ones(shape, dtype=F64)
        if ".ln_" in f".{name}" and name.endswith("weight")
        else torch.zeros(shape, dtype=F64)
        for name, shape in shapes(config).items()
    }
    nothing = torch.zeros(8, 8, dtype=F64)
    w["wte.weight"] = WAVES
    w["h.0.attn.c_attn.weight"] = torch.cat(
        [nothing, look(0, 1, 4096.0), look(0, 1) + look(1, 2)], 1
    )
    w["h.0.attn.c_attn.bias"][0] = 1.0  # the query of a0.0
    w["h.0.attn.c_proj.weight"] = say(0, 5, 6) + say(1, -2, -2, -2, -2)
    w["h.0.attn.c_proj.bias"] = torch.from_numpy(wave(7))
    w["h.0.mlp.c_fc.weight"] = torch.stack([64 * WAVES[4] / 8, -64 * WAVES[1] / 8], 1)
    w["h.0.mlp.c_proj.weight"] = torch.stack([-2 * WAVES[4], 2 * WAVES[1]]) / 32
    w["h.1.attn.c_attn.weight"] = torch.cat([nothing, nothing, look(0, 5)], 1)
    w["h.1.attn.c_proj.weight"] = say(0, 6, 6, 6, 6)
    w["ln_f.bias"] = 3 * WAVES[3]
    return GPT2(build(config, w), name="by hand")


@cache
def hand_runs() -> dict[str, Trace]:
    """P: tokens 0 1. Q: tokens 0 3. both: P and Q."""
    return {
        "P": by_hand().run(torch.tensor([[0, 1]])),
        "Q": by_hand().run(torch.tensor([[0, 3]])),
        "both": by_hand().run(torch.tensor([[0, 1], [0, 3]])),
    }


def hand(text: str, **tensors: torch.Tensor) -> reference.Run:
    """The run P under a patch, written as text."""
    return reference_of(by_hand(), hand_runs()["P"], Patch.parse(text, {**hand_runs(), **tensors}))


def wrong(run: reference.Run, expected: Mapping[str, np.ndarray]) -> list[str]:
    """Where a run is not, to the last bit, what was found by hand."""
    return [
        name
        for name, x in expected.items()
        if not np.array_equal((run.logits if name == "logits" else run[name])[0], x)
    ]


UNPATCHED = {
    "emb@1": wave(2),
    "pos@1": wave(),
    "a0.0.pattern@1": np.array([1.0, 0.0]),
    "a0.1.pattern@1": np.array([0.5, 0.5]),
    "a0.0@1": wave(5, 6),
    "a0.1@1": wave(-2, -2),
    "a0.b@1": wave(7),
    "resid0.mid@1": wave(-2, 5, 6, 7),
    "m0.in@1": wave(-2, 5, 6, 7) / 2,
    "m0.n0@1": wave(-5, -5),
    "m0.n1@1": wave(2, 2),
    "m0@1": wave(2, 2, -5, -5),
    "resid1@1": wave(2, -5, 6, 7),
    "a1.0.z@1": np.array([-0.5, 0, 0, 0]),
    "a1.0@1": wave(-6, -6),
    "a1.1@1": wave(),
    "m1@1": wave(),
    "resid2@1": wave(2, -5, -6, 7),
    "out@1": wave(2, -5, -6, 7) / 2 + wave(4, 4, 4),
    "logits": np.array([[4.0, 0, 0, 24, -4, -4, 4], [0.0, 4, 0, 24, -4, -4, 4]]),
    "resid1@0": wave(1, -5, 6, 7),
    "resid2@0": wave(1, -5, -6, 7),
}

CASES = {  # a patch of the run P, and what follows
    # without a0.1, the wave w2 stays, and m0.n1 has nothing to mend
    "a0.1@1 = 0": {
        "a0.1@1": wave(),
        "a0@1": wave(5, 6, 7),
        "resid0.mid@1": wave(2, 5, 6, 7),
        "m0.n1@1": wave(),
        "m0@1": wave(-5, -5),
        "resid1@1": wave(2, -5, 6, 7),
        "resid2@1": wave(2, -5, -6, 7),
    },
    # the same seen by m0 alone: it mends nothing, and -w2 stays
    "a0.1>m0.in@1 = 0": {
        "a0.1@1": wave(-2, -2),
        "resid0.mid@1": wave(-2, 5, 6, 7),
        "m0.in@1": wave(2, 5, 6, 7) / 2,
        "m0.n1@1": wave(),
        "resid1@1": wave(-2, -5, 6, 7),
        "out@1": wave(-2, -5, -6, 7) / 2 + wave(4, 4, 4),
    },
    "a0.1>m0.in@1 = t": {
        "m0.in@1": wave(2, 5, 6, 7) / 2,
        "a0.1@1": wave(-2, -2),
        "resid1@1": wave(-2, -5, 6, 7),
    },
    "a0>m0.in@1 = Q": {"m0.in@1": wave(2, 5, 6, 7) / 2, "resid1@1": wave(-2, -5, 6, 7)},
    # an edge into one position of a head's values, seen from a later one: half of +w5, half of -w5
    "m0>a1.0.v@0 = 0": {
        "m0@0": wave(-5, -5),
        "resid1@0": wave(1, -5, 6, 7),
        "a1.0@0": wave(6, 6),
        "a1.0.z@1": np.zeros(4),
        "a1.0@1": wave(),
        "resid2@1": wave(2, -5, 6, 7),
    },
    # all of Q's stream shown to one port
    "m0.in@1 = Q": {
        "m0.in@1": wave(4, 5, 6, 7) / 2,
        "resid0.mid@1": wave(-2, 5, 6, 7),
        "m0@1": wave(-5, -5),
        "resid1@1": wave(-2, -5, 6, 7),
    },
    "out@1 = Q": {"resid2@1": wave(2, -5, -6, 7), "out@1": wave(4, -5, -6, 7) / 2 + wave(4, 4, 4)},
    "a1.v@1 = s": {
        "resid1@1": wave(2, -5, 6, 7),
        "a1.0.z@1": np.zeros(4),
        "a1.0@1": wave(),
        "resid2@1": wave(2, -5, 6, 7),
    },
    # the stream itself set
    "resid1@1 = Q": {
        "m0@1": wave(2, 2, -5, -5),
        "resid1@1": wave(4, -5, 6, 7),
        "resid2@1": wave(4, -5, -6, 7),
    },
    "resid0.mid@1 = s": {
        "a0.0@1": wave(5, 6),
        "resid0.mid@1": wave(3, 5, 6, 7),
        "m0@1": wave(-5, -5),
        "resid2@1": wave(3, -5, -6, 7),
    },
    "resid2@1 = s": {"resid1@1": wave(2, -5, 6, 7), "out@1": wave(3, 5, 6, 7) / 2 + wave(4, 4, 4)},
    # the embedding, whole and in part
    "input@1 = Q": {
        "emb@1": wave(4),
        "input@1": wave(4),
        "a0.1@1": wave(),
        "resid2@1": wave(4, -5, -6, 7),
    },
    "emb@1 = s": {
        "emb@1": wave(3, 5, 6, 7),
        "input@1": wave(3, 5, 6, 7),
        "a0.1@1": wave(),
        "resid0.mid@1": wave(3, 5, 5, 6, 6, 7, 7),
    },
    # a whole stands for all its parts
    "a0@1 = Q": {
        "a0@1": wave(5, 6, 7),
        "a0.0@1": wave(5, 6),
        "a0.1@1": wave(),
        "a0.b@1": wave(7),
        "resid0.mid@1": wave(2, 5, 6, 7),
    },
    "a0@1 = t": {"a0@1": wave(), "resid0.mid@1": wave(2), "a0.1@1": np.full(8, np.nan)},
    "m0 = 0": {
        "m0.n0@1": wave(),
        "m0.b@0": wave(),
        "resid1@1": wave(-2, 5, 6, 7),
        "resid1@0": wave(1, 5, 6, 7),
        "a1.0@1": wave(6, 6),
    },
    # means: of both runs, and of each alone
    "m0@1 = mean(both)": {"m0@1": wave(2, -5, -5), "m0.n1@1": wave(2), "resid1@1": wave(-5, 6, 7)},
    "m0@1 = mean(both by apart)": UNPATCHED,
    # weights and weighted values
    "a0.0.pattern@1 = there": {
        "a0.0.pattern@1": np.array([0.0, 1.0]),
        "a0.0@1": wave(),
        "resid0.mid@1": wave(-2, 7),
    },
    "a0.pattern@1 = first": {
        "a0.0@1": wave(5, 6),
        "a0.1.pattern@1": np.array([1.0, 0.0]),
        "a0.1@1": wave(),
        "resid1@1": wave(2, -5, 6, 7),
    },
    "a0.1.z@1 = 0": {"a0.1.pattern@1": np.array([0.5, 0.5]), "a0.1@1": wave(), "m0.n1@1": wave()},
    "a1.z@1 = 0": {"a1.0@1": wave(), "resid2@1": wave(2, -5, 6, 7)},
    # what is held does not see the write
    "a0.1@1 = 0; hold mlps = P": {
        "resid0.mid@1": wave(2, 5, 6, 7),
        "m0.n1@1": wave(2, 2),
        "resid1@1": wave(2, 2, 2, -5, 6, 7),
    },
    "a0.1@1 = 0; hold m0 a1.0 = P": {
        "resid1@1": wave(2, 2, 2, -5, 6, 7),
        "resid2@1": wave(2, 2, 2, -5, -6, 7),
    },
    "a0.1@1 = 0; hold heads = P": {
        "a0.1@1": wave(),
        "a0.0@1": wave(5, 6),
        "m0.n1@1": wave(),
        "resid2@1": wave(2, -5, -6, 7),
    },
    # biases
    "a0.b@1 = s": {
        "a0@1": wave(3, 5, 5, 6, 6, 7, -2, -2),
        "a0.b@1": wave(3, 5, 6, 7),
        "a0.b@0": wave(7),
    },
    "out.b@1 = 0": {
        "out@1": wave(2, -5, -6, 7) / 2,
        "out@0": wave(1, -5, -6, 7) / 2 + wave(4, 4, 4),
        "logits": np.array([[4.0, 0, 0, 24, -4, -4, 4], [0.0, 4, 0, 0, -4, -4, 4]]),
    },
}
TENSORS = {
    "t": torch.zeros(8),
    "s": torch.from_numpy(wave(3, 5, 6, 7)),
    "there": torch.tensor([0.0, 1.0]),
    "first": torch.tensor([1.0, 0.0]),
    "apart": torch.tensor([0, 1]),
}


def test_by_hand_and_the_reference_agree_to_the_last_bit():
    assert wrong(hand(""), UNPATCHED) == []
    assert_agrees(hand_runs()["P"], hand(""))


@pytest.mark.parametrize("text", CASES)
def test_by_hand_and_patched_too(text):
    expected = {name: x for name, x in CASES[text].items() if not np.isnan(x).any()}
    run = hand(text, **TENSORS)
    assert wrong(run, expected) == []
    assert all(np.isnan(run[name]).all() for name in CASES[text].keys() - expected.keys())
    if CASES[text] is not UNPATCHED:
        assert wrong(hand(""), expected) != [], "this case would pass if patches did nothing"


# ---- identities ----------------------------------------------------------------------------------


def test_writes_sum_to_the_stream_and_wholes_are_their_parts():
    run, config = (
        patched(write("a0.1@2", world()[2]) | Patch.read("a0.0>m1.in", ZERO)),
        world()[0].config,
    )
    parts = [site for site in nodes(config, neurons=True) if site.kind != "out.b"]
    for whole in (
        None,
        *(site for site in senders(config) if site.part is None and any(map(site.contains, parts))),
    ):
        own = [run[str(site)] for site in parts if whole is None or whole.contains(site)]
        total = run["resid2" if whole is None else str(whole)]
        np.testing.assert_allclose(sum(own), total, rtol=0, atol=1e-12)
        assert all(np.abs(sum(own) - part - total).max() > 1e-6 for part in own), (
            "a part that does not count"
        )


def own_values() -> dict[str, list[Patch]]:
    """For each kind of edit, patches that together name all that it can be of, taking from a run
    "it" and from its mean alone."""
    model, clean, _ = world()
    sources = [
        Source("it", run=clean),
        Source("it", run=clean, mean=True, by=torch.arange(len(clean.tokens))),
    ]
    every = targets(model.config)
    return {
        "write": [
            Patch((Edit(target, sources[n % 2]),)) for n, target in enumerate(every["write"])
        ],
        "read": [
            joined(Patch.read(edge, source) for edge in edges(model.config, site))
            for site, source in zip(senders(model.config), sources * 99, strict=False)
        ],
        "input": [
            Patch((Edit(target, sources[n % 2]),)) for n, target in enumerate(every["input"])
        ],
        "hold": [
            Patch(holds=(Hold("heads mlps emb pos a0.b a1.b", source),)) for source in sources
        ],
    }


@pytest.mark.parametrize(
    ("kind", "example"),
    {"write": "a0.1", "read": "a0.1>m1.in", "input": "a1.0.k", "hold": "hold a0.1"}.items(),
)
def test_putting_a_runs_own_values_into_it_changes_nothing_to_the_last_bit(kind, example):
    _, clean, corrupt = world()
    run = patched(Patch())
    for patch in own_values()[kind]:
        again = patched(patch)
        assert all(
            np.array_equal(again[name], run[name]) for name in ("resid1.mid", "resid2", "out")
        ), str(patch)
    assert same(patched(Patch.parse(f"{example} = it", {"it": clean})), run)
    assert not same(patched(Patch.parse(f"{example} = it", {"it": corrupt})), run)


@pytest.mark.parametrize("neurons", [False, True])
def test_all_writes_from_another_run_are_that_run(neurons):
    model, _, corrupt = world()
    names = [str(site) for site in nodes(model.config, neurons=neurons)]
    parts, other = {name: write(name, corrupt) for name in names}, patched(Patch(), 2)
    assert same(patched(joined(parts.values())), other, map(str, addresses(model.config)))
    for name in names[:: len(names) // 8]:
        changed = parts | {name: Patch.write(name, torch.ones(8))}
        assert not same(patched(joined(changed.values())), other), f"with another {name}"
        left_out = patched(joined(patch for n, patch in parts.items() if n != name))
        assert same(left_out, other) == (name != "emb"), (
            "only emb is not computed from what others wrote"
        )


def test_every_edge_from_another_run_is_that_run():
    model, _, corrupt = world()
    every = {
        str(edge): Patch.read(edge, corrupt, name="corrupt")
        for site in nodes(model.config)
        if site.kind != "out.b"
        for edge in edges(model.config, site)
    }
    all_ports, other = (
        [str(port) for port in ports(model.config, layers=False)],
        patched(Patch(), 2),
    )
    assert same(patched(joined(every.values())), other, ["logits", *all_ports])
    for left in [*every][::9]:
        run = patched(joined(patch for name, patch in every.items() if name != left))
        sender, port = left.split(
            ">"
        )  # all but emb and pos read the other run, and so write it too
        assert [name for name in all_ports if not same(run, other, [name])] == [port] * (
            sender == "emb"
        ), f"without {left}"
        without = patched(
            joined(
                (
                    *(patch for name, patch in every.items() if name != left),
                    Patch.read(left, torch.ones(8)),
                )
            )
        )
        assert [name for name in all_ports if not same(without, other, [name])] == [port], (
            f"with another {left}"
        )


@pytest.mark.parametrize(
    "name", ["emb", "pos", "input", "a0.1", "a0", "a0.b", "a1.0", "m0.n3", "m0", "m1", "m1.b"]
)
def test_a_write_is_a_read_on_each_edge_out_of_the_node(name):
    model = world()[0]
    site = parse(name).site
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(5), dtype=F64)
    written, every = (
        patched(Patch.write(name, x)),
        [Patch.read(edge, x) for edge in edges(model.config, site)],
    )
    later = [str(port) for port in ports(model.config) if port.stage >= site.stage]
    assert same(written, patched(joined(every)), ["logits", *later])
    for left in every[::3]:
        assert not same(
            written, patched(joined(patch for patch in every if patch is not left)), later
        ), f"without {left}"


@pytest.mark.parametrize("port", ["a1.0.q", "a1.1.k", "a0.1.v", "a1.v", "m0.in", "out"])
@pytest.mark.parametrize("at", ["", "@1"])
def test_an_input_is_a_read_on_each_edge_into_the_port(port, at):
    model, _, corrupt = world()
    site = parse(port).site
    before = [
        node for node in nodes(model.config) if node.stage <= site.stage and node.kind != "out.b"
    ]
    into = [Patch.read(f"{node}>{port}{at}", corrupt, name="corrupt") for node in before]
    shown = patched(Patch.input(port + at, corrupt, name="corrupt"))
    assert same(shown, patched(joined(into)), ["logits", port])
    assert not same(shown, patched(joined(into[1:])), ["logits", port]), "without the first edge"


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


def test_a_stream_point_from_another_run_is_that_run_from_there_on():
    corrupt = world()[2]
    for name in ("resid0", "resid0.mid", "resid1", "resid1.mid", "resid2"):
        assert same(patched(write(name, corrupt)), patched(Patch(), 2))
        assert not same(patched(write(f"{name}@1", corrupt)), patched(Patch(), 2))


def test_a_z_or_a_pattern_and_its_values_are_the_heads_write():
    corrupt = world()[2]
    whole = patched(write("a0.1", corrupt))
    assert same(whole, patched(write("a0.1.z", corrupt)), ["logits", "a0.1", "a0", "resid1"])
    assert same(
        whole,
        patched(write("a0.1.pattern", corrupt) | Patch.input("a0.1.v", corrupt, name="corrupt")),
    )
    assert not same(whole, patched(write("a0.1.pattern", corrupt)))


@pytest.mark.parametrize("name", ["a0.1", "a0"])
def test_a_head_that_is_written_has_the_z_of_its_source_and_its_own_pattern(name):
    clean, corrupt, run = (
        patched(Patch()),
        patched(Patch(), 2),
        patched(write(f"{name}@2", world()[2])),
    )
    assert np.array_equal(run["a0.1.z@2"], corrupt["a0.1.z@2"])
    assert not same(clean, corrupt, ["a0.1.z@2"])
    assert same(run, clean, ["a0.1.pattern", "a0.1.v", "a0.1.z@1"])
    assert not patched(Patch.zero(name))["a0.1.z"].any()
    assert np.isnan(patched(Patch.write(name, torch.ones(8)))["a0.1.z"]).all(), (
        "from a sum alone nobody can tell"
    )


def test_a_longer_or_shorter_runs_pattern_fits():
    model, clean, _ = world()
    x = model.run(draw(2)[:, :3])
    shorter = reference_of(model, clean, Patch.write("a1.0.pattern@2", x))
    assert np.array_equal(
        shorter["a1.0.pattern@2"],
        np.pad(reference_of(model, x)["a1.0.pattern@2"], ((0, 0), (0, 2))),
    )
    longer = reference_of(model, x, Patch.write("a1.0.pattern", clean))
    assert np.array_equal(longer["a1.0.pattern"], patched(Patch())["a1.0.pattern"][:, :3, :3])
    with pytest.raises(IndexError):
        reference_of(model, clean, Patch.write("a1.0.z", x))


@pytest.mark.parametrize(
    "name",
    ["a0.1", "m0", "a1", "resid1", "a1.0.pattern", "a1.z", "out.b", "a0>a1.0.v", "a1.q", "out"],
)
def test_one_by_one_the_positions_are_all_positions(name):
    source = Source("corrupt", run=world()[2]) if name != "out.b" else ZERO
    every = Patch.parse(f"{name} = {source}", {"corrupt": world()[2]})
    one = [Patch.parse(f"{name}@{at} = {source}", {"corrupt": world()[2]}) for at in range(5)]
    assert same(patched(every), patched(joined(one)))
    assert not same(patched(every), patched(joined(one[:-1]))), "without the last"
    assert same(
        patched(one[4]), patched(Patch.parse(f"{name}@-1 = {source}", {"corrupt": world()[2]}))
    )


def test_a_layer_is_its_heads():
    corrupt, x = (
        world()[2],
        torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=F64),
    )
    z = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    for name, parts in {
        "a1.z": [Patch.write(f"a1.{h}.z", corrupt, name="corrupt") for h in (0, 1)],
        "a1.pattern": [Patch.write(f"a1.{h}.pattern", corrupt, name="corrupt") for h in (0, 1)],
        "a1": [Patch.write(f"a1.{part}", corrupt, name="corrupt") for part in (0, 1, "b")],
        "m1": [
            Patch.write(f"m1.{part}", corrupt, name="corrupt")
            for part in (*(f"n{n}" for n in range(16)), "b")
        ],
        "input": [Patch.write(part, corrupt, name="corrupt") for part in ("emb", "pos")],
    }.items():
        assert same(patched(write(name, corrupt)), patched(joined(parts)), ["logits", name])
        assert not same(patched(write(name, corrupt)), patched(parts[-1]), ["logits", name])
    assert same(
        patched(Patch.write("a1.pattern", x)),
        patched(joined(Patch.write(f"a1.{h}.pattern", x[:, h]) for h in (0, 1))),
    )
    assert same(
        patched(Patch.write("a1.z", z)),
        patched(joined(Patch.write(f"a1.{h}.z", z[:, :, h]) for h in (0, 1))),
    )
    assert same(
        patched(Patch.write("a1.pattern@2", x[:, :, 2])),
        patched(joined(Patch.write(f"a1.{h}.pattern@2", x[:, h, 2]) for h in (0, 1))),
    )
    assert not same(patched(Patch.write("a1.z", z)), patched(Patch.write("a1.z", z.flip(2))))
    assert same(
        patched(Patch.read("a0.1>a1.v", corrupt)),
        patched(joined(Patch.read(f"a0.1>a1.{h}.v", corrupt) for h in (0, 1))),
        ["a1"],
    )


def test_means_are_over_the_prompts_of_a_group():
    model, _, corrupt = world()
    groups = torch.tensor([0, 1, 0])
    x = corrupt["a0.1"]
    assert same(patched(Patch.mean("a0.1", corrupt)), patched(Patch.write("a0.1", x.mean(0))))
    split = torch.stack([x[[0, 2]].mean(0), x[1], x[[0, 2]].mean(0)])
    grouped = patched(Patch.mean("a0.1", corrupt, groups))
    assert same(grouped, patched(Patch.write("a0.1", split)))
    assert not same(grouped, patched(Patch.mean("a0.1", corrupt)))
    assert same(
        patched(Patch.mean("a0.1.pattern@3", corrupt)),
        patched(Patch.write("a0.1.pattern@3", corrupt["a0.1.pattern@3"].mean(0))),
    )
    few = reference_of(model, model.run(draw(1)[:2]), Patch.mean("m0", corrupt))
    assert np.array_equal(few["m0"][0], few["m0"][1]), "without groups, any number of prompts"


def test_a_hold_gives_way_to_writes_of_the_node_its_whole_its_parts_its_z_and_its_pattern():
    config, corrupt = world()[0].config, world()[2]
    x = torch.ones((), dtype=F64)
    free = {  # what a write at position 2 frees from a hold of "a1.0 a1.b m0 m1.n0"
        "a1.0": ["a1.0"],
        "a1.0.z": ["a1.0"],
        "a1.0.pattern": ["a1.0"],
        "a1.z": ["a1.0"],
        "a1": ["a1.0", "a1.b"],
        "a1.1": [],
        "a1.1.z": [],
        "a1.b": ["a1.b"],
        "m0.n3": ["m0"],
        "m0.b": ["m0"],
        "m1": ["m1.n0"],
        "m1.n0": ["m1.n0"],
        "m1.n1": [],
        "resid2": [],
    }
    source = Source("corrupt", run=corrupt)
    for name, freed in free.items():
        patch = Patch.write(f"{name}@2", x) | Patch.hold("a1.0 a1.b m0 m1.n0", source)
        changes = reference.changes(patch, config, 5, 0, {})
        assert {str(c.site): c.rows for c in changes if c.source == source} == {
            node: [0, 1, 3, 4] if node in freed else [0, 1, 2, 3, 4]
            for node in ("a1.0", "a1.b", "m0", "m1.n0")
        }
    run = patched(Patch.zero("a1.0.z@2") | Patch.hold("a1.0", corrupt, name="corrupt"))
    other = patched(Patch(), 2)["a1.0"]
    assert np.array_equal(run["a1.0"][:, [0, 1, 3, 4]], other[:, [0, 1, 3, 4]])
    assert not run["a1.0"][:, 2].any()


def test_a_prompt_alone_is_the_same_as_among_prompts_of_other_lengths():
    model, _, _ = world()
    rows = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]]
    weights = {name: x.numpy() for name, x in tensors(model.params).items()}
    other = [[row[0], *reversed(row[1:])] for row in rows]
    x = torch.randn(3, 8, dtype=F64)
    patch = Patch.parse(
        "a0.1@-1 = o; a0.0>m1.in@S = x; a1.0.pattern@1 = 0; resid1@S = o", {"o": world()[2], "x": x}
    )
    names = {"S": [4, 0, 2]}
    runs = {"o": reference.run(weights, model.config, other)}
    together = reference.run(weights, model.config, rows, patch, runs, names)
    for i, row in enumerate(rows):
        own = Patch.parse(str(patch), {"o": world()[2], "x": x[i]})
        alone = reference.run(
            weights,
            model.config,
            [row],
            own,
            {"o": reference.run(weights, model.config, [other[i]])},
            {"S": [names["S"][i]]},
        )
        assert np.array_equal(together.logits[i], alone.logits[0])
        assert np.array_equal(together["a0.1@S"][i], alone["a0.1@S"][0])
        assert not np.array_equal(
            together.logits[i], reference.run(weights, model.config, [row]).logits[0]
        )
    with pytest.raises(IndexError):
        together["a0.1@3"]


def test_two_runs_of_one_name_are_still_two_for_the_oracle():
    _, clean, corrupt = world()
    unnamed = Patch.write("a0.1", corrupt) | Patch.hold("mlps", clean) | Patch.write("a0.0", clean)
    named = (
        write("a0.1", corrupt)
        | Patch.hold("mlps", clean, name="clean")
        | Patch.write("a0.0", clean, name="clean")
    )
    assert same(patched(unnamed), patched(named), ["logits", "a0.1", "m0"])


# ---- random patches ------------------------------------------------------------------------------

BATCH, LENGTH = 3, 5
drawn = patches(
    world()[0].config,
    LENGTH,
    BATCH,
    {"clean": world()[1], "corrupt": world()[2]},
    positions={"S": [0, 4, 2]},
)
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def sources_of(patch: Patch) -> dict[str, object]:
    """What the names in a patch's text stand for."""
    found = {}
    for line in (*patch.edits, *patch.holds):
        given = line.source
        found |= (
            {given.name: given.run if given.value is None else given.value} if given != ZERO else {}
        )
        found |= {given.by_name: given.by} if given.by is not None else {}
    return found


@given(patch=drawn)
@few
def test_a_random_patch_runs_and_its_order_and_its_text_say_the_same(patch):
    model, clean, _ = world()
    trace = model.run(replace(clean.batch, positions={"S": torch.tensor([0, 4, 2])}))
    assert np.isfinite(reference_of(model, trace, patch).logits).all()
    again = Patch.parse(str(patch), sources_of(patch))
    other_way = reduce(
        or_, [Patch(patch.edits[i:][:1], patch.holds[i:][:1]) for i in reversed(range(4))]
    )
    assert patch == again == other_way
    assert hash(patch) == hash(again) == hash(other_way)
    assert str(again) == str(patch) == str(other_way)
    assert Patch.parse(str(patch), patch.sources) == patch


def test_two_runs_of_one_name_are_told_apart_in_the_text():
    _, clean, corrupt = world()
    patch = (
        Patch.write("a0.0", clean)
        | Patch.write("a0.1", corrupt)
        | Patch.write("m0", clean)
        | Patch.mean("m1", corrupt, torch.tensor([0, 1, 0]))
    )
    assert str(patch) == "a0.0 = run; a0.1 = run.2; m0 = run; m1 = mean(run.2 by groups)"
    again = Patch.parse(str(patch), patch.sources)
    assert [edit.source.run for edit in again.edits] == [clean, corrupt, clean, corrupt]


KINDS = {
    "a head": lambda e: (
        e.kind == "write"
        and e.target.sites[0].kind == "attn"
        and e.target.sites[0].part is not None
    ),
    "a layer": lambda e: (
        e.kind == "write" and e.target.sites[0].kind == "attn" and e.target.sites[0].part is None
    ),
    "a neuron": lambda e: e.kind == "write" and ".n" in str(e.target),
    "a bias": lambda e: ".b" in str(e.target),
    "a stream": lambda e: "resid" in str(e.target),
    "a z": lambda e: ".z" in str(e.target),
    "a pattern": lambda e: ".pattern" in str(e.target),
    "an edge": lambda e: e.kind == "read",
    "an input": lambda e: e.kind == "input",
    "a layer's port": lambda e: str(e.target)[-4:] in ("a1.q", "a1.v"),
    "a name": lambda e: e.target.at == "S",
    "a last": lambda e: e.target.at == -1,
    "a number": lambda e: e.target.at == 2,
    "everywhere": lambda e: e.target.at is None,
    "zero": lambda e: e.source == ZERO,
    "a run": lambda e: e.source.run and not e.source.mean,
    "a mean": lambda e: e.source.mean and e.source.by is None,
    "a mean by groups": lambda e: e.source.by is not None,
    "a tensor": lambda e: e.source.value is not None,
}


def test_every_kind_of_edit_is_drawn_one_and_many_and_shrinks():
    seen, sizes = set(), set()

    @given(patch=drawn)
    @settings(max_examples=200, derandomize=True, database=None)
    def look(patch):
        seen.update(kind for kind, holds in KINDS.items() if any(map(holds, patch.edits)))
        seen.update("hold " + hold.nodes for hold in patch.holds)
        sizes.add(len(patch.edits) + len(patch.holds))

    look()
    assert seen >= KINDS.keys() | {"hold heads", "hold mlps", "hold heads mlps"}
    assert sizes == {1, 2, 3, 4}
    strict = settings(
        max_examples=1000, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
    )
    assert str(
        find(drawn, lambda patch: any(map(KINDS["a bias"], patch.edits)), settings=strict)
    ) in ("a0.b = 0", "a0.b>out = 0")


def test_prompts_of_many_lengths_have_means_by_groups_of_one_length_and_their_own_last_places():
    lengths = [5, 2, 3]

    @given(patch=patches(world()[0].config, lengths, 3, {"clean": world()[1]}))
    @settings(max_examples=60, derandomize=True, database=None)
    def look(patch):
        means = [line.source for line in (*patch.edits, *patch.holds) if line.source.mean]
        assert all(
            source.by is not None
            and len({*zip(source.by.tolist(), lengths, strict=True)})
            == len(set(source.by.tolist()))
            for source in means
        )
        assert all(e.target.at in (None, 0, 1, -1, -2) for e in patch.edits)

    look()


# ---- patches as values and as text ---------------------------------------------------------------


def test_equal_patches_are_equal_however_they_were_made():
    _, clean, corrupt = world()
    a, b = write("a0.1@-1", corrupt), Patch.read("a0.0>a1.1.v", clean, name="clean")
    h = Patch.hold("mlps heads", clean, name="clean")
    assert (
        a | b | h
        == h | b | a
        == Patch.parse(
            "hold heads  mlps = clean\na0.0>a1.1.v=clean ; a0.1@-1 = corrupt;",
            {"clean": clean, "corrupt": corrupt},
        )
    )
    assert len({a | b, b | a, a | b | a, b}) == 2
    assert a | Patch() == a
    assert a
    assert not Patch()
    assert str(Patch()) == ""
    assert a != write("a0.1@-1", clean), "another run of the same name"
    assert a != write("a0.1@-1", corrupt, "other"), "another name"
    assert (
        Patch.zero("m0")
        == Patch.write("m0", 0.0)
        == Patch.write("m0", 0)
        == Patch.parse("m0 = 0", {})
    )


def test_the_text_of_each_kind():
    _, clean, corrupt = world()
    groups = torch.tensor([0, 1, 0])
    patch = joined(
        [
            write("a0.1@S2", corrupt),
            Patch.read("a0.0>a1.1.v@-1", corrupt, name="corrupt"),
            Patch.input("a1.0.q", clean, name="clean"),
            Patch.write("resid1@2", torch.ones(8), name="one"),
            Patch.mean("m0.n3", corrupt, name="corrupt"),
            Patch.zero("m1"),
            Patch.mean("a1.1", clean, groups, name="clean", by_name="templates"),
            Patch.hold("mlps", clean, name="clean"),
        ]
    )
    assert str(patch) == (
        "a0.0>a1.1.v@-1 = corrupt; a0.1@S2 = corrupt; a1.0.q = clean; a1.1 = mean(clean by "
        "templates); "
        "m0.n3 = mean(corrupt); m1 = 0; resid1@2 = one; hold mlps = clean"
    )
    assert Patch.parse(str(patch), sources_of(patch)) == patch
    assert Patch.parse(str(patch), sources_of(patch) | {"templates": groups.clone()}) != patch


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
    "a number": (lambda x, y: Patch.write("a1.0", 3.0), PatchError, "a Trace, a tensor, or 0.0"),
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
        inside = {a.kind, b.kind} <= {"attn", "z", "pattern"} and a.kind != b.kind
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
