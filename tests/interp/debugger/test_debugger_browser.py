"""The debugger in a real browser: what a person does, from the first question to a script that
gives the same numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import weights
from interp.debugger import export, nodes, numbers, pathmap, summary, totals, upstream
from interp.debugger.cards.tokens import visible
from interp.debugger.cards.upstream import source_id
from interp.debugger.cards.welcome import worked
from interp.debugger.question import MAX_K, Question
from interp.debugger.session import Runs, Session
from tests.browser import ROOT, needs_chromium
from tests.interp.debugger.tab import Tab, settled, sync_api, tab_of

pytestmark = needs_chromium

PROMPT, OTHER = (
    "When Mary and John went to the store, John gave a drink to",
    "When Mary and John went to the store, Mary gave a drink to",
)
ASKED = Question(prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
COMPARED = replace(ASKED, other=OTHER, other_answers=(" John",), other_distractors=(" Mary",))


@cache
def session() -> Session:
    """The same functions as the page's, without a page."""
    return Session({"ioi-mini": weights.load("ioi-mini")})


def runs(question: Question) -> Runs:
    return session().runs(question)


def digits(value: float | None) -> str:
    """A number as the tables write it."""
    return numbers.plain(value)


# --- ten flows ------------------------------------------------------------------------------------


def test_flow_1_why_one_token_rather_than_another(tab: Tab, server: str) -> None:
    tab.open(f"{server}/")
    tab.one("prompt").fill(PROMPT)
    tab.one("answers").fill("Mary")
    tab.one("distractors").fill("John")
    tab.one("ask").click()
    found, table = summary.summary(runs(ASKED)), nodes.table(runs(ASKED))
    tab.holds("question", found.question)
    tab.says("asked", "Why ' Mary' rather than ' John'?")
    tab.says("metric-value", numbers.signed(found.metric.left))
    assert tab.question() == ASKED
    sync_api.expect(tab.page.get_by_test_id("prompt")).to_be_hidden()
    for row in (table.rows[0], table.rows[-1]):
        sync_api.expect(tab.cell(row.address, "direct")).to_have_text(digits(row.direct.left))
    tab.says(
        "closure",
        f"sum to {numbers.signed(table.sum.left)} = logit difference "
        f"{numbers.signed(found.metric.left)}",
    )
    sync_api.expect(
        tab.one("node-grid").locator(".ag-floating-bottom .ag-cell[col-id='direct']")
    ).to_have_text([digits(table.rest.left), digits(table.sum.left)])
    for words, row in (("Most for it:", table.rows[0]), ("Most against it:", table.rows[-1])):
        node = row.address.partition("@")[0]
        tab.says("verdict", f"{words} {node} {numbers.signed(row.direct.left)}")
    tab.says("totals-state", f"{len(table.rows)} of {len(table.rows)}")
    tab.says("next-tokens", "99.8%")


def test_flow_2_trace_a_name_movers_query_to_what_it_comes_from(tab: Tab) -> None:
    tab.open(ASKED)
    tab.row("a2.6@13").click()
    tab.says("selected", "a2.6@13")
    tab.page.get_by_test_id("trace a2.6.q@13<1").click()
    step = upstream.upstream(runs(replace(ASKED, node="a2.6@13", trail=("a2.6.q@13<1",))))
    tab.says("upstream-words", step.words)
    tab.says(
        "upstream-closure",
        f"Sum {numbers.signed(step.sum.left)} = score {numbers.signed(step.score.left)}",
    )
    source = next(each for each in step.sources if each.address == "a0.6@13")
    assert source.direct.left is not None
    assert source.direct.left > 0.9
    assert source.exact.left is not None
    sync_api.expect(tab.cell(source_id(source), "exact", "upstream-grid")).to_have_text(
        digits(-source.exact.left)
    )
    tab.row("a0.6@13", "upstream-grid").click()
    onward = tab.page.get_by_test_id(re.compile(r"^onward a0\.6\.v@13"))
    onward.click()
    tab.page.get_by_test_id("crumb 2").wait_for()
    assert tab.question().trail[0] == "a2.6.q@13<1"
    assert tab.question().trail[1].startswith("a0.6.v@13")
    second = upstream.upstream(runs(tab.question()))
    tab.says("upstream-closure", f"score {numbers.signed(second.score.left)}")
    tab.page.get_by_test_id("crumb 1").click()
    tab.addressed(trail=("a2.6.q@13<1",))
    tab.says("upstream-closure", f"score {numbers.signed(step.score.left)}")


