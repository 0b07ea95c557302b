"""The model in a page: in a browser, from the disk, it says the library's numbers, before and after
an edit; and it is quick."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.browser import CHROMIUM, needs_chromium

pytest.importorskip("playwright.sync_api", reason="needs a browser: pip install '.[test]'")

from playwright.sync_api import Page, sync_playwright

import weights
from interp import attribution, metrics
from minigpt import Patch
from recipes import play

pytestmark = needs_chromium
PROMPT = "When Mary and John went to the store, John gave a drink to"
TWIN = PROMPT.replace(", John", ", Mary")
MODEL = weights.load(play.MODEL)
WIDE = weights.load(play.MODEL, dtype=torch.float64)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("play")
    play.write(folder, MODEL)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = chromium.new_context(offline=True).new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((folder / "index.html").as_uri())
        tab.wait_for_function("globalThis.ready")
        assert all(url.startswith(("file:", "data:")) for url in asked)
        yield tab
        chromium.close()


@pytest.fixture(autouse=True)
def fresh(page) -> None:
    """No edits, and the sentence that it begins with."""
    page.fill("#prompt", PROMPT)
    page.fill("#twin", TWIN)
    page.select_option("#kind", "0")
    page.click("#clear")


def found(page: Page) -> dict:
    return page.evaluate("globalThis.found")


def metric() -> metrics.Metric:
    to = MODEL.words.single
    return metrics.logit_diff(answers=to(" Mary"), distractors=to(" John"))


def test_it_says_the_librarys_logits_and_direct_effects(page):
    run = WIDE.run(PROMPT)
    here = found(page)
    assert here["tokens"] == MODEL.words.encode(PROMPT)
    torch.testing.assert_close(
        torch.tensor(here["logits"], dtype=torch.float64), run.logits[0, -1], rtol=0, atol=1e-9
    )
    rows = dict(attribution.direct(run, metric()))
    mine = {name: x for name, x in here["effects"].items() if name != "input"}
    assert mine == pytest.approx({name: rows[name] for name in mine}, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "cell", "patch"),
    [
        ("0", "a2.4@13", lambda run, other: Patch.zero("a2.4@13")),
        ("0", "m3@13", lambda run, other: Patch.zero("m3@13")),
        ("twin", "a2.4@13", lambda run, other: Patch.write("a2.4@13", other)),
        ("half", "a3.4@13", lambda run, other: Patch.parse("a3.4@13 *= 0.5", {})),
        ("twin", "input@9", lambda run, other: Patch.write("input@9", other)),
    ],
)
def test_an_edit_of_a_cell_is_the_librarys_patch(page, kind, cell, patch):
    run, other = WIDE.run(PROMPT), WIDE.run(TWIN)
    page.select_option("#kind", kind)
    page.click(f'[data-cell="{cell}"]')
    here = found(page)
    after = float(metric()(WIDE.rerun(run, patch(run, other)))[0])
    assert here["after"] == pytest.approx(after, abs=1e-9)
    assert here["after"] != pytest.approx(here["before"], abs=1e-3)
    assert here["took"] < 1000
    assert page.get_attribute(f'[data-cell="{cell}"]', "aria-pressed") == "true"
    page.click(f'[data-cell="{cell}"]')
    assert found(page)["after"] == here["before"]


def test_any_text_is_cut_into_the_librarys_tokens(page):
    for text in (
        "Mary's résumé 1741, (ok) 🎉",
        "  two  spaces ",
        'a "quote"\n\tand\nlines',
        "1 23 456",
    ):
        assert page.evaluate("text => globalThis.encoded(text)", text) == MODEL.words.encode(text)


def test_what_people_type_wrong_is_said_and_nothing_is_lost(page):
    before = page.text_content("#difference")
    page.fill("#answer", "Marry")
    page.press("#answer", "Enter")
    assert 'the answer "Marry" is' in page.text_content("#error")
    assert page.text_content("#difference") == before
    page.fill("#answer", "Mary")
    page.press("#answer", "Enter")
    page.fill("#answer", " Mary")
    page.press("#answer", "Enter")
    assert page.text_content("#error") == ""
    page.fill("#twin", "When Mary")
    page.press("#twin", "Enter")
    page.select_option("#kind", "twin")
    assert "as many are wanted" in page.text_content("#error")
    page.fill("#prompt", "")
    page.press("#prompt", "Enter")
    assert "an empty sentence" in page.text_content("#error")


def test_each_example_is_answered_and_its_twin_is_as_long(page):
    for i in range(7):
        page.click('[data-cell="m3@2"]')
        page.select_option("#example", str(i))
        assert page.text_content("#error") == ""
        here = found(page)
        assert here["before"] == here["after"] > 0
        page.select_option("#kind", "twin")
        page.click('[data-cell="emb@1"], [data-cell="input@1"]')
        assert page.text_content("#error") == ""
    page.select_option("#example", "0")


def test_it_starts_quickly(page):
    assert page.evaluate("globalThis.ready") < 15_000
