"""Many at once, and some who leave in the middle: every answer is its own question's, and what
nobody waits for is not computed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import httpx
import pytest

import weights
from interp.debugger import export, numbers, summary
from interp.debugger.question import Question
from interp.debugger.session import Session
from tests.browser import CHROMIUM, Server, needs_chromium, served

NAMES = ("Mary", "John", "Megan", "Grace", "Jamie", "Max", "Adam", "Eric")
RESULTS = ("summary", "nodes", "upstream", "details", "attention", "graph")
LONG = "Then Mary and John had a lot of fun at the store. " * 8 + "Then Mary gave a drink to"
# The server keeps runs within a gigabyte; a short prompt's runs are a few megabytes.
GROWTH = 400 * 2**20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def known() -> Session:
    return Session({"ioi-mini": weights.load("ioi-mini")})


def question(i: int) -> Question:
    """A question that is nobody else's."""
    one, two = NAMES[i % 8], NAMES[(i + 1 + i // 8) % 8]
    asked = Question(
        prompt=f"When {one} and {two} went to the store, {two} gave a drink to",
        answers=(f" {one}",),
        distractors=(f" {two}",),
    )
    return replace(
        asked,
        patches=((f"a{i % 4}.{i % 8}@13 = 0",) if i % 3 else ()),
        node="a2.6@13",
        trail=("a2.6.q@13<1",),
        graph=("a2.6@13", "a3.4@13"),
    )


async def ask(client: httpx.AsyncClient, asked: Question, name: str) -> object:
    answer = await client.post(f"/api/{name}", json=asdict(asked))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def crowd(url: str, expected: list[dict[str, object]], end: float) -> int:
    """20 clients who ask their own questions until the time is over, and look at every answer. How
    many there were."""

    async def one(i: int, answers: dict[str, object]) -> int:
        count = 0
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while time.monotonic() < end:
                name = RESULTS[(count + i) % len(RESULTS)]
                assert await ask(client, question(i), name) == answers[name], (i, name)
                count += 1
        return count

    return sum(await asyncio.gather(*(one(i, answers) for i, answers in enumerate(expected))))


def answers(known: Session) -> list[dict[str, object]]:
    """What each of 20 clients should hear."""
    return [
        {
            name: json.loads(export.as_json(export.result(known.runs(question(i)), name)))
            for name in RESULTS
        }
        for i in range(20)
    ]


def under_load(server: Server, known: Session, seconds: float) -> None:
    expected = answers(known)
    asyncio.run(crowd(server.url, expected, time.monotonic() + 2))
    before = server.memory()
    count = asyncio.run(crowd(server.url, expected, time.monotonic() + seconds))
    assert count > 20 * len(RESULTS)
    assert server.memory() - before < GROWTH


def test_twenty_clients_at_once_hear_their_own_answers(server: Server, known: Session) -> None:
    under_load(server, known, 8)


@pytest.mark.slow
def test_twenty_clients_at_once_hear_their_own_answers_for_two_minutes(
    server: Server, known: Session
) -> None:
    under_load(server, known, 120)


def test_twin_an_answer_to_another_question_is_seen(server: Server, known: Session) -> None:
    expected = answers(known)
    expected[3], expected[4] = expected[4], expected[3]
    with pytest.raises(AssertionError, match=r"\(3|\(4"):
        asyncio.run(crowd(server.url, expected, time.monotonic() + 2))


def idle(server: Server, within: float = 12.0) -> bool:
    """Whether the server comes to rest: less than a tenth of one processor for a second."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        before = server.cpu()
        time.sleep(1)
        if server.cpu() - before < 0.1:
            return True
    return False


def sweep(server: Server, *, stays: bool) -> float:
    """Begin a sweep of 4,000 nodes; the processor time that it costs in the three seconds after its
    client goes, or stays."""
    asked = Question(prompt=LONG, answers=(" Mary",), distractors=(" John",))
    every = [f"m{layer}.n{n}@{t}" for layer in range(4) for n in range(10) for t in range(100)]
    body = {"question": asdict(asked), "addresses": every}
    with (
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/api/totals/stream", json=body) as stream,
    ):
        lines = stream.iter_lines()
        assert "effects" in json.loads(next(lines))
        before = server.cpu()
        if stays:
            end = time.monotonic() + 3
            while time.monotonic() < end and next(lines, None):
                pass
            return server.cpu() - before
    time.sleep(3)
    return server.cpu() - before


def test_a_client_that_is_gone_frees_its_work(server: Server) -> None:
    assert idle(server)
    spent = sweep(server, stays=False)
    assert idle(server, 4)
    assert spent < 0.8


def test_twin_work_that_goes_on_is_seen(server: Server) -> None:
    """The same sweep with a client that stays costs what the test above would not let pass."""
    assert sweep(server, stays=True) > 0.8
    assert idle(server)


@needs_chromium
@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_tabs_beside_one_another_show_their_own_answers_and_free_their_work_when_closed(
    server: Server, known: Session, count: int
) -> None:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install '.[test]'"
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tabs = [chromium.new_context().new_page() for _ in range(count)]
        for i, tab in enumerate(tabs):
            tab.goto(f"{server.url}/?{question(i).to_url()}", wait_until="commit")
        for i, tab in enumerate(tabs):
            value = summary.summary(known.runs(question(i))).metric.left
            sync_api.expect(tab.get_by_test_id("metric-value")).to_contain_text(
                numbers.signed(value), timeout=60_000
            )
        for tab in tabs:
            asked = Question(
                prompt=LONG,
                answers=(" Mary",),
                distractors=(" John",),
                split=("neurons",),
                sort="total",
            )
            tab.goto(f"{server.url}/?{asked.to_url()}", wait_until="commit")
        tabs[0].get_by_test_id("totals-state").get_by_text("of 1,000").wait_for(timeout=60_000)
        chromium.close()
    assert idle(server, 20)
