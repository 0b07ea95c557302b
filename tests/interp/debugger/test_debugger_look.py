"""How the debugger's page looks and feels: what is seen without scrolling, at every size and in
both schemes, by people who type, click, and use other means than eyes and a mouse."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from interp.debugger.cards.welcome import worked
from interp.debugger.continuation import continued
from interp.debugger.question import Question
from interp.debugger.session import runs
from tests.browser import needs_chromium
from tests.conftest import some
from tests.interp.debugger.questions import ASKED, LONGER, MODEL, OTHER, PROMPT
from tests.interp.debugger.tab import Tab, settled, sync_api, tab_of

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe: pip install '.[test]'"
)
pytestmark = needs_chromium

# By the view in front: the sentence that answers, and where its numbers begin.
SEEN = {
    "nodes": ("verdict", "[data-testid=node-grid] .ag-row"),
    "trace": ("upstream-verdict", "[data-testid=upstream-grid] .ag-row"),
    "graph": ("strongest", "[data-testid=graph-chart]"),
    "paths": ("pathmap-verdict", "[data-testid=pathmap-chart]"),
}
CHANGED = replace(ASKED, patches=("a2.6@13 = 0",), node="a3.4@13")
WIDTHS = {1280: 800, 1440: 900, 390: 844}


def bottom(tab: Tab, selector: str) -> float:
    box = tab.page.locator(selector).filter(visible=True).first.bounding_box()
    return box["y"] + box["height"]


@pytest.fixture
def laptop(browser, server: str):
    with tab_of(browser, server, 1280, 800) as tab:
        yield tab


@pytest.mark.parametrize("question", some([each.question for each in worked()], 3))
def test_the_answer_of_a_worked_question_is_seen_without_scrolling(laptop: Tab, question) -> None:
    settled(laptop.open(question))
    sentence, numbers = SEEN[question.front]
    assert re.search(r"[+−]\d+\.\d", laptop.one(sentence).inner_text())
    assert bottom(laptop, f"[data-testid={sentence}]") < 420
    row = laptop.page.locator(numbers).filter(visible=True).first.bounding_box()
    assert row["y"] + 27 < 520
    assert bottom(laptop, "[data-testid=metric-value]") < 130


@pytest.mark.slow
def test_the_strip_stays_when_the_page_is_scrolled(laptop: Tab) -> None:
    settled(laptop.open(CHANGED))
    laptop.page.mouse.move(400, 700)
    laptop.page.evaluate("window.scrollTo(0, 400)")
    assert laptop.page.locator(".strip-place").bounding_box()["y"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("question", [ASKED, CHANGED], ids=["one side", "two sides"])
def test_no_heading_of_the_table_is_cut(laptop: Tab, question: Question) -> None:
    settled(laptop.open(question))
    cut = laptop.page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=node-grid] .ag-header-cell-text')]
            .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"""
    )
    assert cut == []
    columns = laptop.one("node-grid").locator(".ag-header-cell-text").all_inner_texts()
    if question is CHANGED:
        wanted = ["node", "looks at", "before", "→ after"]
        assert columns == [*wanted, "write changed", "scale changed", "lost without it"]


def test_what_is_typed_into_the_filter_is_what_is_filtered(laptop: Tab) -> None:
    settled(laptop.open(ASKED))
    laptop.one("find").click()
    laptop.page.keyboard.type("a2", delay=60)
    laptop.addressed(find="a2")
    first = laptop.one("node-grid").locator(".ag-pinned-left-cols-container .ag-row")
    sync_api.expect(first.first).to_contain_text("a2.")
    assert all(text.startswith("a2") for text in first.all_inner_texts())
    laptop.page.keyboard.type(".6", delay=60)
    laptop.addressed(find="a2.6")
    sync_api.expect(first).to_have_text(["a2.6@13"])
    for _ in range(4):
        laptop.page.keyboard.press("Backspace")
    laptop.addressed(find="")
    assert laptop.one("find").input_value() == ""
    sync_api.expect(first.first).to_have_text("m3@13")


@pytest.mark.slow
def test_a_quick_typist_is_never_overtaken_by_the_page(laptop: Tab) -> None:
    settled(laptop.open(ASKED))
    laptop.one("find").click()
    laptop.page.keyboard.type("head a3 @13", delay=320)
    laptop.addressed(find="head a3 @13")
    assert laptop.one("find").input_value() == "head a3 @13"


@pytest.mark.slow
def test_a_factor_that_is_no_number_is_said_where_it_was_typed(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, node="a2.6@13")))
    laptop.one("factor").fill("")
    laptop.one("act-scale").click()
    laptop.says("details", "a finite number")
    assert laptop.question().patches == ()


@pytest.mark.slow
def test_what_a_head_takes_from_one_place_can_be_switched_off(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, node="a2.6@13<1")))
    laptop.one("act-zero").click()
    laptop.addressed(patches=("a2.6@13<1 = 0",))
    laptop.says("verdict", "Without a2.6@13<1: ")


def test_every_row_has_an_id_of_its_own_and_every_address_is_accepted(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, trail=("a2.6@13<1",), k=20)))
    grid = laptop.one("upstream-grid")
    ids = grid.locator(".ag-pinned-left-cols-container .ag-row").evaluate_all(
        "rows => rows.map(row => row.getAttribute('row-id'))"
    )
    assert len(ids) == len(set(ids)) > 10


