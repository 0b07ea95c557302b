"""What was computed of a run is kept with it: undo, sorting, filtering and selecting compute
nothing anew, and what is kept says what would be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from interp import attribution
from interp.debugger import columns, export, order, totals, upstream
from interp.debugger import session as sessions
from interp.debugger.question import Question
from interp.debugger.session import Session
from minigpt import GPT2
from tests.interp.debugger.questions import EXACT, LETTER, exact

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
OTHER = LETTER.prompt.replace("AD", "CD")
LONGER = "E" + LETTER.prompt
CHANGED = replace(LETTER, patches=("a2.1 = 0",))
STEP = ("a2.0.q@6<3",)
NAMES = ["a1.1@6", "a1.1@6<1", "m1@3", "a2.1"]
# What takes time: by where it is looked up.
WORK = (
    (GPT2, "run"),
    (GPT2, "rerun"),
    (attribution, "direct"),
    (attribution, "closure"),
    (columns, "_heads"),
    (columns, "_pairs"),
    (upstream, "parts"),
)


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done of WORK meanwhile."""
    done: list[str] = []

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **more: (done.append(name), real(*given, **more))[1]

    with patch.context() as within:
        for owner, name in WORK:
            within.setattr(owner, name, counting(name, getattr(owner, name)))
        yield done


def answer(session: Session, question: Question) -> list[str]:
    """The table of a question, its step upstream, and some total effects."""
    runs = session.runs(question)
    names = ("nodes", *(["upstream"] if question.trail else []))
    effects = totals.complete(runs, NAMES[:1] if question.instead != "0" else NAMES)
    return [*(export.as_json(export.result(runs, name)) for name in names), repr(effects.effects)]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((LETTER, CHANGED), LETTER),
        ((LETTER, CHANGED, LETTER), CHANGED),
        ((replace(CHANGED, trail=STEP),), replace(CHANGED, trail=STEP)),
        ((LETTER,), replace(LETTER, sort="norm")),
        ((LETTER,), replace(LETTER, find="a1", k=3)),
        ((CHANGED,), replace(CHANGED, node="a1.1@6")),
        ((replace(LETTER, split=("keys",)),), replace(LETTER, split=("keys",), sort="activation")),
    ],
)
def test_nothing_is_computed_anew(first, then, monkeypatch):
    session = Session({"tiny": EXACT})
    for question in first:
        answer(session, question)
    with counted(monkeypatch) as done:
        kept = answer(session, then)
    assert done == []
    assert kept == answer(Session({"tiny": EXACT}), then)


def test_what_is_counted_is_what_a_session_that_keeps_nothing_does(monkeypatch):
    session = Session({"tiny": EXACT}, memory=0)
    answer(session, LETTER)
    with counted(monkeypatch) as done:
        answer(session, replace(CHANGED, trail=STEP))
    assert set(done) >= {"run", "rerun", "direct", "closure", "_heads", "parts"}


@pytest.mark.parametrize(
    "then",
    [
        replace(LETTER, answers=("A",)),
        replace(LETTER, metric="probability"),
        replace(LETTER, other=OTHER, instead="other"),
        replace(LETTER, other=OTHER, instead="mean(reference)"),
        replace(LETTER, prompt=LONGER, other=OTHER),
        replace(LETTER, patches=("a2.1 = 0", "m1@3 = 0")),
        replace(LETTER, trail=("a2.0.v@6",)),
    ],
)
def test_what_is_kept_answers_no_other_question(then, session):
    assert answer(session, then) == answer(Session({"tiny": EXACT}), then)


@pytest.fixture(scope="module")
def session() -> Session:
    """One that was asked about much."""
    full = Session({"tiny": EXACT})
    for question in (LETTER, CHANGED, replace(LETTER, other=OTHER), replace(LETTER, prompt=OTHER)):
        answer(full, question)
    return full


def test_the_question_is_part_of_what_is_kept(monkeypatch):
    monkeypatch.setattr(sessions.Side, "read", property(lambda self: "any"))
    session = Session({"tiny": EXACT})
    answer(session, LETTER)
    then = replace(LETTER, answers=("A",))
    kept = answer(session, then)
    monkeypatch.undo()
    assert kept != answer(Session({"tiny": EXACT}), then)


def test_total_effects_that_are_kept_come_first_and_at_once(monkeypatch):
    session = Session({"tiny": EXACT})
    totals.complete(session.runs(LETTER), NAMES[2:])
    with counted(monkeypatch) as done:
        stream = totals.totals(session.runs(LETTER), NAMES)
        at_once = next(stream)
        assert done == []
        rest = list(stream)
    assert (list(at_once.effects), at_once.done, at_once.of) == (NAMES[2:], 2, 4)
    assert at_once.receipt == totals.complete(exact(), NAMES[2:]).receipt
    assert [list(some.effects) for some in rest] == [NAMES[:2]]
    assert done == ["rerun"]


def test_results_and_runs_share_the_room_and_the_least_used_goes_first():
    room = 3 * sessions.size(EXACT.run(LETTER.prompt))
    session = Session({"tiny": EXACT}, memory=room)
    for letter in "ABC":
        answer(session, replace(LETTER, prompt=letter + LETTER.prompt[1:], split=("keys",)))
        assert 0 < session.kept.used <= room
    sizes = [taken for _, taken in session.kept._found.values()]
    assert session.kept.used == sum(sizes)


def test_one_question_runs_its_reference_once_though_it_cannot_be_kept(monkeypatch):
    asks = replace(LETTER, instead="mean(reference)", trail=STEP, patches=("m1 = mean(reference)",))
    with counted(monkeypatch) as done:
        runs = Session({"tiny": EXACT}, memory=0).runs(asks)
        upstream.upstream(runs)
        order.first(runs)
        totals.complete(runs, NAMES)
    assert done.count("run") == 2
    monkeypatch.setattr(sessions, "cache", lambda reference: reference)
    with counted(monkeypatch) as done:
        upstream.upstream(Session({"tiny": EXACT}, memory=0).runs(asks))
    assert done.count("run") > 10
