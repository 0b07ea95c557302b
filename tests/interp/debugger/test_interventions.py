"""Interventions are lines and lines are patches; what they change is shown beside what was."""

from __future__ import annotations

import pytest
import torch

from interp import attribution
from interp.debugger import intervene
from interp.debugger.both import both
from interp.debugger.nodes import table
from interp.debugger.question import QuestionError
from interp.debugger.summary import summary
from minigpt import Patch
from tests.interp.debugger.questions import LONGER, METRIC, MODEL, OTHER, PROMPT, asked, exact

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_operations_are_lines_and_lines_are_patches():
    lines = [
        intervene.line("zero", "a2.6@13"),
        intervene.line("mean", "m1"),
        intervene.line("scale", "a3.1", 0.5),
        intervene.line("freeze", "a3.2"),
        intervene.line("other", "a0.6>a2.1.v@9"),
    ]
    assert lines == [
        "a2.6@13 = 0",
        "m1 = mean(reference)",
        "a3.1 = x0.5",
        "a3.2 = this",
        "a0.6>a2.1.v@9 = other",
    ]
    found = asked(other=OTHER, patches=tuple(lines))
    clean, other = MODEL.run(PROMPT), MODEL.run(OTHER)
    reference = found.left.sources.reference()
    patch = (
        Patch.zero("a2.6@13")
        | Patch.mean("m1", reference)
        | Patch.write("a3.1", 0.5 * clean["a3.1"])
        | Patch.write("a3.2", clean)
        | Patch.read("a0.6>a2.1.v@9", other)
    )
    assert torch.equal(found.right.trace.logits, MODEL.rerun(clean, patch).logits)
    assert found.right.trace["a3.2"].equal(clean["a3.2"])
    for wrong in (("scale", None), ("zero", 2.0), ("scale", float("inf")), ("vanish", None)):
        with pytest.raises(QuestionError):
            intervene.line(wrong[0], "a2.6", wrong[1])


def test_before_after_and_difference_show_how_other_nodes_respond():
    found = asked(patches=("a3.4 = 0", "a2.6@13 = 0"), sort="direct.difference", k=50)
    shown, clean = table(found), MODEL.run(PROMPT)
    patched = MODEL.rerun(clean, Patch.zero("a3.4") | Patch.zero("a2.6@13"))
    before, after = (dict(attribution.direct(trace, METRIC)) for trace in (clean, patched))
    responding = {row.address: row for row in shown.rows}
    assert responding["a3.7@13"].direct == both(before["a3.7"], after["a3.7"])
    assert responding["a3.4@13"].direct.right == 0
    assert [row.direct.difference for row in shown.rows] == sorted(
        (row.direct.difference for row in shown.rows), reverse=True
    )
    receipt = summary(found).receipt
    assert (receipt.changed, receipt.words) == (patched.receipt.changed, str(patched.receipt))


def test_undo_is_a_shorter_list():
    lines = ("a3.4 = 0", "a2.6@13 = 0")
    assert torch.equal(
        asked(patches=lines[:1]).right.trace.logits,
        MODEL.rerun(MODEL.run(PROMPT), Patch.zero("a3.4")).logits,
    )
    assert asked(patches=()).right is None


def test_an_intervention_that_changes_nothing_is_said_to():
    found = summary(asked(patches=("a3.4 = this",)))
    assert not found.receipt.effective
    assert any("changed nothing" in note for note in found.notes)


@pytest.mark.parametrize("source", ["0", "x0.5", "this", "mean(reference)", "other"])
def test_what_a_head_takes_from_one_position_is_a_target_like_any_other(source):
    line = f"a2.6@13<1 = {source}"
    found, clean = asked(other=OTHER, patches=(line, "a0.1 = 0")), MODEL.run(PROMPT)
    given = {
        "0": 0.0,
        "x0.5": 0.5 * clean["a2.6@13<1"],
        "this": clean,
        "mean(reference)": found.left.sources.reference()["a2.6@13<1"].mean(0),
        "other": MODEL.run(OTHER),
    }[source]
    patch = Patch.zero("a0.1") | Patch.write("a2.6@13<1", given)
    torch.testing.assert_close(found.right.trace.logits, MODEL.rerun(clean, patch).logits)
    assert not torch.equal(found.right.trace.logits, MODEL.rerun(clean, "a0.1 = 0").logits)


def test_the_other_pair_is_between_twins_where_the_prompts_differ_in_length():
    found, there = asked(other=LONGER, patches=("a2.6@13<1 = other",)), MODEL.run(LONGER)
    value = found.right.trace["a2.6@13<1"]
    torch.testing.assert_close(value, there[f"a2.6@-1<{there.tokens.shape[1] - 13}"])
    first = asked(other=LONGER)
    assert first.twins[1] == there.tokens.shape[1] - 13


def test_direct_effects_by_source_sum_to_the_metric_whatever_is_written_to_pairs():
    clean = MODEL.run(PROMPT)
    for text in ("a3.4@13<9 = other", "a3.4@13<9 = v; a3.4@13<1 *= 2", "a3.4@13<9 += v"):
        patch = Patch.parse(text, {"other": MODEL.run(OTHER), "v": clean["resid1@3"]})
        edited = MODEL.rerun(clean, patch)
        effects = attribution.direct(edited, METRIC, sources=True)
        assert attribution.closure(edited, METRIC, effects).holds


def test_an_edit_of_a_stream_is_a_row_and_the_sum_still_holds():
    found = table(exact(patches=("resid1@6 = x1.5", "a1.0@6 = x2"), sort="direct.right", k=1000))
    assert {"resid1@6"} <= {row.address for row in found.rows if row.kind == "edit"}
    assert found.sum.right == pytest.approx(found.metric.right, abs=1e-12)


@pytest.mark.parametrize(
    "line",
    ["m3.n5@13 = 7", "m3.n5@13 = -0.25", "a2.6 *= 0.5", "a2.6@13<1 *= 2", "resid2@9 += other"],
)
def test_a_line_may_hold_a_number_and_may_scale_or_add(line):
    found, clean = asked(other=OTHER, patches=(line,)), MODEL.run(PROMPT)
    patched = MODEL.rerun(clean, Patch.parse(line, {"other": MODEL.run(OTHER)}))
    assert torch.equal(found.after.trace.logits, patched.logits)
    assert not torch.equal(patched.logits, clean.logits)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a2.6 *= other", "or a number"),
        ("a2.6 += nothing", "or a number"),
        ("m3.n5 = 1e9", "no intervention|the source|factor"),
        ("a2.6 = 99999999", "the factor 99999999"),
        ("= 0", "no intervention"),
        ("a2.6", "no intervention"),
    ],
)
def test_what_is_no_line_is_refused_with_what_is(line, words):
    with pytest.raises(QuestionError, match=words):
        asked(other=OTHER, patches=(line,))


def test_adding_from_a_prompt_of_another_length_is_refused():
    with pytest.raises(QuestionError, match="differ in length"):
        asked(other=LONGER, patches=("resid2@9 += other",))
