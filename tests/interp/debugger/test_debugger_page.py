"""The page's own small functions, without a browser: tokens as they are typed, scripts with totals,
work in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weights
from interp.debugger import export, numbers
from interp.debugger.cards import attention, charts, form, tokens
from interp.debugger.cards.progress import paced
from interp.debugger.cards.table import with_totals
from interp.debugger.cards.welcome import worked
from interp.debugger.question import Question, QuestionError
from interp.debugger.session import Session


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=5)
)
def test_tokens_are_read_as_they_were_written(given: list[str]) -> None:
    assert tokens.read(tokens.write(given)) == tuple(given)


def test_a_bare_word_has_its_space_and_a_quoted_one_is_as_it_stands() -> None:
    assert tokens.read('Mary, "John" ,  " the","\\n"') == (" Mary", "John", " the", "\n")
    assert tokens.write((" Mary", "John")) == 'Mary, "John"'


@pytest.mark.parametrize("text", ['"Mary', 'Mary "John', '"\\x"'])
def test_twin_tokens_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(QuestionError, match="try:"):
        tokens.read(text)


def test_a_token_is_escaped() -> None:
    assert "<script>" not in tokens.chip("<script>", title='"><script>')
    assert "&lt;script&gt;" in tokens.chip("<script>")


def test_the_head_and_the_place_of_a_row() -> None:
    assert [
        attention.head(node) for node in ("a2.6@13<3", "a2.6@13", "a2.b@13", "m1@4", "", "nonsense")
    ] == ["a2.6", "a2.6", "", "", "", ""]
    assert (attention.place("a2.6@13<3"), attention.place("a2.6@13")) == ((13, 3), (13, None))


def test_a_form_that_changes_nothing_keeps_the_node_and_the_trail() -> None:
    question = Question(prompt="a", node="a0.0@1", trail=("a0.0.q@1<0",))
    same = {"prompt": "a", "metric": "logits"}
    assert form.following(question, same) == {}
    assert form.following(question, {**same, "prompt": "b"}) == {
        "node": "",
        "trail": (),
        "graph": (),
    }
    by_effect = replace(question, sort="direct.right")
    assert form.following(by_effect, {**same, "metric": "loss"})["sort"] == ""
    assert "sort" not in form.following(replace(question, sort="norm"), {**same, "metric": "loss"})


def test_what_arrives_at_once_is_passed_on_at_once_and_in_order() -> None:
    async def items() -> AsyncIterator[int]:
        for i in range(20):
            await asyncio.sleep(0.005)
            yield i

    async def lists(seconds: float) -> list[list[int]]:
        return [found async for found in paced(items(), seconds)]

    for seconds, most in ((0.03, 10), (9.0, 1)):
        found = asyncio.run(lists(seconds))
        assert [i for some in found for i in some] == list(range(20))
        assert len(found) <= most


def test_a_nodes_script_asks_for_the_totals_that_are_known() -> None:
    script = with_totals(export.as_python(Question(prompt="a"), "nodes"), ("a0.0@0",))
    compile(script, "script", "exec")
    assert "totals.complete(runs, ['a0.0@0'])" in script
    assert script.count("print(") == 1


def test_numbers_have_a_real_minus_and_nothing_is_nothing() -> None:
    assert [numbers.signed(x) for x in (1.5, -1.5, None)] == ["+1.500", "−1.500", ""]
    assert [numbers.sign(x) for x in (1.5, -1.5, 0.0, None)] == ["for", "against", "", ""]


def test_a_signed_map_is_white_in_the_middle() -> None:
    picture = charts.heat([(0, 0, -2.0, "a")], ["0"], ["0"], signed=True, top=2.0)
    colours = picture["visualMap"]["inRange"]["color"]
    assert (picture["visualMap"]["min"], picture["visualMap"]["max"]) == (-2.0, 2.0)
    assert colours[len(colours) // 2].endswith(",0.00)")
    assert len(set(colours)) == len(colours)


@pytest.mark.parametrize("model", ["ioi-mini", "tasks-mini"])
def test_every_worked_question_is_a_link_that_leads_back_to_it(model: str) -> None:
    session = Session({model: weights.load(model)})
    assert len(worked(model)) == 5
    for each in worked(model):
        assert Question.from_url(each.question.to_url()) == each.question
        assert each.question.model == model
        shown = export.result(session.runs(each.question), "summary")
        assert shown.next[0].token in each.question.answers


def test_nothing_is_asked_yet_of_a_model_that_is_there() -> None:
    mini = weights.load("tasks-mini")
    assert Session({"tasks-mini": mini}).blank == Question(model="tasks-mini")
    assert Session({"mine": mini, "ioi-mini": mini}).blank == Question()


def test_of_another_model_nothing_is_asked() -> None:
    assert worked("mine") == ()