def test_flow_3_ablate_the_top_head_and_see_others_respond(tab: Tab) -> None:
    tab.open(ASKED)
    tab.row("a3.4@13").click()
    tab.one("act-zero").click()
    asked = replace(ASKED, node="a3.4@13", patches=("a3.4@13 = 0",))
    found, table = summary.summary(runs(asked)), nodes.table(runs(asked))
    tab.holds("receipt", found.receipt.words)
    tab.says("verdict", found.verdict)
    assert tab.question() == asked
    for value in (found.metric.left, found.metric.right, found.metric.difference):
        tab.says("metric-value", numbers.signed(value))
    changed = [
        row
        for row in table.rows
        if not row.address.startswith("a3.4") and abs(row.change.write or 0) > 1e-3
    ]
    assert changed
    for row in changed[:3]:
        sync_api.expect(tab.cell(row.address, "direct.right")).to_have_text(
            digits(row.direct.right)
        )
        for part in ("write", "scale"):
            sync_api.expect(tab.cell(row.address, f"change.{part}")).to_have_text(
                digits(getattr(row.change, part))
            )


def test_flow_4_patch_one_position_from_the_second_prompt(tab: Tab) -> None:
    tab.open(ASKED).edit()
    tab.one("add-other").click()
    tab.one("other").fill(OTHER)
    tab.one("other-answers").fill("John")
    tab.one("other-distractors").fill("Mary")
    tab.one("ask").click()
    tab.addressed(other=OTHER)
    tab.one("new-line").fill("resid1@9 = other")
    tab.one("new-line").press("Enter")
    asked = replace(COMPARED, patches=("resid1@9 = other",))
    found = summary.summary(runs(asked))
    tab.holds("receipt", found.receipt.words)
    tab.says("metric-value", numbers.signed(found.metric.right))
    assert tab.question() == asked
    tab.one("compare").get_by_text("after and second prompt").click()
    tab.addressed(compare="other")
    tab.says(
        "metric-value",
        numbers.signed(summary.summary(runs(replace(asked, compare="other"))).metric.right),
    )
    tab.one("tab-paths").click()
    tab.says("pathmap-note", pathmap.pathmap(runs(asked)).receipt)
    tab.says("pathmap-note", "before the interventions")


@pytest.mark.slow
def test_flow_5_prompts_of_different_lengths_are_aligned_or_refused_with_the_reason(
    tab: Tab,
) -> None:
    longer = "When Mary and John went to the store, Mary and John gave a drink to"
    tab.open(replace(ASKED, other=longer))
    tab.holds("summary", "The prompts have 14 and 16 tokens: aligned")
    lone = tab.one("tokens").locator(".piece:not([data-position])").all_inner_texts()
    assert lone == ["·Mary", "·and"]
    tab.one("tab-paths").click()
    tab.says("pathmap", "path patching between prompts of 14 and 16 tokens")
    tab.one("new-line").fill("a0.6.pattern@9 = other")
    tab.one("new-line").press("Enter")
    tab.says("interventions", "the prompts differ in length")
    assert tab.one("new-line").input_value() == "a0.6.pattern@9 = other"
    assert tab.question().patches == ()


@pytest.mark.slow
def test_flow_6_a_shared_link_opens_the_same_view(tab: Tab, browser, server: str) -> None:
    asked = replace(
        ASKED,
        node="a2.6@13<1",
        trail=("a2.6.q@13<1",),
        patches=("a3.4@13 = 0",),
        sort="direct.right",
        find="a2",
        k=4,
        graph=("a2.6@13", "a3.4@13"),
        tab="nodes",
    )
    tab.open(asked)
    shown = settled(tab)
    with tab_of(browser, server) as another:
        another.open(tab.page.url)
        assert settled(another) == shown
    tab.page.reload()
    assert settled(tab) == shown
    assert tab.one("find").input_value() == "a2"


@pytest.mark.slow
def test_flow_7_back_after_three_changes(tab: Tab) -> None:
    tab.open(ASKED)
    before = settled(tab)
    tab.row("a3.4@13").click()
    tab.addressed(node="a3.4@13")
    tab.one("act-zero").click()
    tab.addressed(patches=("a3.4@13 = 0",))
    tab.one("node-grid").locator(".ag-header-cell[col-id='direct.right']").click()
    tab.addressed(sort="direct.right")
    tab.says("totals-state", re.compile(r"(\d+) of \1$"))
    tab.page.go_back()
    tab.addressed(sort="", patches=("a3.4@13 = 0",))
    tab.page.go_back()
    tab.addressed(patches=(), node="a3.4@13")
    tab.page.go_back()
    tab.addressed(node="")
    sync_api.expect(tab.one("metric-value")).not_to_contain_text("before")
    tab.says("details", "Click a row of the table")
    assert settled(tab) == before
    tab.page.go_forward()
    tab.says("selected", "a3.4@13")


