"""What the server lets in and how long it works: its own pages, bodies within bounds, a bounded
queue, nothing for a client that is gone."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict

import pytest
import uvicorn

from interp.debugger import api, totals
from interp.debugger.guard import MAX_BODY, Guard
from interp.debugger.session import Session
from interp.debugger.start import serve
from minigpt import GPT2
from tests.interp.debugger.questions import ASKED, MODEL

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_server_and_page_are_one_origin_on_the_loopback():
    import inspect

    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"
    assert not any(
        "cors" in str(layer).lower()
        for layer in api.build(Session({"ioi-mini": MODEL})).user_middleware
    )


def test_only_its_own_pages_may_ask(client):
    for headers in (
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8080"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"host": ""},
        {"origin": "http://127.0.0.1:9999"},
        {"host": "[bad"},
    ):
        assert client.get("/api/models", headers=headers).status_code == 403, headers
    for headers in (
        {"host": "localhost:8080"},
        {"host": "[::1]:8080"},
        {"origin": "http://127.0.0.1:8080"},
    ):
        assert client.get("/api/models", headers=headers).status_code == 200, headers
    assert client.post("/api/summary", content=b"x" * (MAX_BODY + 1)).status_code == 413


def test_a_body_without_a_length_is_bounded_too(client):
    reply = client.post(
        "/api/summary",
        content=(b" " * 2**16 for _ in range(20)),
        headers={"content-type": "application/json"},
    )
    assert 400 <= reply.status_code < 500


def test_a_server_for_others_answers_to_its_name_and_to_numbers():
    async def app(*_):
        raise AssertionError("never called")

    headers = [{b"host": name} for name in (b"box.example:80", b"192.168.1.5:80", b"evil.example")]
    assert [bool(Guard(app, ["box.example"]).refusal(h)) for h in headers] == [False, True, True]
    assert [bool(Guard(app, ["0.0.0.0"]).refusal(h)) for h in headers] == [True, False, True]


def test_a_full_queue_says_so_at_once():
    import asyncio

    from interp.debugger.workers import Busy, Workers

    async def full():
        workers, hold = Workers(1, 2), threading.Event()
        waiting = [asyncio.ensure_future(workers.run(hold.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 requests are waiting"):
            await workers.run(lambda: None)
        hold.set()
        await asyncio.gather(*waiting)
        assert await workers.run(lambda: 3) == 3
        workers.close()

    asyncio.run(full())


def test_a_stream_stops_when_its_listener_goes():
    import asyncio

    from interp.debugger.workers import Workers

    computed = []

    def items():
        for i in range(1000):
            computed.append(i)
            yield i

    async def leave():
        workers = Workers(1)
        async for item in workers.stream(items()):
            if item == 2:
                break
        await asyncio.sleep(0.05)
        workers.close()

    asyncio.run(leave())
    assert computed == [0, 1, 2]


@pytest.fixture
def server():
    """The API on a real socket."""
    made = uvicorn.Server(
        uvicorn.Config(Guard(api.build(Session({"ioi-mini": MODEL}))), port=0, log_level="warning")
    )
    bound = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=made.run, kwargs={"sockets": [bound]})
    thread.start()
    while not made.started:
        time.sleep(0.01)
    yield bound.getsockname()[1]
    made.should_exit = True
    thread.join()


def test_a_client_that_is_gone_computes_nothing_more(server, monkeypatch):
    """Over a real socket, hung up after the first line of a sweep of 2,048 chunks."""
    monkeypatch.setattr(totals, "CHUNK", 14)
    swept, real = [], GPT2.rerun
    monkeypatch.setattr(
        GPT2,
        "rerun",
        lambda self, trace, patches, *rest, **more: (
            swept.append(len(patches)),
            real(self, trace, patches, *rest, **more),
        )[1],
    )
    body = json.dumps(
        {
            "question": asdict(ASKED),
            "addresses": [f"m{layer}.n{n}" for layer in range(4) for n in range(512)],
        }
    ).encode()
    with socket.create_connection(("127.0.0.1", server)) as line:
        line.sendall(
            b"POST /api/totals/stream HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: "
            b"application/json\r\ncontent-length: %d\r\n\r\n" % (server, len(body)) + body
        )
        assert b"m0.n0" in line.recv(4096) + line.recv(4096)
    time.sleep(0.3)
    done = len(swept)
    time.sleep(0.5)
    assert len(swept) == done < 1500
