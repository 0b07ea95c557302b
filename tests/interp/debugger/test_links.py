"""A question is a link: it brings every view back exactly, and nothing in it is without effect."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.debugger import export
from interp.debugger.question import SORTS, TABS, Question, QuestionError
from interp.debugger.session import Session, runs
from minigpt import MiniGPTError
from tests.interp.debugger.questions import ASKED, LAST, LONGER, MODEL, OTHER, PROMPT

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MANY = st.lists(TEXT, max_size=3).map(tuple)
CHOSEN = {
    "metric": st.sampled_from(["logits", "probability", "loss", "rank"]),
    "compare": st.sampled_from(["", "interventions", "other"]),
    "split": st.lists(st.sampled_from(["keys", "neurons"]), unique=True).map(tuple),
    "sort": st.sampled_from(SORTS),
    "k": st.integers(1, 1000),
    "instead": st.sampled_from(["0", "mean(reference)", "other"]),
    "tab": st.sampled_from(TABS),
}
QUESTIONS = st.fixed_dictionaries(
    {
        f.name: CHOSEN.get(f.name, MANY if isinstance(getattr(ASKED, f.name), tuple) else TEXT)
        for f in fields(Question)
    }
)


@given(QUESTIONS)
def test_a_link_brings_every_view_back_exactly(values):
    question = Question(**values)
    assert Question.from_url(question.to_url()) == question
    assert Question.from_url("?" + question.to_url()) == question


def test_what_is_at_its_default_is_left_out_of_a_link():
    assert Question().to_url() == ""
    assert ASKED.to_url() == urlencode(
        [("prompt", PROMPT), ("answers", " Mary"), ("distractors", " John")]
    )
    assert Question.from_url({"answers": [" Mary", " Anna"], "k": 3}) == Question(
        answers=(" Mary", " Anna"), k=3
    )


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("promt=x", ["promt", "prompt"]),
        ("k=many", ["k='many'", "whole number"]),
        ("k=0", ["k=0", "1 to 1000"]),
        ("prompt=a&prompt=b", ["prompt", "twice"]),
        ("sort=size", ["sort='size'", "direct"]),
        ("split=letters", ["split", "keys"]),
        ("instead=one", ["instead", "mean(reference)"]),
        ("&".join(["reference=a"] * 64), ["65 prompts", "up to 64"]),
        ("prompt=" + "a" * 20000, ["20,000 characters", "1,024 tokens"]),
        ("&".join(["trail=a2.3.v@3"] * 40), ["40 steps", "32"]),
        ("&".join(["graph=a2.3@3"] * 300), ["300 graph", "256"]),
    ],
)
def test_a_link_that_means_nothing_is_refused_with_what_is_legal(url, parts):
    with pytest.raises(QuestionError) as error:
        Question.from_url(url)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"answers": (" Marry",)}, ["' Marry' is", "one token"]),
        ({"prompt": ""}, ["empty"]),
        ({"prompt": "a " * 200}, ["201 tokens", "128"]),
        ({"answers": (" John",)}, ["answer and a distractor"]),
        ({"model": "gpt5"}, ["gpt5", "ioi-mini"]),
        ({"compare": "other"}, ["without another prompt"]),
        ({"patches": ("a9.9 = 0",)}, ["layer 9 of 4"]),
        ({"patches": ("a2.6 = other",)}, ["another prompt", "second prompt"]),
        ({"patches": ("a2.6 = one",)}, ["the source 'one'", "mean(reference)"]),
        ({"patches": ("a2.6",)}, ["no intervention"]),
        ({"patches": ("a2.6 = 0", "a2.6@3 = this")}, ["both decide"]),
        ({"patches": ("a2.6@40 = x2",)}, ["@40", "14 tokens"]),
        ({"patches": ("a2.6 = x1e9",)}, ["factor", "1,000,000"]),
        ({"reference": ("When Mary",)}, ["2 tokens", "14"]),
        ({"other": "Mary and Mary"}, ["14 and 3 tokens", "aligned"]),
    ],
)
def test_a_question_that_cannot_be_asked_says_what_to_type(changes, expected):
    model = replace(MODEL, name="ioi-mini")
    with pytest.raises(MiniGPTError) as error:
        Session({"ioi-mini": model}).runs(replace(ASKED, **changes))
    for part in expected:
        assert part in str(error.value)


CHANGES = {
    "prompt": OTHER,
    "answers": (" Anna",),
    "distractors": (" Anna",),
    "metric": "probability",
    "other": LONGER,
    "other_answers": (" Anna",),
    "other_distractors": (" Anna",),
    "reference": (OTHER,),
    "patches": ("a3.4 = 0",),
    "compare": "interventions",
    "split": ("neurons",),
    "sort": "norm",
    "find": "a3",
    "k": 3,
    "instead": "other",
    "node": "a3.4@13",
    "trail": ("a2.6.q@13<1",),
    "graph": ("a3.4@13",),
    "receivers": ("a3.4.q",),
    "at": "9",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_nothing_on_the_page_is_without_effect(name):
    base = replace(
        ASKED,
        other=OTHER,
        node="a2.6@13",
        trail=("a3.4.q@13<1",),
        instead="mean(reference)" if name == "reference" else "0",
    )

    def everything(question):
        found = runs(MODEL, replace(question, instead="other") if name == "at" else question)
        return [
            asdict(export.result(found, result))
            for result in export.RESULTS
            if result != "pathmap" or len(found.other.tokens) == LAST + 1
        ]

    mine, changed = everything(base), everything(replace(base, **{name: CHANGES[name]}))
    for found in (mine, changed):
        del found[0]["url"]
    assert mine != changed


def test_every_field_but_the_model_and_the_tab_is_tried_there():
    drawn = {"tab", "pins", "notes"}  # they change the picture, no number
    assert {field.name for field in fields(Question)} - {"model", *drawn} == set(CHANGES)


def test_the_tab_in_front_is_the_one_asked_for_or_the_one_that_is_filled():
    assert (ASKED.front, replace(ASKED, trail=("a2.6.q@13<1",)).front) == ("nodes", "trace")
    assert replace(ASKED, graph=("a2.6@13",)).front == "graph"
    assert replace(ASKED, graph=("a2.6@13",), tab="lens").front == "lens"