@pytest.mark.slow
def test_flow_8_a_long_sweep_is_cancelled_and_what_is_known_stays(tab: Tab) -> None:
    long = replace(
        ASKED,
        prompt="Then Mary and John had a lot of fun at the store. " * 8 + PROMPT,
        split=("neurons",),
        sort="total",
    )
    # A person who is quick: the machine may be quicker than a click from here.
    tab.page.add_init_script("""const waiting = setInterval(() => {
        const button = document.querySelector("[data-testid=totals-cancel]");
        if (button?.offsetParent) { clearInterval(waiting); button.click(); }
    }, 20)""")
    tab.open(long)
    tab.says("totals-state", "cancelled at")
    done = re.search(r"cancelled at ([\d,]+) of ([\d,]+)", tab.one("totals-state").inner_text())
    assert done is not None
    assert int(done[1].replace(",", "")) < int(done[2].replace(",", ""))
    tab.page.wait_for_timeout(700)
    assert done[0] in tab.one("totals-state").inner_text()
    tab.says("closure", "Direct effects sum to")


def test_flow_9_a_bad_token_is_explained_and_no_text_is_lost(tab: Tab, server: str) -> None:
    tab.open(ASKED).edit()
    tab.one("answers").fill("Mary, Marymary")
    tab.one("ask").click()
    tab.says("form-trouble", "' Marymary'")
    tab.page.wait_for_selector("body.stale")
    assert tab.one("answers").input_value() == "Mary, Marymary"
    assert tab.question() == ASKED
    tab.says("metric-value", numbers.signed(summary.summary(runs(ASKED)).metric.left))
    tab.one("answers").fill("Mary")
    tab.one("ask").click()
    sync_api.expect(tab.page.get_by_test_id("form-trouble")).to_be_hidden()
    tab.page.wait_for_selector("body:not(.stale)")
    tab.page.goto(f"{server}/?{replace(ASKED, answers=(' Marymary',)).to_url()}")
    tab.says("form-trouble", "' Marymary'")
    assert (tab.one("prompt").input_value(), tab.one("answers").input_value()) == (
        PROMPT,
        "Marymary",
    )


def test_the_form_never_takes_the_keys_from_the_field_that_someone_types_in(tab: Tab) -> None:
    for typed in ("answers", "prompt"):
        tab.open(ASKED).edit()
        if typed == "answers":
            tab.one("answers").focus()
        tab.page.wait_for_timeout(500)
        sync_api.expect(tab.one(typed)).to_be_focused()


