"""The table of nodes: every number is the library's, the rows sum to the metric, and every row
opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interp import attribution
from interp.debugger import upstream
from interp.debugger.both import Both, both
from interp.debugger.details import details
from interp.debugger.nodes import table
from interp.debugger.summary import summary
from minigpt import Patch
from tests.interp.debugger.questions import (
    EXACT,
    LAST,
    LETTER,
    LONGER,
    METRIC,
    MODEL,
    OTHER,
    PROMPT,
    asked,
    exact,
    metric_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_the_metric_and_the_logits_are_the_models():
    trace, found = MODEL.run(PROMPT), summary(asked(other=OTHER))
    assert found.metric.left == float(METRIC(trace))
    assert found.metric.right == float(METRIC(MODEL.run(OTHER)))
    logits = trace.logits[0, -1]
    for row in found.next:
        assert row.logit.left == float(logits[row.id])
        assert row.rank.left == int((logits > logits[row.id]).sum()) + 1
        assert row.probability.left == pytest.approx(
            float(logits.double().softmax(-1)[row.id]), rel=1e-6
        )
    assert [row.token for row in found.next if row.role == "answer"] == [" Mary"]
    assert [piece.position for piece in found.tokens if piece.differs] == [9]


def test_direct_effects_are_the_librarys_and_what_is_shown_sums_to_the_metric():
    for split in ((), ("keys",), ("neurons",), ("keys", "neurons")):
        found = table(asked(split=split, k=7))
        library = attribution.direct(
            MODEL.run(PROMPT), METRIC, neurons="neurons" in split, sources="keys" in split
        )
        known = {
            f"{name}@{LAST}"
            if ".v@" not in name
            else f"{name.partition('.v@')[0]}@{LAST}<{name.partition('@')[2]}": value
            for name, value in library
        }
        assert len(found.rows) == 14
        for row in found.rows:
            assert row.direct.left == known[row.address]
        assert sum(row.direct.left for row in found.rows) + found.rest.left == pytest.approx(
            found.metric.left, abs=1e-5
        )
        assert found.gap <= found.bound


def test_every_row_together_is_the_whole_table():
    found = table(exact(k=1000))
    assert found.rest.left == pytest.approx(0, abs=1e-12)
    assert sum(row.direct.left for row in found.rows) == pytest.approx(found.metric.left, abs=1e-12)
    assert found.count == 7 * len(
        list(attribution.direct(EXACT.run("ABCADBC"), metric_of(LETTER)).addresses)
    )


def test_twin_a_node_left_out_of_the_sum_is_seen(monkeypatch):
    whole = attribution.direct

    def less(*args, **kwargs):
        found = whole(*args, **kwargs)
        return found.rows([i for i, name in enumerate(found.addresses) if name != "a1.b"])

    monkeypatch.setattr(attribution, "direct", less)
    found = table(asked())
    assert found.gap > found.bound


def test_norms_and_activations_are_the_traces():
    trace, found = MODEL.run(PROMPT), table(asked(sort="norm", split=("neurons",), k=40))
    for row in found.rows:
        write = trace[row.address.partition("@")[0]][0, row.position]
        assert row.norm.left == pytest.approx(float(write.norm()), rel=1e-5)
        if row.kind == "neuron":
            assert row.activation.left == float(trace.act(row.address)[0])
        if row.kind == "head":
            assert row.activation.left == float(
                trace[f"{row.address.partition('@')[0]}.pattern@{row.position}"][0, row.key]
            )


def test_the_bottom_of_a_column_is_its_negative_end_and_masked_pairs_never_show():
    for sort in ("norm", "activation", "direct"):
        found = table(asked(split=("keys",), sort=sort, k=1000))
        assert all(row.key is None or row.key <= row.position for row in found.rows)
    assert all(row.norm.left > 0 for row in found.rows if row.kind == "pair")
    assert found.count == 14 * (2 + 4 * 2 + 1) + 32 * 14 * 15 // 2
    shown = table(asked(sort="direct", k=5)).rows
    assert [row.direct.left > 0 for row in shown] == [True] * 5 + [False] * 5


def test_a_norm_has_no_sign():
    found = table(asked(split=("neurons",), sort="activation", k=500))
    assert any(row.activation.left < 0 for row in found.rows)
    assert all(row.norm.left >= 0 for row in found.rows)


@pytest.mark.slow
def test_every_row_of_every_kind_opens():
    for changes in (
        {"split": ("keys",)},
        {"split": ("neurons",)},
        {"patches": ("resid2@13 = x2", "a3 = x2", "a1.2>a3.4.q@13 = 0")},
    ):
        found = asked(k=9, **changes)
        for row in table(found).rows:
            opened = details(found, row.address)
            assert opened.kind == row.kind
            assert opened.sides[0].promotes
            for step in opened.steps:
                assert upstream.upstream(
                    replace(found, question=replace(found.question, trail=(step,)))
                ).sources


def test_both_has_no_number_that_is_none():
    assert both(1.0, float("nan")) == Both(1.0)
    assert both(1.0, 3.0) == Both(1.0, 3.0, 2.0)
    assert both(None) == Both()


def test_who_responds_is_told_from_what_layernorms_scale_does():
    found = table(asked(patches=("a2.6@13 = 0",)))
    rows = {row.address: row for row in found.rows}
    assert [row.change.write for row in found.rows] == sorted(
        (row.change.write for row in found.rows), reverse=True
    )
    written = {name: rows[f"{name}@{LAST}"].change.write for name in ("m3", "a3.0", "a3.4")}
    assert written == pytest.approx({"m3": -1.105, "a3.0": 0.275, "a3.4": 0.092}, abs=1e-3)
    assert f"m0@{LAST}" not in rows
    for row in (*found.rows, table(asked(patches=("a2.6@13 = 0",), sort="change.scale")).rows[0]):
        assert row.change.write + row.change.scale == pytest.approx(row.direct.difference, abs=1e-9)
    whole = found.sum_change.write + found.sum_change.scale
    assert whole == pytest.approx(found.metric.difference, abs=1e-5)
    shown = sum(row.change.write for row in found.rows) + found.rest_change.write
    assert shown == pytest.approx(found.sum_change.write, abs=1e-9)


def test_an_upstream_node_writes_what_it_wrote_though_its_effect_grows():
    clean = MODEL.run(PROMPT)
    after = MODEL.rerun(clean, Patch.zero("a2.6@-1"))
    split = attribution.changed(clean, after, METRIC)
    grown = attribution.direct(after, METRIC)["m0"] - attribution.direct(clean, METRIC)["m0"]
    assert grown == pytest.approx(0.270, abs=1e-3)
    assert (split.write["m0"], split.scale["m0"]) == (0, pytest.approx(grown))
    # The same by hand: the write's change through the clean run's LayerNorm.
    change = (after["m3@-1"] - clean["m3@-1"])[0].double()
    toward = METRIC.direction(MODEL.params)[0] * MODEL.params.ln_w.double()
    by_hand = change @ (toward - toward.mean()) / float(clean.scale("out@-1"))
    assert split.write["m3"] == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.parametrize("split", [(), ("keys",), ("neurons",)])
def test_the_split_sums_however_the_table_is_cut_and_aligned(split):
    for more in ({"patches": ("m1 = 0", "resid2@13 = x2")}, {"other": LONGER}):
        found = table(asked(split=split, k=1000, **more))
        known = [row for row in found.rows if row.change.write is not None]
        assert known
        for row in known:
            both_parts = row.change.write + row.change.scale
            assert both_parts == pytest.approx(row.direct.difference, abs=1e-6)


def test_twin_the_rows_scale_is_not_the_other_runs(monkeypatch):
    own = attribution.direct

    def ignores(*args, scale=None, **more):
        return own(*args, **more)

    monkeypatch.setattr(attribution, "direct", ignores)
    found = table(asked(patches=("a2.6@13 = 0",)))
    assert f"m0@{LAST}" in {row.address for row in found.rows}
