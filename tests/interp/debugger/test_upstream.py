"""Upstream: the parts of a score sum to it within its bound, and exact effects are reruns."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

import weights
from interp import attribution, parts
from interp.debugger import session as sessions
from interp.debugger import upstream
from interp.debugger.session import runs
from minigpt import Patch
from tests.conftest import some
from tests.interp.debugger.questions import (
    ASKED,
    EXACT,
    LETTER,
    LONGER,
    MODEL,
    asked,
    exact,
    metric_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
STEPS = ("a2.1.q@6<3", "a2.1.k@6<3", "a2.1@6<3", "a2.1@6<6", "a2.1.v@6<3", "a2.1.v@6", "m1.n5@4")
EDITED = (
    "a0.1@3 = 0",
    "resid1@3 = x1.5",
    "a1.0>a2.1.q@6 = x3",
    "m0 = x2",
    "m1.n2@4 = x-1",
    "resid2.mid@6 = x0.5",
)


@pytest.mark.parametrize("patches", [(), EDITED])
@pytest.mark.parametrize("split", [(), ("neurons",)])
@pytest.mark.parametrize("step", STEPS)
def test_parts_upstream_sum_to_the_score(step, split, patches):
    found = upstream.upstream(exact(trail=(step,), split=split, patches=patches))
    assert found.sum.left == pytest.approx(found.score.left, abs=1e-10)
    if patches:
        assert found.sum.right == pytest.approx(found.score.right, abs=1e-10)
        assert found.score.right != found.score.left
    assert sum(s.direct.left for s in found.sources) + found.rest.left == pytest.approx(
        found.score.left, abs=1e-10
    )


LIT = MODEL.with_dictionaries(*weights.load_dictionaries("ioi-mini"))


@pytest.mark.parametrize("patches", [(), ("m1.l138@13 = 0", "a2.6 = x0.5"), ("m1 = 0",)])
@pytest.mark.parametrize("step", some(["a3.4.v@13", "a3.4.q@13<1", "m2.n300@13"]))
def test_latents_upstream_stand_in_the_place_of_what_they_split(step, patches):
    asked = replace(ASKED, trail=(step,), patches=patches, k=1000)
    whole, cut = (
        upstream.upstream(runs(LIT, replace(asked, split=split))) for split in ((), ("latents",))
    )
    for each in (whole, cut):
        for side in ("left", "right") if patches else ("left",):
            assert getattr(each.sum, side) == pytest.approx(getattr(each.score, side), abs=1e-4)
    sums = {"m0": 0.0, "m1": 0.0}
    for source in cut.sources:
        name = source.edge.partition(">")[0].partition(".")[0]
        if name in sums and source.edge[2] == ".":
            sums[name] += source.direct.left
    rows = {name: 0.0 for name in sums}
    for source in whole.sources:
        if (name := source.edge.partition(">")[0]) in rows:
            rows[name] += source.direct.left
    assert sums == pytest.approx(rows, abs=1e-4)
    assert any(source.kind == "latent" and source.exact.left for source in cut.sources)
    names = {source.edge.partition(">")[0] for source in cut.sources}
    assert not names & {"m0", "m1"}


@pytest.mark.parametrize(
    "step", ["a3.4.q@13<1", "a3.4.k@13<1", "a3.4@13<1", "a3.4.v@13", "m2.n300@13"]
)
def test_in_float32_the_gap_is_under_its_bound(step):
    found = upstream.upstream(asked(trail=(step,)))
    assert 0 < found.gap <= found.bound


def doubtful(side: sessions.Side, block: int, weight: str) -> sessions.Side:
    """The same run, as if rounding in one bias of one block could have done very much."""
    params = side.trace.params
    changed = replace(params.blocks[block], **{weight: getattr(params.blocks[block], weight) + 1e6})
    blocks = (*params.blocks[:block], changed, *params.blocks[block + 1 :])
    return replace(side, trace=replace(side.trace, params=replace(params, blocks=blocks)))


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("a0.1.q@6<3", []),
        ("m0.n3@6", ["a0"]),
        ("a1.0.k@6<3", ["a0", "m0"]),
        ("m1.n3@6", ["a0", "m0", "a1"]),
        ("a2.1@6<3", ["a0", "m0", "a1", "m1"]),
        ("m2.n3@6", ["a0", "m0", "a1", "m1", "a2"]),
    ],
)
def test_the_bound_counts_the_rounding_of_every_write_that_the_step_reads_and_no_other(
    step, before
):
    asked_of = exact(trail=(step,))
    bound = upstream.upstream(asked_of).bound
    counted = []
    for layer, (half, bias) in product(range(3), {"a": "b_o", "m": "b_out"}.items()):
        there = replace(asked_of, left=doubtful(asked_of.left, layer, bias))
        counted += [f"{half}{layer}"] * (upstream.upstream(there).bound > 1e3 * bound)
    assert counted == before


def test_twin_a_bias_left_out_upstream_is_seen(monkeypatch):
    every = parts.nodes
    monkeypatch.setattr(
        "interp.parts.nodes", lambda config: (n for n in every(config) if str(n) != "a0.b")
    )
    found = upstream.upstream(exact(trail=("a2.1.q@6<3",)))
    assert found.gap > 1e-3
    assert found.gap > found.bound


def test_the_score_is_what_the_softmax_reads():
    trace = EXACT.run("ABCADBC")
    for through in (".q", ".k", ""):
        expected = trace["a2.1.q@6"][0] @ trace["a2.1.k@3"][0] * EXACT.config.d_head**-0.5
        assert upstream.upstream(exact(trail=(f"a2.1{through}@6<3",))).score.left == pytest.approx(
            float(expected), abs=1e-14
        )


def test_a_values_score_by_the_metric_is_the_heads_direct_effect():
    whole = upstream.upstream(exact(trail=("a2.1.v@6",))).score.left
    library = attribution.direct(EXACT.run("ABCADBC"), metric_of(LETTER))
    assert whole == pytest.approx(library["a2.1"], abs=1e-12)
    pieces = [upstream.upstream(exact(trail=(f"a2.1.v@6<{key}",))).score.left for key in range(7)]
    assert sum(pieces) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "read"),
    [
        ("a2.1.q@6<3", lambda t: t["a2.1.q@6"][0] @ t["a2.1.k@3"][0] * 0.5),
        ("a2.1.k@6<3", lambda t: t["a2.1.q@6"][0] @ t["a2.1.k@3"][0] * 0.5),
        ("m1.n5@4", lambda t: t["m1.in@4"][0] @ EXACT.params.blocks[1].w_in[:, 5]),
    ],
)
@pytest.mark.parametrize("instead", some(["other", "0", "mean(reference)"]))
def test_exact_effects_upstream_are_reruns_with_that_edge_patched(step, read, instead):
    other = "ABEADBC"
    found = upstream.upstream(
        exact(trail=(step,), instead=instead, other=other, compare="interventions")
    )
    clean, reference = EXACT.run("ABCADBC"), exact().left.sources.reference()
    given = {"0": 0.0, "other": EXACT.run(other)}
    for source in found.sources:
        if source.exact.left is not None:
            edge, at = source.edge.split("@")
            mean = reference[edge.partition(">")[0]][:, int(at)].mean(0)
            patched = EXACT.rerun(clean, Patch.read(source.edge, given.get(instead, mean)))
            assert source.exact.left == pytest.approx(
                float(read(patched) - read(clean)), abs=1e-10
            ), source.edge
    exacts = [source.exact.left for source in found.sources if source.exact.left is not None]
    assert len(exacts) > 5
    assert any(abs(x) > 1e-3 for x in exacts)


def test_exact_effects_of_values_are_reruns_too():
    found = upstream.upstream(exact(trail=("a2.1.v@6<3",)))
    clean = EXACT.run("ABCADBC")
    toward = EXACT.params.blocks[2].w_o[4:8] @ attribution.gradient(clean, metric_of(LETTER))[0]
    for source in (s for s in found.sources if s.exact.left is not None):
        patched = EXACT.rerun(clean, Patch.read(source.edge, 0.0))
        change = (
            (patched["a2.1.v@3"][0] - clean["a2.1.v@3"][0]) @ toward * clean["a2.1.pattern@6"][0, 3]
        )
        assert source.exact.left == pytest.approx(float(change), abs=1e-12)


def test_twin_a_direct_effect_is_not_the_exact_one():
    """LayerNorm's scale moves when a write is left out; were exact effects the closed form, the
    test above would see it."""
    found = upstream.upstream(exact(trail=("a2.1.q@6<3",)))
    assert (
        max(abs(s.exact.left + s.direct.left) for s in found.sources if s.exact.left is not None)
        > 1e-3
    )


def test_sources_upstream_on_both_sides_stand_side_by_side():
    alone = upstream.upstream(
        runs(MODEL, replace(ASKED, prompt=LONGER, trail=("a3.4.q@15<3",), k=100))
    )
    found = upstream.upstream(asked(other=LONGER, trail=("a3.4.q@13<1",), k=100))
    theirs = {source.address.partition("@")[0]: source.direct.left for source in alone.sources}
    assert found.score.right == alone.score.left
    for source in found.sources:
        if source.address:
            assert source.direct.right == theirs[source.address.partition("@")[0]]


def test_a_longer_other_prompt_takes_from_the_reference_where_it_has_twins():
    found = upstream.upstream(
        asked(other=LONGER, trail=("a3.4.q@13<1",), k=100, instead="mean(reference)")
    )
    longer, reference = MODEL.run(LONGER), asked().left.sources.reference()

    def score(trace):
        return (
            float(trace["a3.4.q@15"][0].double() @ longer["a3.4.k@3"][0].double())
            * MODEL.config.d_head**-0.5
        )

    compared = [
        (source.edge.partition(">")[0], source.exact.right)
        for source in found.sources
        if source.exact.right is not None
    ]
    for sender, change in compared:
        patched = MODEL.rerun(
            longer, Patch.read(f"{sender}>a3.4.q@15", reference[f"{sender}@13"].mean(0))
        )
        assert change == pytest.approx(score(patched) - score(longer), abs=1e-4), sender
    assert len(compared) > 5
