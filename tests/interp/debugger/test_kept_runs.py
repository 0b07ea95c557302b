"""Runs are made once for all that ask, and kept within bounds."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from interp.debugger import session as sessions
from interp.debugger.cache import Kept
from interp.debugger.session import Session
from minigpt import GPT2
from tests.interp.debugger.questions import ASKED, MODEL, OTHER, PROMPT

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_a_run_is_made_once_for_all_that_ask(monkeypatch):
    made, real = [], GPT2.run
    monkeypatch.setattr(GPT2, "run", lambda self, prompts: (made.append(1), real(self, prompts))[1])
    session = Session({"ioi-mini": MODEL})
    threads = [
        threading.Thread(target=session.runs, args=(replace(ASKED, other=OTHER),)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2


def test_memory_is_bounded_and_the_least_used_goes_first():
    kept = Kept[str](10, len)
    for key in "abc":
        kept.get(key, lambda key=key: key * 4)
    assert len(kept) == 2
    assert kept.used == 8
    assert kept.get("b", lambda: "made again") == "bbbb"
    assert kept.get("a", lambda: "new") == "new"
    assert kept.get("c", lambda: "gone") == "gone"
    assert kept.get("large", lambda: "x" * 11) == "x" * 11
    assert kept.used <= 10
    session = Session({"ioi-mini": MODEL}, memory=3 * sessions.size(MODEL.run(PROMPT)))
    for name in (" Mary", " John", " Anna", " Grace", " Max"):
        session.runs(replace(ASKED, prompt=PROMPT.replace(" Mary", name)))
    assert len(session.kept) == 3


def test_a_run_that_fails_is_not_kept():
    kept = Kept[str](10, len)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: str(1 / 0))
    assert kept.get("a", lambda: "b") == "b"
