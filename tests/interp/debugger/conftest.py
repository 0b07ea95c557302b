"""A client of the debugger's API, without a network; and a browser in front of a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from interp.debugger import api, start
from interp.debugger.session import Session
from tests.browser import CHROMIUM, served
from tests.interp.debugger.questions import MODEL


@pytest.fixture(scope="module")
def client():
    app = start.protected(api.build(Session({"ioi-mini": MODEL})))
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, server: str) -> Iterator[object]:
    from tests.interp.debugger.tab import tab_of

    with tab_of(browser, server) as made:
        yield made
