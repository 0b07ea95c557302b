"""A tab of a real browser in front of a served debugger: what a person does in it, and whatever
goes wrong there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interp.debugger.question import Question

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install '.[test]'"
)


class Tab:
    """A tab of its own browser profile. Whatever it sends elsewhere and whatever goes wrong in it
    is kept."""

    def __init__(self, browser, server: str, width=1280, height=1160, **settings) -> None:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        self.page, self.server, self.wrong = context.new_page(), server, []
        self.page.set_default_timeout(15_000)
        self.page.on("request", self._request)
        self.page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning") and self.wrong.append(message.text)
            ),
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _request(self, request) -> None:
        if not request.url.startswith(
            (self.server, self.server.replace("http", "ws"), "data:", "blob:")
        ):
            self.wrong.append(f"a request to {request.url}")

    def open(self, question: Question | str) -> Tab:
        """The page of a question, its answer shown."""
        self.page.goto(
            f"{self.server}/?{question.to_url()}" if isinstance(question, Question) else question
        )
        if question != f"{self.server}/":
            self.one("metric-value").locator("b").first.wait_for()
        return self

    def one(self, name: str):
        """The visible element of that name."""
        return self.page.get_by_test_id(name).filter(visible=True)

    def says(self, name: str, text: str | re.Pattern[str]) -> None:
        """Wait until the element of that name holds the text."""
        sync_api.expect(self.one(name)).to_contain_text(text)

    def holds(self, name: str, text: str | re.Pattern[str]) -> None:
        """The same of what may be folded away."""
        sync_api.expect(self.page.get_by_test_id(name)).to_contain_text(text)

    def edit(self) -> Tab:
        """Unfold the question's form."""
        self.one("edit").click()
        return self

    def cell(self, address: str, column: str, grid: str = "node-grid"):
        """A cell of a table."""
        return self.one(grid).locator(f".ag-row[row-id='{address}'] .ag-cell[col-id='{column}']")

    def row(self, address: str, grid: str = "node-grid"):
        """A row's first cell, to click on."""
        return (
            self.one(grid)
            .locator(".ag-pinned-left-cols-container .ag-row")
            .filter(has_text=re.compile(rf"^{re.escape(address)}$"))
        )

    def addressed(self, **changes) -> None:
        """Wait until the address bar holds these parts of a question."""
        self.page.wait_for_url(
            lambda url: all(
                getattr(self.question(url), name) == value for name, value in changes.items()
            )
        )

    def question(self, url: str = "") -> Question:
        """The question in the address bar."""
        return Question.from_url((url or self.page.url).partition("?")[2])


@contextmanager
def tab_of(browser, server: str, width=1280, height=1160, **settings) -> Iterator[Tab]:
    """A tab in which, at the end, nothing may have gone wrong."""
    tab = Tab(browser, server, width, height, **settings)
    yield tab
    tab.page.wait_for_timeout(50)
    assert tab.wrong == []
    tab.page.context.close()


def settled(tab: Tab) -> str:
    """All the words of the page, once nothing more arrives."""
    if tab.question().front == "nodes":
        tab.says("totals-state", re.compile(r"(\d+) of \1$"))
    tab.page.wait_for_function("() => !document.querySelector('.busy')")
    tab.page.wait_for_timeout(300)
    words = tab.page.locator(".strip-place, .page").all_inner_texts()
    return re.sub(r"\s+", " ", " ".join(words))
