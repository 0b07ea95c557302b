"""A store as pages that open from disk: searched as one types, every link leads to a page, text of
the corpus is text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interp.corpus.documents import Document
from interp.corpus.make import make
from interp.explain.catalogue import catalogue
from interp.views.site import Site
from minigpt import GPT2
from tests.browser import CHROMIUM, needs_chromium
from tests.interp.corpus.test_collate import MODEL, SETTINGS, texts

HOSTILE = "<b>A</b>"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    hostile = Document("<script>alert(1)</script>", "ABABAB" * 5)
    store = make(MODEL, [*texts(30), hostile], folder / "store", SETTINGS, progress=False)
    catalogue(store, progress=False)
    link = lambda c, e: f"http://localhost:8080/?node={c.address}@{e.at}"  # noqa: E731
    Site(store, MODEL, folder / "pages", store.addresses, link).write(progress=False)
    return folder / "pages"


def test_every_component_has_a_page_and_every_link_leads_to_one(site):
    pages = sorted((site / "component").glob("*.html"))
    assert len(pages) == 64
    for page in (*pages, site / "index.html"):
        text = page.read_text("utf-8")
        assert "<script>alert(1)" not in text
        for target in re.findall(r"href='?([^'> ]+)", text):
            local = target.partition("#")[0]
            if local and not local.startswith("http:"):
                assert (page.parent / local).is_file(), (page.name, target)
        assert not re.search(r"(?:src|url\()=?['\"]?https?:", text)


def test_what_is_there_is_kept_and_the_rest_is_made(site, tmp_path):
    page = site / "component" / "m0.n3.html"
    before = page.stat().st_mtime_ns
    gone = site / "component" / "m0.n4.html"
    gone.unlink()
    from interp.corpus.store import Store

    store = Store(site.parent / "store", MODEL.words)
    Site(store, MODEL, site, store.addresses).write(progress=False)
    assert page.stat().st_mtime_ns == before
    assert gone.is_file()
    some = Site(store, MODEL, tmp_path / "some", ["a0.1", "m1.l5"])
    some.write(progress=False)
    assert len([*(tmp_path / "some" / "component").iterdir()]) == 2


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_from_disk_in_a_browser(site, dark):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(color_scheme="dark" if dark else "light")
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda r: said.append(r.url) if not r.url.startswith("file:") else None)
        page.goto((site / "index.html").as_uri())
        sync_api.expect(page.get_by_role("status")).to_have_text("64 of 64")
        page.get_by_role("searchbox").press_sequentially("m1.l5")
        sync_api.expect(page.get_by_role("status")).to_have_text("1 of 64")
        page.get_by_role("link", name="m1.l5").click()
        sync_api.expect(page.get_by_role("heading", level=1)).to_contain_text("m1.l5")
        page.get_by_role("link", name="m1.l6").click()
        sync_api.expect(page.get_by_role("heading", level=1)).to_contain_text("m1.l6")
        page.get_by_role("link", name="all components").click()
        sync_api.expect(page.get_by_role("status")).to_contain_text("of 64")
        assert said == []
        chromium.close()


def test_a_model_without_explanations_has_pages_too(tmp_path):
    store = make(MODEL, texts(5), tmp_path / "s", SETTINGS, progress=False)
    assert isinstance(MODEL, GPT2)
    Site(store, MODEL, tmp_path / "pages", ["m0.n0"]).write(progress=False)
    text = (tmp_path / "pages" / "component" / "m0.n0.html").read_text("utf-8")
    assert "It was not explained." in text
