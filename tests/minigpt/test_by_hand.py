"""A model solved by hand: what its parts write, and what follows from a patch of each kind, to the
last bit, in the reference and in the engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch

from minigpt import GPT2, Config, Trace, build, reference
from minigpt.params import shapes
from minigpt.patch import Patch
from tests.minigpt.oracle import F64
from tests.patches import assert_agrees, reference_of

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
    # what is taken from one source
    "a0.0@1<0 = 0": {
        "a0.0@1": wave(),
        "a0.0.pattern@1": np.array([1.0, 0.0]),
        "resid0.mid@1": wave(-2, 7),
    },
    "a0.1@1<0 = s": {
        "a0.1@1<1": wave(-2, -2),
        "a0.1@1": wave(-2, -2, 3, 5, 6, 7),
        "a0.1.z@1": np.full(4, np.nan),
    },
    "a0.1@1<1 *= 2": {
        "a0.1@1": wave(-2, -2, -2, -2),
        "a0.1@0": wave(),
        "resid0.mid@1": wave(-2, -2, -2, 5, 6, 7),
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
