"""Two prompts side by side: aligned by how they begin and end, compared and patched where they have
twins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from interp import attribution
from interp.debugger.align import inverse, twins
from interp.debugger.nodes import table
from interp.debugger.question import QuestionError
from interp.debugger.session import runs
from interp.debugger.summary import summary
from minigpt import Patch
from tests.interp.debugger.questions import ASKED, LONGER, METRIC, MODEL, OTHER, PROMPT, asked

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_prompts_are_aligned_by_how_they_begin_and_end():
    assert twins(list("ABCD"), list("AXCD")) == (0, 1, 2, 3)
    assert twins(list("ABCD"), list("AXBCD")) == (0, 2, 3, 4)
    assert twins(list("ABQCD"), list("ABCD")) == (0, 1, None, 2, 3)
    assert twins(list("ABQCD"), list("ABXYZCD")) == (0, 1, None, 5, 6)
    assert twins(list("AB"), list("AXY")) == (0, 2)
    assert inverse((0, 1, None, 2, 3), 4) == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        ("ABC", "ABBC", "where the longer one has more is ambiguous"),
        ("AAAA", "AAA", "where the longer one has more is ambiguous"),
        ("ABA", "ABABA", "where the longer one has more is ambiguous"),
        ("ABC", "XYZW", "they begin and end with different tokens"),
        ("A", "XY", "they begin and end with different tokens"),
    ],
)
def test_prompts_that_cannot_be_aligned_are_refused_with_the_reason(left, right, why):
    for one, other in ((left, right), (right, left)):
        with pytest.raises(QuestionError, match=f"cannot be aligned: {why}") as error:
            twins(list(one), list(other))
        assert f"{len(one)} and {len(other)} tokens" in str(error.value)
        assert f"{len(one)}: {'|'.join(one)}" in str(error.value)
        assert f"{len(other)}: {'|'.join(other)}" in str(error.value)


def test_prompts_of_two_lengths_are_compared_and_patched_where_they_have_twins():
    found = asked(other=LONGER, sort="direct.difference", k=50)
    shown, clean, longer = table(found), MODEL.run(PROMPT), MODEL.run(LONGER)
    library = dict(attribution.direct(longer, METRIC))
    for row in shown.rows:
        assert row.direct.right == library[row.address.partition("@")[0]]
    patched = asked(
        other=LONGER, patches=("a2.6@-1 = other", "resid1@4 = other", "a0.6>a2.1.v@9 = other")
    ).right.trace
    expected = (
        Patch.write("a2.6@-1", longer["a2.6@-1"])
        | Patch.write("resid1@4", longer["resid1@6"])
        | Patch.read("a0.6>a2.1.v@9", longer["a0.6@11"])
    )
    assert torch.equal(patched.logits, MODEL.rerun(clean, expected).logits)
    assert any("aligned" in note for note in summary(found).notes)
    gone = PROMPT.replace("John gave a drink to", "John gave a big drink to")
    for line, why in (
        ("a2.6@12 = other", "no twin"),
        ("a2.6.pattern@-1 = other", "keys have no twin"),
        ("hold heads = other", "as many tokens"),
    ):
        with pytest.raises(QuestionError, match=why):
            runs(
                MODEL,
                replace(ASKED, prompt=gone.replace(" big", " nice"), other=PROMPT, patches=(line,)),
            )


@pytest.mark.parametrize("other", [LONGER, "Then a drink to"])
def test_what_heads_take_from_each_key_is_compared_with_what_they_take_from_its_twin(other):
    found = asked(other=other, split=("keys",), k=1000)
    theirs = {
        row.address: row
        for row in table(runs(MODEL, replace(ASKED, prompt=other, split=("keys",), k=1000))).rows
    }
    compared = 0
    for row in table(found).rows:
        there, key = found.twins[row.position], None if row.key is None else found.twins[row.key]
        if there is None or (key is None) != (row.key is None):
            assert row.norm.right is None
        else:
            address = f"{row.address.partition('@')[0]}@{there}" + (
                "" if key is None else f"<{key}"
            )
            assert address not in theirs or row.direct.right == theirs[address].direct.left
            compared += address in theirs
    assert compared > 50
    assert not any(row.kind == "edit" for row in table(found).rows)


def test_each_side_may_have_its_own_answers():
    found = summary(asked(other=OTHER, other_answers=(" John",), other_distractors=(" Mary",)))
    assert found.metric.right == -float(METRIC(MODEL.run(OTHER)))
    assert {row.token: (row.role, row.role_right) for row in found.next if row.role} == {
        " Mary": ("answer", "distractor"),
        " John": ("distractor", "answer"),
    }


def test_a_token_on_one_sides_list_has_its_true_logit_on_the_other():
    found = summary(asked(other=OTHER), k=3)
    theirs = MODEL.run(OTHER).logits[0, -1]
    mine = [row for row in found.next if row.rank.left < 3 and row.rank.right >= 3]
    assert mine
    for row in mine:
        assert row.logit.right == float(theirs[row.id])
        assert row.logit.difference == row.logit.right - row.logit.left
