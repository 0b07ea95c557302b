"""The notebook of the documentation runs, and what is exported of it shows every figure without a
network: drawn where scripts run, and as a still picture where none does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, ROOT, needs_chromium

for name in ("jupytext", "nbclient", "nbconvert", "ipykernel", "playwright.sync_api"):
    pytest.importorskip(name, reason="needs the notebook's tools: pip install '.[test]'")

import jupytext
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import sync_playwright

NOTEBOOK = ROOT / "docs/notebooks/first_steps.py"
# The figures of its cells, and those in the document that it shows last.
ALONE, WITHIN = 3, 4


@cache
def executed() -> object:
    """The notebook after every cell has run."""
    notebook = jupytext.read(NOTEBOOK)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": ROOT}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return notebook


def outputs() -> list[dict]:
    return [output for cell in executed().cells for output in cell.get("outputs", [])]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """What is exported of it."""
    path = tmp_path_factory.mktemp("notebook") / "first_steps.html"
    path.write_text(HTMLExporter().from_notebook_node(executed())[0], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser, path: Path, *, scripts: bool):
    """A tab with the page, from the disk and without a network."""
    tab = browser.new_context(offline=True, java_script_enabled=scripts).new_page()
    tab.goto(path.as_uri())
    return tab


def sizes(seen) -> list[tuple[float, float]]:
    """How wide and high each element is on the screen."""
    boxes = [seen.nth(i).bounding_box() for i in range(seen.count())]
    return [(box["width"], box["height"]) for box in boxes]


def test_every_cell_runs_and_the_slip_of_the_pen_is_answered():
    kinds = [output["output_type"] for output in outputs()]
    assert "error" not in kinds
    said = [output["text"] for output in outputs() if output["output_type"] == "stream"]
    assert any("legal" in text and "a3.4" in text for text in said)


def test_a_figure_comes_with_a_still_picture_and_plotlys_script_once():
    shown = [output["data"] for output in outputs() if "data" in output]
    assert sum("image/svg+xml" in data for data in shown) == ALONE
    html = [data.get("text/html", "") for data in shown]
    assert sum(text.count("plotly.js v") for text in html) == 1
    assert sum(text.count("<div data-figure=") for text in html) == ALONE + WITHIN


@pytest.mark.slow
@needs_chromium
def test_where_scripts_run_every_figure_is_drawn(browser, page):
    tab = opened(browser, page, scripts=True)
    drawn = tab.locator("[data-figure] .main-svg:first-child")
    drawn.nth(ALONE + WITHIN - 1).wait_for()
    assert tab.locator("[data-figure] img").count() == 0
    assert len(sizes(drawn)) == ALONE + WITHIN
    assert all(width > 300 and height > 100 for width, height in sizes(drawn))


@needs_chromium
def test_where_none_does_every_still_picture_is_seen(browser, page):
    stills = opened(browser, page, scripts=False).locator("[data-figure] img")
    assert len(sizes(stills)) == ALONE + WITHIN
    assert all(width > 300 and height > 100 for width, height in sizes(stills))


@needs_chromium
def test_twin_a_page_without_the_script_and_a_picture_that_is_none_are_noticed(
    browser, page, tmp_path
):
    html = re.sub(r"<script>/\*\*\s+\* plotly.*?</script>", "", page.read_text("utf-8"), flags=re.S)
    broken = re.sub(r"(data:image/svg\+xml;base64,)[^\"]*", r"\1PHN2Zz4=", html)
    (path := tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    tab = opened(browser, path, scripts=True)
    assert tab.locator("[data-figure] .main-svg").count() == 0
    assert all(height < 100 for _, height in sizes(tab.locator("[data-figure] img")))
