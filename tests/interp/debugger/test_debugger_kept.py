"""In a browser: latents of the embedded dictionaries are cut out, looked at and switched off; views
are saved under names; nodes of the graph are pinned and noted; a node is pushed to the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interp.debugger.nodes import table
from interp.debugger.question import Question
from interp.debugger.session import runs
from tests.browser import needs_chromium, served
from tests.interp.debugger.questions import ASKED, MODEL
from tests.interp.debugger.tab import Tab, settled, sync_api, tab_of
from tests.interp.debugger.test_debugger_look import serious
from weights import load_dictionaries

pytestmark = needs_chromium

LIT = replace(ASKED, split=("latents",))
GRAPH = replace(ASKED, graph=("a2.6@13", "a3.4@13", "emb@1"), node="a2.6@13")


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "views.json"


@pytest.fixture(scope="module")
def server(views: Path) -> Iterator[str]:
    with served("--views", str(views)) as found:
        yield found.url


@pytest.fixture(scope="module")
def strongest() -> str:
    """The latent of m3 with the largest direct effect."""
    model = MODEL.with_dictionaries(*load_dictionaries("ioi-mini"))
    rows = table(runs(model, replace(LIT, find="m3 latent"))).rows
    return rows[0].address


@pytest.mark.slow
def test_latents_are_switched_on_looked_at_and_switched_off(tab: Tab, strongest: str) -> None:
    settled(tab.open(ASKED))
    tab.one("split-latents").click()
    tab.addressed(split=("latents",))
    words = settled(tab)
    assert strongest in words
    assert "m3.e@13" in words
    assert re.search(r"Direct effects sum to \S+ = logit difference", words)
    tab.cell(strongest, "address").click()
    tab.addressed(node=strongest)
    for said in ("Its score is made of", "Switched on by", "Promotes"):
        tab.says("details", said)
    tab.one("act-zero").click()
    tab.addressed(patches=(f"{strongest} = 0",))
    tab.says("verdict", f"Without {strongest}: ")
    settled(tab)
    assert serious(tab) == []


def test_an_mlp_is_split_into_latents_from_its_own_card(tab: Tab) -> None:
    settled(tab.open(replace(ASKED, node="m3@13")))
    tab.page.get_by_role("button", name="Split into latents").click()
    tab.addressed(split=("latents",), find="m3")
    assert "m3.l" in settled(tab)


@pytest.mark.slow
def test_a_view_is_saved_found_again_and_dropped(tab: Tab, views: Path) -> None:
    settled(tab.open(LIT))
    tab.one("views").click()
    tab.one("view-name").fill("")
    tab.one("save-view").click()
    tab.says("view-error", "a name of 1 to")
    tab.one("view-name").fill("latents of <m3>")
    tab.one("save-view").click()
    tab.page.get_by_role("button", name="latents of <m3>", exact=True).wait_for()
    assert Question.from_url(json.loads(views.read_text())["latents of <m3>"]) == LIT
    settled(tab.open(ASKED))
    tab.one("views").click()
    tab.page.get_by_role("button", name="latents of <m3>", exact=True).click()
    tab.addressed(split=("latents",))
    tab.one("views").click()
    tab.page.get_by_role("button", name="Drop latents of <m3>").click()
    tab.page.get_by_text("None yet.").wait_for()
    assert json.loads(views.read_text()) == {}


@pytest.mark.slow
def test_a_node_of_the_graph_is_pinned_and_noted(tab: Tab) -> None:
    settled(tab.open(GRAPH))
    tab.one("pin").click()
    tab.addressed(pins=("a2.6@13",))
    tab.page.get_by_role("button", name="Unpin").wait_for()  # the card is drawn anew
    settled(tab)
    tab.one("graph-note").fill("copies the <b>name</b>")
    tab.one("graph-note").press("Tab")
    tab.addressed(notes=("a2.6@13 copies the <b>name</b>",))
    settled(tab)
    label = tab.one("graph-chart").get_attribute("aria-label")
    assert "a2.6@13: copies the <b>name</b>." in label
    assert tab.page.locator("b", has_text="name").count() == 0, "no element made of the note"
    tab.page.get_by_role("button", name="Unpin").click()
    tab.addressed(pins=())
    assert serious(tab) == []


def test_a_node_is_pushed_to_the_answer(tab: Tab) -> None:
    settled(tab.open(replace(ASKED, node="a2.6@13")))
    tab.one("factor").last.fill("4")
    tab.one("act-push").click()
    tab.addressed(patches=("a2.6@13 += 4*answer",))
    tab.says("metric-value", "→")
    before, after = (
        float(text.replace("−", "-").replace("→", ""))
        for text in tab.one("metric-value").locator("b").all_inner_texts()[:2]
    )
    assert after > before


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_latents_fit_the_screen(browser, server, width, scheme, strongest) -> None:
    height = 800 if width == 1280 else 844
    with tab_of(browser, server, width, height, color_scheme=scheme) as tab:
        settled(tab.open(replace(LIT, node=strongest)))
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(tab) == []
        assert sync_api is not None
