"""What the server lets in and how long it works: its own pages, bodies within bounds, a bounded
queue, nothing for a client that is gone."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from interp.debugger import api, arrival, start, totals
from interp.debugger.arrival import MAX_BODY
from interp.debugger.guard import Guard
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

    names = ("box.example:80", "192.168.1.5:80", "evil.example")
    headers = [Headers({"host": name}) for name in names]
    box, every = Guard(app, ["box.example"]), Guard(app, ["0.0.0.0"])
    assert [box.refused(h, "http") is None for h in headers] == [True, False, False]
    assert [every.refused(h, "http") is None for h in headers] == [False, True, False]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ([("host", "127.0.0.1:8080"), ("host", "localhost:8080")], 400, "2 Host headers"),
        (
            [("origin", "http://127.0.0.1:8080"), ("origin", "http://evil.example")],
            400,
            "2 Origin headers",
        ),
        ([("origin", "https://127.0.0.1:8080")], 403, "another site's"),
        ([("origin", "http://127.0.0.1")], 403, "another site's"),
    ],
)
def test_two_headers_of_one_kind_and_another_scheme_are_refused(client, headers, status, said):
    reply = client.get("/api/models", headers=headers)
    assert (reply.status_code, said in reply.json()["detail"]) == (status, True)


@pytest.mark.parametrize("path", ["/api/nothing", "/api", "/api/nodes/x", "/apis"])
def test_an_unknown_path_is_no_page(client, path):
    reply = client.get(path)
    if path.startswith("/api/") or path == "/api":
        assert reply.status_code == 404
        assert "/api/nodes" in reply.json()["detail"]
    assert "<html" not in reply.text


def test_an_unknown_method_names_those_that_there_are(client):
    reply = client.get("/api/nodes")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert "POST" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), 503),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), 503),
        (KeyError("a fault"), 500),
        (RuntimeError("a fault"), 500),
    ],
)
def test_every_failure_is_json(client, monkeypatch, error, status):
    def fails(*_):
        raise error

    monkeypatch.setattr(Session, "runs", fails)
    told = TestClient(client.app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    reply = told.post("/api/summary", json=asdict(ASKED))
    assert reply.status_code == status
    assert ("memory" if status == 503 else "a fault of this program") in reply.json()["detail"]


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
    made = start.server(start.protected(api.build(Session({"ioi-mini": MODEL}))))
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


def test_a_request_that_never_ends_is_ended(server, monkeypatch):
    """Headers and body each have a deadline."""
    monkeypatch.setattr(arrival.Punctual, "seconds", 0.3)
    monkeypatch.setattr(arrival.Arrival, "seconds", 0.3, raising=False)
    head = b"POST /api/summary HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % server
    with socket.create_connection(("127.0.0.1", server), timeout=5) as line:
        line.sendall(head)
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_server_says_where_it_is_before_its_models_are_there(monkeypatch, capsys):
    class Stop(Exception):
        pass

    def load():
        raise Stop

    with pytest.raises(Stop):
        serve(load, port=0, show=False)
    assert "http://127.0.0.1:" in capsys.readouterr().out