@pytest.mark.slow
def test_a_token_of_the_prompt_can_be_asked_about(laptop: Tab) -> None:
    settled(laptop.open(ASKED))
    laptop.one("tokens").locator("[data-position='9']").click()
    laptop.one("token-rows").click()
    laptop.addressed(find="@9", tab="nodes", sort="norm")
    laptop.one("tokens").locator("[data-position='3']").click()
    laptop.one("token-lens").click()
    laptop.addressed(node="emb@3", tab="lens")
    laptop.one("tokens").locator("[data-position='8']").press("Enter")
    laptop.one("token-ask").click()
    laptop.addressed(prompt="When Mary and John went to the store,", answers=())


@pytest.mark.slow
def test_a_next_token_becomes_the_answer_or_the_other(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, distractors=())))
    laptop.page.get_by_role("button", name="Rather than ·Megan").click()
    laptop.addressed(answers=(" Mary",), distractors=(" Megan",))
    laptop.page.get_by_role("button", name="Why ·Megan").click()
    laptop.addressed(answers=(" Megan",), distractors=())


@pytest.mark.slow
def test_token_fields_offer_what_the_vocabulary_has(laptop: Tab) -> None:
    laptop.open(f"{laptop.server}/")
    laptop.one("answers").click()
    laptop.page.keyboard.type("Mary, Jessi", delay=40)
    laptop.page.wait_for_function(
        "() => document.querySelector('[data-testid=answers]').closest('.q-field').innerText"
        ".includes('ca') || document.body.innerText.includes('Jessica')"
    )


@pytest.mark.slow
def test_tokens_that_only_the_other_prompt_has_are_shown(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, other=LONGER)))
    lone = laptop.one("tokens").locator(".piece:not([data-position])").all_inner_texts()
    assert lone == ["Then", ",", "·When"]


@pytest.mark.slow
def test_views_are_steps_of_the_back_button(laptop: Tab) -> None:
    settled(laptop.open(ASKED))
    for name in ("lens", "graph"):
        laptop.one(f"tab-{name}").click()
        laptop.addressed(tab=name)
    laptop.page.go_back()
    laptop.addressed(tab="lens")
    laptop.one("lens-table").wait_for()


def test_a_phone_shows_three_columns_and_the_node_as_a_sheet(browser, server: str) -> None:
    with tab_of(browser, server, 390, 844, color_scheme="dark", has_touch=True) as tab:
        settled(tab.open(replace(ASKED, node="a2.6@13")))
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        sheet = tab.one("details").bounding_box()
        assert sheet["y"] > 300
        assert sheet["y"] + sheet["height"] == pytest.approx(844, abs=2)
        assert serious(tab) == []


def serious(tab: Tab) -> list[str]:
    """What axe-core finds that keeps people out: the rule, and the first element that breaks it."""
    found = axe.Axe().run(tab.page).response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]} {rule['nodes'][0]['failureSummary'][:300]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


QUICK = {("light", "nodes"), ("dark", "graph")}


@pytest.mark.parametrize(
    ("scheme", "view"),
    [
        pytest.param(scheme, view, marks=() if (scheme, view) in QUICK else pytest.mark.slow)
        for scheme in ("light", "dark")
        for view in ("welcome", "nodes", "trace", "graph", "paths", "lens")
    ],
)
def test_axe_finds_nothing_serious(browser, server: str, view: str, scheme: str) -> None:
    asked = replace(CHANGED, other=OTHER, trail=("a2.6.q@13<1",), graph=("a2.6@13", "a3.4@13"))
    with tab_of(browser, server, 1280, 800, color_scheme=scheme) as tab:
        tab.open(f"{server}/" if view == "welcome" else replace(asked, tab=view))
        tab.page.wait_for_timeout(300) if view == "welcome" else settled(tab)
        assert serious(tab) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["nodes", "trace", "graph", "paths", "lens"])
def test_nothing_is_wider_than_the_screen(browser, server, width, scheme, view) -> None:
    asked = replace(CHANGED, other=OTHER, trail=("a2.6.q@13<1",), graph=("a2.6@13", "a3.4@13"))
    with tab_of(browser, server, width, WIDTHS[width], color_scheme=scheme) as tab:
        settled(tab.open(replace(asked, tab=view)))
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_twin_axe_sees_a_button_without_a_name(laptop: Tab) -> None:
    laptop.open(f"{laptop.server}/")
    laptop.page.evaluate("document.querySelector('.welcome').innerHTML += '<button></button>'")
    assert any("button-name" in each for each in serious(laptop))


@pytest.mark.slow
def test_a_long_prompt_keeps_its_strip_low(laptop: Tab) -> None:
    long = replace(ASKED, prompt="Then Mary and John had a lot of fun at the store. " * 8 + PROMPT)
    settled(laptop.open(replace(long, node="a2.6@110")))
    assert laptop.page.locator(".strip-place").bounding_box()["height"] < 270


def test_the_lens_says_from_where_on_the_answer_stands_first(laptop: Tab) -> None:
    settled(laptop.open(replace(ASKED, tab="lens")))
    laptop.says("lens-verdict", "After ' to', ' Mary' stands first from resid3 on.")
    last = laptop.one("lens-table").locator("th[data-position='13']").bounding_box()
    assert last["x"] + last["width"] < 1280


@pytest.mark.slow
def test_the_text_is_continued_on_both_sides(laptop: Tab) -> None:
    question = replace(ASKED, patches=("a0.6 = 0",))
    settled(laptop.open(question))
    laptop.one("continue").click()
    for text in continued(runs(MODEL, question)).values():
        laptop.says("continuation", text.strip()[:20])