@pytest.mark.slow
def test_flow_10_an_exported_script_gives_the_same_numbers_in_a_fresh_process(
    tab: Tab, tmp_path: Path
) -> None:
    tab.open(replace(ASKED, patches=("a3.4@13 = 0",), node="a2.6@13", trail=("a2.6.q@13<1",)))
    for name, view in (("nodes", "nodes"), ("upstream", "trace")):
        tab.one(f"tab-{view}").click()
        if name == "nodes":
            tab.says("totals-state", re.compile(r"(\d+) of \1$"))
        saved = {ending: saves(tab, name, ending, tmp_path) for ending in ("json", "csv", "py")}
        again = subprocess.run(
            [sys.executable, saved["py"]],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        kept = json.loads(saved["json"].read_text())
        assert kept.pop("provenance")["result"] == name
        assert json.loads(again.stdout) == kept
        assert len(saved["csv"].read_text().splitlines()) == 1 + len(
            json.loads(again.stdout)["rows" if name == "nodes" else "sources"]
        )
    tab.one("tab-nodes").click()
    known = [
        row["total"]["left"]
        for row in json.loads(saves(tab, "nodes", "json", tmp_path).read_text())["rows"]
    ]
    assert None not in known


def saves(tab: Tab, name: str, ending: str, folder: Path) -> Path:
    """A card's result, saved by its menu."""
    tab.one(f"export-{name}").click()
    with tab.page.expect_download() as download:
        tab.one(f"export-{name}-{ending}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


# --- beside the flows -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_five_worked_questions_lead_to_their_answers(tab: Tab, server: str) -> None:
    for number, each in enumerate(worked(), 1):
        tab.open(f"{server}/")
        tab.one(f"worked-{number}").click()
        tab.says("metric-value", numbers.signed(summary.summary(runs(each.question)).metric.left))
        assert tab.question() == each.question
        settled(tab)


@pytest.mark.slow
def test_a_prompt_of_markup_is_shown_as_text(tab: Tab) -> None:
    markup = "<script>console.error('run')</script><b>Mary</b><img src=x onerror=alert(1)>"
    tab.open(
        Question(
            prompt=markup, other=markup.replace("Mary", "John"), node="a0.0@1", graph=("a0.0@1",)
        )
    )
    settled(tab)
    tab.holds("question", markup)
    left = tab.one("tokens").locator(".piece > .token:first-of-type").all_inner_texts()
    assert "".join(left) == "".join(map(visible, runs(Question(prompt=markup)).left.tokens))
    assert tab.page.locator("b:text-is('Mary'), img[src=x]").count() == 0
    tab.page.goto(f"{tab.server}/?{Question(prompt=PROMPT, answers=(markup,)).to_url()}")
    tab.says("form-trouble", "<b>Mary</b>")


@pytest.mark.slow
def test_interventions_are_undone_redone_and_removed(tab: Tab) -> None:
    tab.open(replace(ASKED, node="a2.6@13"))
    tab.one("act-zero").click()
    tab.addressed(patches=("a2.6@13 = 0",))
    tab.one("new-line").fill("m1@13 = x0.5")
    tab.one("add-line").click()
    tab.addressed(patches=("a2.6@13 = 0", "m1@13 = x0.5"))
    tab.one("undo").click()
    tab.addressed(patches=("a2.6@13 = 0",))
    tab.one("undo").click()
    tab.addressed(patches=())
    tab.one("redo").click()
    tab.one("redo").click()
    tab.addressed(patches=("a2.6@13 = 0", "m1@13 = x0.5"))
    tab.one("remove-line").first.click()
    tab.addressed(patches=("m1@13 = x0.5",))


@pytest.mark.slow
def test_another_metric_is_sorted_by_its_exact_total_effects(tab: Tab) -> None:
    tab.open(ASKED).edit()
    tab.one("metric").click()
    tab.page.get_by_role("option", name="probability").click()
    tab.one("ask").click()
    tab.addressed(metric="probability", sort="")
    asked = replace(ASKED, metric="probability")
    known = totals.complete(
        runs(asked),
        [row.address for row in nodes.table(runs(replace(asked, sort="norm", k=MAX_K))).rows],
    ).effects
    row = nodes.table(runs(asked), known).rows[-1]
    sync_api.expect(tab.cell(row.address, "lost")).to_have_text(digits(row.lost.left))
    tab.says("closure", "No direct effects")


def test_the_keyboard_is_enough(tab: Tab) -> None:
    settled(tab.open(ASKED))
    tab.page.keyboard.press("t")
    tab.page.wait_for_function("() => document.activeElement.closest('.ag-row')")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    second = nodes.table(runs(ASKED)).rows[1].address
    tab.says("selected", second)
    tab.page.keyboard.press("z")
    tab.addressed(patches=(f"{second} = 0",))
    tab.page.keyboard.press("u")
    tab.addressed(patches=())
    tab.page.keyboard.press("/")
    sync_api.expect(tab.one("prompt")).to_be_focused()
    tab.page.keyboard.press("Escape")


@pytest.mark.slow
def test_a_cell_of_a_map_and_a_node_of_the_graph_can_be_clicked(tab: Tab) -> None:
    tab.open(replace(COMPARED, node="a2.6@13", graph=("a2.6@13", "a3.4@13"), tab="paths"))
    settled(tab)
    click_on(tab.one("attention-map").first, 9, 13)
    tab.addressed(node="a2.6@13<9")
    click_on(tab.one("pathmap-chart"), 0, 0)
    tab.addressed(node="a0.0@13")
    tab.one("to-graph").click()
    tab.addressed(graph=("a2.6@13", "a3.4@13", "a0.0@13"))
    tab.one("tab-graph").click()
    settled(tab)
    click_on(tab.one("graph-chart"), 0, 2)
    tab.addressed(node="a3.4@13")


def click_on(chart, x: float, y: float) -> None:
    """Click where a chart has this point of its axes."""
    pixel = chart.evaluate(
        f"element => getElement(Number(element.id.slice(1))).chart.convertToPixel('grid', [{x}, "
        f"{y}])"
    )
    chart.click(position={"x": pixel[0], "y": pixel[1]})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
def test_a_mistake_in_one_card_is_said_there_and_can_be_mended_there(tab: Tab) -> None:
    settled(tab.open(replace(COMPARED, trail=("a9.9.q@13<1",))))
    tab.says("upstream", "layer 9 of 4")
    tab.one("tab-paths").click()
    tab.one("receivers").fill("nowhere")
    tab.one("receivers").press("Enter")
    tab.says("pathmap", "'nowhere' is no address")
    assert tab.one("receivers").input_value() == "nowhere"
    tab.one("receivers").fill("a3.4.q")
    tab.one("receivers").press("Enter")
    tab.says(
        "pathmap-note", pathmap.pathmap(runs(replace(COMPARED, receivers=("a3.4.q",)))).receipt
    )
    tab.one("tab-nodes").click()
    tab.row("a2.6@13").click()
    tab.page.get_by_test_id("trace a2.6.k@13<1").click()
    tab.says("upstream-closure", "score")


def test_means_are_over_the_prompts_that_are_given(tab: Tab) -> None:
    given = (OTHER, PROMPT.replace("store", "park"))
    tab.open(replace(ASKED, patches=("a2.6@13 = mean(reference)",)))
    tab.holds("summary", "shuffles of the prompt's own tokens")
    tab.one("reference").fill("\n".join(given))
    tab.one("reference").blur()
    tab.addressed(reference=given)
    found = summary.summary(
        runs(replace(ASKED, patches=("a2.6@13 = mean(reference)",), reference=given))
    )
    tab.says("metric-value", numbers.signed(found.metric.right))


def test_the_apis_reference_is_served_from_here(tab: Tab) -> None:
    tab.open(ASKED)
    tab.one("api").click()
    tab.page.wait_for_url("**/api/docs")
    sync_api.expect(tab.page.locator("body")).to_contain_text("/api/nodes")


@pytest.mark.slow
def test_the_choice_of_dark_is_remembered(browser, server: str) -> None:
    with tab_of(browser, server, color_scheme="light") as tab:
        tab.open(ASKED)
        assert "body--dark" not in tab.page.locator("body").get_attribute("class")
        tab.one("dark").click()
        tab.page.wait_for_selector("body.body--dark")
        tab.page.reload()
        tab.page.wait_for_selector("body.body--dark")


PICTURES = {
    "debugger-welcome": None,
    "debugger": replace(ASKED, node="a2.6@13"),
    "debugger-trace": replace(ASKED, node="a0.6@13", trail=("a2.6.q@13<1",)),
    "debugger-interventions": replace(ASKED, node="a3.4@13", patches=("a2.6@13 = 0",)),
    "debugger-lens": replace(ASKED, tab="lens"),
    "debugger-two-prompts": replace(COMPARED, node="a0.6@9", tab="paths"),
    "debugger-graph": replace(
        ASKED,
        node="a0.6@9",
        graph=("emb@9", "a0.6@9", "m0@9", "a1.2@9", "a2.6@13", "a3.4@13", "m1@13", "m3@13"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_the_finished_pages(browser, server: str, scheme: str, tmp_path: Path) -> None:
    """Nothing is wider than 1280 px. PICTURES=docs/img keeps the pictures (make screenshots)."""
    folder = Path(os.environ.get("PICTURES", tmp_path))
    with tab_of(browser, server, color_scheme=scheme) as tab:
        for name, question in PICTURES.items():
            tab.open(question or f"{server}/")
            tab.one("welcome").wait_for() if question is None else settled(tab)
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= 1280
            picture = tab.page.screenshot(
                path=folder / f"{name}-{scheme}.png", full_page=name != "debugger"
            )
            assert len(picture) > 20_000


# --- twins: what these tests look for is seen where it is wrong -----------------------------------


def test_twin_a_request_elsewhere_and_an_error_are_seen(browser, server: str) -> None:
    tab = Tab(browser, server)
    tab.page.route("**/elsewhere", lambda route: route.abort())
    tab.open(f"{server}/")
    tab.page.evaluate(
        "fetch('http://example.invalid/elsewhere').catch(() => 0); console.error('bad'); "
        "setTimeout(() => { throw new Error('worse') })"
    )
    tab.page.wait_for_timeout(300)
    assert [
        any(word in each for each in tab.wrong) for word in ("example.invalid", "bad", "worse")
    ] == [True, True, True]
    tab.page.context.close()


@pytest.mark.slow
def test_twin_a_script_with_another_number_is_seen(tab: Tab, tmp_path: Path) -> None:
    asked = replace(ASKED, patches=("a3.4@13 = 0",))
    script = export.as_python(asked, "summary").replace("a3.4@13 = 0", "a3.4@13 = x0.99")
    again = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        json.loads(again.stdout)["metric"]
        != json.loads(export.as_json(summary.summary(runs(asked))))["metric"]
    )
