"""Views under names, notes and pins of the graph, directions: what a person keeps and adds."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import torch

from interp.debugger import intervene, session
from interp.debugger.cards import graph as picture
from interp.debugger.graph import graph
from interp.debugger.question import Question, QuestionError, notes_of
from interp.debugger.saved import LONGEST, Saved, ViewsError
from interp.debugger.session import runs
from tests.interp.debugger.questions import ASKED, LONGER, MODEL, OTHER

GRAPH = replace(
    ASKED,
    graph=("a2.6@13", "a3.4@13", "emb@1"),
    pins=("emb@1",),
    notes=("a2.6@13 copies the name", "a3.4@13 <b>moves</b> it to the end of everything here"),
)


# ---- saved views


@pytest.fixture
def saved(tmp_path) -> Saved:
    return Saved(tmp_path / "views.json")


def test_a_view_comes_back_as_it_was_saved(saved):
    assert saved.all() == {}
    assert not saved.file.exists(), "nothing is written before something is saved"
    saved.save("  with notes ", GRAPH)
    saved.save("é, 日本", ASKED)
    assert list(saved.all()) == ["with notes", "é, 日本"]
    assert Question.from_url(saved.all()["with notes"]) == GRAPH
    saved.save("with notes", ASKED)
    assert Question.from_url(saved.all()["with notes"]) == ASKED
    saved.drop("with notes")
    assert list(saved.all()) == ["é, 日本"]
    assert [path.name for path in saved.file.parent.iterdir()] == ["views.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "\x00\xff", "[" * 100_000])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(saved, text):
    saved.file.write_text(text)
    for act in (saved.all, lambda: saved.save("x", ASKED), lambda: saved.drop("x")):
        with pytest.raises(ViewsError, match=r"holds no views.*\n.*left as it is"):
            act()
    assert saved.file.read_text() == text


def test_names_that_none_can_have_are_refused(saved, tmp_path):
    for name in ("", "   ", "x" * (LONGEST + 1), "a\nb"):
        with pytest.raises(ViewsError, match="a name of 1 to"):
            saved.save(name, ASKED)
    with pytest.raises(ViewsError, match="no view is called 'x'"):
        saved.drop("x")
    with pytest.raises(ViewsError, match="can be written"):
        Saved(tmp_path / "no" / "folder.json").save("x", ASKED)


def test_a_file_that_cannot_be_put_in_place_leaves_the_old_one(saved, monkeypatch):
    saved.save("kept", ASKED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(ViewsError, match="No space left"):
        saved.save("lost", ASKED)
    assert list(saved.all()) == ["kept"]


def test_two_windows_lose_nothing_of_one_anothers(saved):
    other = Saved(saved.file)
    saved.save("one", ASKED)
    other.save("two", ASKED)
    saved.save("three", ASKED)
    assert set(other.all()) == {"one", "two", "three"}
    assert threading.active_count() < 100


# ---- notes and pins


def test_notes_and_pins_are_part_of_the_link():
    assert Question.from_url(GRAPH.to_url()) == GRAPH
    assert notes_of(GRAPH)["a2.6@13"] == "copies the name"
    assert notes_of(replace(GRAPH, notes=("a2.6@13", "a2.6@13  "))) == {}
    assert notes_of(replace(GRAPH, notes=("x one", "x two"))) == {"x": "two"}


def test_the_picture_has_notes_under_names_and_all_edges_of_a_pinned_node():
    drawn = graph(runs(MODEL, GRAPH))
    few = picture._strongest(drawn, 1)
    pinned = picture._pinned(drawn, GRAPH.pins)
    touching = [e for e in drawn.edges if "emb@1" in (e.sender, e.receiver) and e.effect]
    assert pinned == touching
    assert len(pinned) > 1
    assert picture._pinned(drawn, ()) == []
    shown = picture.options(drawn, [*few, *pinned], 1, notes_of(GRAPH), GRAPH.pins)
    nodes = {node["name"]: node for node in shown["series"][0]["data"]}
    assert nodes["a2.6@13"]["label"]["formatter"] == "a2.6\ncopies the name"
    assert nodes["emb@1"]["itemStyle"]["borderWidth"] == 2
    assert "borderWidth" not in nodes["a2.6@13"]["itemStyle"]
    long = nodes["a3.4@13"]
    assert len(long["label"]["formatter"]) <= len("a3.4\n") + picture.NOTE
    assert "&lt;b&gt;moves" in long["tooltip"]["formatter"], "escaped where it is HTML"
    json.dumps(shown)


# ---- directions


def after(*lines: str, **more: object) -> session.Runs:
    return runs(MODEL, replace(ASKED, patches=lines, **more))


def test_a_push_toward_the_answer_is_that_much_of_its_direction():
    u = MODEL.params.unembed.double()
    right, wrong = (MODEL.tokenizer.single(token) for token in (" Mary", " John"))
    unit = (u[right] - u[wrong]) / (u[right] - u[wrong]).norm()
    for address in ("a2.6@13", "resid2@13", "m1", "resid3.mid@-1"):
        side = after(f"{address} += 4*answer").after
        now, before = side.trace[address], side.base[address]
        torch.testing.assert_close(
            (now - before).double(), (4 * unit).expand_as(now), atol=1e-4, rtol=1e-4
        )
    assert float(side.metric(side.trace) - side.metric(side.base)) > 0.5
    # Another answer is another direction, and another run.
    other = runs(MODEL, replace(ASKED, answers=(" Megan",), patches=("m3@13 += 4*answer",))).after
    assert not torch.equal(other.trace.logits, after("m3@13 += 4*answer").after.trace.logits)
    same = session.Session({"ioi-mini": MODEL})
    one = same.runs(replace(ASKED, patches=("m3@13 += 4*answer",))).after.trace
    two = same.runs(replace(ASKED, answers=(" Megan",), patches=("m3@13 += 4*answer",))).after.trace
    assert not torch.equal(one.logits, two.logits)


def test_the_whole_difference_makes_it_the_other_prompts():
    side = after("resid2 += 1*difference", other=OTHER).after
    torch.testing.assert_close(side.trace["resid2"], MODEL.run(OTHER)["resid2"])
    half = after("resid2@9 += 0.5*difference", other=OTHER).after.trace["resid2@9"]
    mean = (MODEL.run(OTHER)["resid2@9"] + MODEL.run(ASKED.prompt)["resid2@9"]) / 2
    torch.testing.assert_close(half, mean)


@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        ("a2.6.q@13 += 4*answer", {}, "a write or a stream point"),
        ("a2.6>out += 4*answer", {}, "a write or a stream point"),
        ("a2.6 *= 4*answer", {}, "a number"),
        ("a2.6 += 4*nothing", {}, r"4\*answer"),
        ("a2.6 += 4e9*answer", {}, "factor"),
        ("a2.6 += 1*difference", {}, "a second prompt"),
        ("a2.6 += 1*difference", {"other": LONGER}, "as many tokens"),
    ],
)
def test_a_direction_that_means_nothing_is_refused(line, more, said):
    with pytest.raises((QuestionError, Exception), match=said):
        after(line, **more)


def test_the_button_writes_the_line():
    assert intervene.line("push", "a2.6@13", 4) == "a2.6@13 += 4*answer"
    assert intervene.line("zero", "a2.6@13") == "a2.6@13 = 0"
    with pytest.raises(QuestionError, match="a finite number"):
        intervene.line("push", "a2.6@13")
    assert intervene.target("a2.6@13 += 4*answer") == "a2.6@13"
    assert intervene.target("a2.6@13<1 *= 2") == "a2.6@13<1"
    assert intervene.target("nonsense") == "nonsense"
