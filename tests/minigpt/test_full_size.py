"""The promises of rerun and of path patching on a random model of GPT-2 small's size: bit for bit,
and against plain hooks.

The vocabulary is small, which saves memory and changes nothing before the unembedding.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from benchmarks.peers import check, hooks
from benchmarks.peers.inputs import Inputs
from benchmarks.w1_edges import peer_edge
from interp import metrics, patching
from interp.audit import dense
from interp.effects import Effects
from interp.tasks import Prompts
from minigpt import GPT2, Config, Site, Trace, build
from minigpt.address import edges, heads
from minigpt.patch import Patch
from tests.conftest import random_params
from tests.patches import patches

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning"),
]

VOCABULARY, PROMPTS, LENGTH = 500, 2, 14
CONFIG = Config(12, 12, 768, 3072, 1024, VOCABULARY)
OUT = Site("out")


def tokens(seed: int) -> torch.Tensor:
    return torch.randint(
        0, VOCABULARY, (PROMPTS, LENGTH), generator=torch.Generator().manual_seed(seed)
    )


@cache
def model() -> GPT2:
    return GPT2(random_params(CONFIG))


@cache
def runs() -> tuple[Trace, Trace]:
    return model().run(tokens(0)), model().run(tokens(1))


def drawn(count: int) -> list[Patch]:
    """Random patches of every kind, the same ones every time."""
    clean, corrupt = runs()
    collected = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(patches(CONFIG, LENGTH, PROMPTS, {"clean": clean, "corrupt": corrupt}))
    def collect(patch: Patch) -> None:
        collected.append(patch)

    collect()
    return collected


def test_at_least_200_random_patches_are_the_dense_patched_pass_bit_for_bit():
    clean, _ = runs()
    seen, moved = set(), set()
    for patch in drawn(240):
        found = model().rerun(clean, patch).stream(OUT)
        assert torch.equal(found, dense.patched(model(), clean, patch)["out"]), str(patch)
        seen.add(str(patch))
        if not torch.equal(found, clean.stream(OUT)):
            moved.add(str(patch))
    print(f"{len(seen)} patches, of which {len(moved)} change the output")
    assert len(seen) >= 200
    assert len(moved) >= 150


def test_a_value_changed_in_its_last_bits_would_be_seen():
    """The twin of the comparison above."""
    clean, corrupt = runs()
    value = corrupt["a2.3@5"]
    found, near = (
        model().rerun(clean, Patch.write("a2.3@5", x)).stream(OUT)
        for x in (value, value * (1 + 2**-20))
    )
    expected = dense.patched(model(), clean, Patch.write("a2.3@5", value))["out"]
    assert torch.equal(found, expected)
    assert not torch.equal(near, expected)


def test_a_sweep_gives_each_patch_what_it_gets_alone():
    clean, _ = runs()
    many = drawn(40)
    together = model().rerun(clean, many, "out@-1").values
    for patch, value in zip(many, together, strict=True):
        assert torch.equal(value, model().rerun(clean, patch)["out@-1"]), str(patch)
    assert len({value.numpy().tobytes() for value in together}) > 20


def same_cells(one: Trace, other: Trace) -> bool:
    return all(
        torch.equal(a, b)
        for x, y in zip(one.cells, other.cells, strict=True)
        for a, b in zip(vars(x).values(), vars(y).values(), strict=True)
    )


OWN = {
    "write": [
        "emb",
        "pos",
        "input",
        "a5.3",
        "a5",
        "a5.b",
        "m5.n100",
        "m5",
        "m5.b",
        "out.b",
        "resid5",
        "resid5.mid",
        "resid12",
        "a5.3.z",
        "a5.z",
        "a5.3.pattern",
        "a5.pattern",
        "a5.3@2",
        "m5.n100@-1",
    ],
    "read": ["a5.3>a8.1.q", "m5>a8.1.k", "input>a0.0.v", "m2.n7>m8.in", "a5.b>out", "m11>out"],
    "input": ["a5.3.q", "a5.3.k@4", "a5.3.v", "m5.in", "out"],
    "hold": ["heads", "mlps", "heads mlps"],
}


@pytest.mark.parametrize(
    ("kind", "address"), [(kind, address) for kind, many in OWN.items() for address in many]
)
def test_a_patch_with_the_runs_own_value_changes_no_bit(kind, address):
    clean, corrupt = runs()
    found = model().rerun(clean, getattr(Patch, kind)(address, clean))
    assert same_cells(found, clean)
    assert found.receipt.changed == 0
    if kind != "hold" and address not in (
        "a5.b",
        "m5.b",
        "out.b",
        "pos",
        "a5.b>out",
    ):  # which are the same in every run of these lengths
        assert model().rerun(clean, getattr(Patch, kind)(address, corrupt)).receipt.changed > 0


def test_the_empty_patch_is_the_run():
    clean, corrupt = runs()
    assert same_cells(model().rerun(clean, Patch()), clean)
    assert not same_cells(corrupt, clean)


# Path patching and edges against plain hooks on Hugging Face's model, a code of its own
# (benchmarks/peers/hooks.py).

RECEIVERS = {"q": [(7, 3), (9, 0)], "k": [(6, 2), (8, 11)], "v": [(7, 3), (7, 9), (8, 6), (8, 10)]}
POSITION = {"out": LENGTH - 1, "q": LENGTH - 1, "k": 7, "v": 8}
SENDERS = [str(site) for site in heads(CONFIG)][::11]
# float32: the share of the metric that rounding may reach. float64: the share of the largest
# effect.
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-9}


@cache
def theirs(dtype: torch.dtype) -> hooks.GPT2LMHeadModel:
    return check.random_model(vocabulary=VOCABULARY).to(dtype)


@cache
def ours(dtype: torch.dtype) -> GPT2:
    state = theirs(dtype).state_dict()
    return GPT2(
        build(
            CONFIG,
            {
                name.removeprefix("transformer."): x
                for name, x in state.items()
                if name != "lm_head.weight"
            },
        )
    )


def pairs() -> Prompts:
    """Prompts whose twins differ in three tokens."""
    corrupt = tokens(2).clone()
    corrupt[:, [3, 6, 8]] = tokens(3)[:, [3, 6, 8]]
    return Prompts(tokens(2), corrupt, tokens(4)[:, 0], tokens(4)[:, 1])


@torch.no_grad()
def hooked(dtype: torch.dtype, workload: str, **more: object) -> np.ndarray:
    """The patched metric as plain hooks compute it."""
    prompts = pairs()
    common = {
        "clean": prompts.clean,
        "corrupt": prompts.corrupt,
        "answers": prompts.answers[:, 0],
        "distractors": prompts.distractors[:, 0],
    }
    inputs = Inputs({name: np.asarray(x) for name, x in (common | more).items()})
    return hooks.WORKLOADS[workload](theirs(dtype), inputs)().numpy()


def apart(found: Effects, expected: np.ndarray) -> float:
    """The largest difference of the patched metric: as a share of the metric, in float64 of the
    largest effect."""
    off = np.abs((found.per_prompt + found.base).numpy() - expected).max()
    return float(
        off
        / (np.abs(expected).max() if expected.dtype == np.float32 else found.per_prompt.abs().max())
    )


def path_patched(dtype: torch.dtype, receivers: list[str], at: int, meaning: str) -> Effects:
    return patching.paths(
        ours(dtype), pairs(), metrics.logit_diff(pairs()), SENDERS, receivers, at, meaning
    )


def ports(kind: str) -> list[str]:
    return (
        ["out"] if kind == "out" else [f"a{layer}.{head}.{kind}" for layer, head in RECEIVERS[kind]]
    )


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("kind", list(POSITION))
@pytest.mark.parametrize("meaning", ["recompute", "frozen"])
def test_path_patching_is_what_plain_hooks_compute(meaning, kind, dtype):
    senders = [tuple(map(int, head.removeprefix("a").split("."))) for head in SENDERS]
    expected = hooked(
        dtype,
        f"w3_{kind}" + "_frozen" * (meaning == "frozen"),
        senders=senders,
        position=POSITION[kind],
        receivers=RECEIVERS.get(kind, []),
    )
    gap = apart(path_patched(dtype, ports(kind), POSITION[kind], meaning), expected)
    print(f"{meaning}, {kind}: {gap:.1e}")
    assert gap <= LIMITS[dtype]


def test_another_receiver_position_or_meaning_would_be_seen():
    """The twin: what differs a little in what was asked differs by far more than the limits."""
    receivers, senders = (
        RECEIVERS["v"],
        [tuple(map(int, head.removeprefix("a").split("."))) for head in SENDERS],
    )
    for dtype, limit in LIMITS.items():
        expected = hooked(dtype, "w3_v", senders=senders, position=8, receivers=receivers)
        others = [
            (ports("v")[:3], 8, "recompute"),
            (["a7.3.k", *ports("v")[1:]], 8, "recompute"),
            (ports("v"), 6, "recompute"),
            (ports("v"), 8, "frozen"),
        ]
        gaps = [apart(path_patched(dtype, *other), expected) for other in others]
        print(dtype, [f"{gap:.1e}" for gap in gaps])
        assert min(gaps) > 10 * limit


@pytest.mark.parametrize("dtype", list(LIMITS))
def test_edges_are_what_plain_hooks_compute(dtype):
    every = list(edges(CONFIG))
    some = [every[i] for i in np.random.default_rng(0).choice(len(every), 40, replace=False)]
    assert {text.rsplit(".", 1)[-1] for text in some} >= {"q", "k", "v", "in"}
    some += ["a3.4>out", "m7>out", "input>out"]
    expected = hooked(dtype, "w1_edges", **check.columns([peer_edge(text) for text in some]))
    gap = apart(patching.edges(ours(dtype), pairs(), metrics.logit_diff(pairs()), some), expected)
    turned = apart(
        patching.edges(ours(dtype), pairs(), metrics.logit_diff(pairs()), [*some[1:], some[0]]),
        expected,
    )
    print(f"{gap:.1e}; the same edges, each against its neighbour: {turned:.1e}")
    assert gap <= LIMITS[dtype]
    assert turned > 10 * LIMITS[dtype]
