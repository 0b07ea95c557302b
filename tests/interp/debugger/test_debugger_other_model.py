"""In a browser: a debugger that was begun with another model than the usual one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from interp.debugger.cards.welcome import TASKS, worked
from tests.browser import needs_chromium, served
from tests.interp.debugger.tab import Tab, settled, sync_api

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served("--model", TASKS) as found:  # which at its end has printed of no error
        yield found.url


def test_its_own_questions_are_offered_and_answered(tab: Tab, server: str) -> None:
    tab.open(f"{server}/")
    assert "Ask a model why" in tab.one("welcome").inner_text()
    sync_api.expect(tab.page.get_by_test_id("find")).to_be_hidden()
    tab.one("worked-2").click()
    assert "a2.4@13" in settled(tab)
    assert tab.question() == worked(TASKS)[1].question


def test_a_link_to_a_model_that_is_not_there_says_so(tab: Tab, server: str) -> None:
    asked = replace(worked(TASKS)[0].question, model="gpt2")
    tab.page.goto(f"{server}/?{asked.to_url()}")
    tab.page.get_by_text("the model 'gpt2'").first.wait_for()
    assert tab.question() == asked
