"""A language model behind an address: good, slow, busy, broken off, malformed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from interp.corpus.component import Component
from interp.explain.asked import HEAD, LETTERS, PART, looking, to_explain, written
from interp.explain.endpoint import Endpoint, EndpointError
from interp.explain.passages import Passage
from interp.explain.told import parsed, told
from tests.interp.explain.test_explain import PLANTED, component, passage

Reply = Callable[[BaseHTTPRequestHandler, dict], None]


def send(handler: BaseHTTPRequestHandler, text: str, status: int = 200, **headers: str) -> None:
    """An answer with this text."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    choices = [{"message": {"role": "assistant", "content": text}}]
    body = json.dumps({"choices": choices, "usage": usage}).encode()
    handler.send_response(status)
    for name, value in {**headers, "content-length": str(len(body))}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def knows(handler: BaseHTTPRequestHandler, body: dict) -> None:
    """One that understands: responds to ' w3' and ' w7'."""
    system, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
    if system == PART.explain:
        assert " w3\t10" in asked or " w7\t10" in asked
        send(handler, "It responds to ' w3' and ' w7'.\nAnd more.")
        return
    sentence, _, tokens = asked.partition("\n")
    named = [token for token in (" w3", " w7") if repr(token) in sentence]
    send(handler, f"Here: {json.dumps([10 * (t in named) for t in json.loads(tokens)])}")


@contextmanager
def serving(reply: Reply) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        """Answers as it is told to."""

        def do_POST(self) -> None:
            """One question."""
            assert self.path == "/v1/chat/completions"
            reply(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_one_that_understands_scores_high_and_is_asked_once(tmp_path):
    known, kept = component(PLANTED["a set of tokens"][0]), tmp_path / "answers.jsonl"
    with serving(knows) as url:
        endpoint = Endpoint(url, "m", kept)
        found = told(known, endpoint)
        assert found.sentence == "It responds to ' w3' and ' w7'"
        assert (found.kind, found.scores.simulation > 0.99) == ("language model", True)
        assert found.scores.simulation > found.baselines["nothing"].simulation
        assert found.simulator.failed == []
        assert endpoint.read == 7 * endpoint.asked
    again = Endpoint("http://127.0.0.1:9/v1", "m", kept)
    assert told(known, again).to_dict() == found.to_dict()
    assert (again.asked, again.known) == (0, endpoint.asked)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {"asked", "answer", "reply"} <= rows[0].keys()
    assert rows[0]["asked"]["seed"] == 0


def looks_at_names(component: Component) -> Component:
    """The same as a head, which looks from each window's strongest token to its first."""
    examples = tuple(replace(example, source=0) for example in component.examples)
    return replace(component, address="a0.0", examples=examples)


def test_a_head_is_asked_about_by_the_pairs_it_looks_from_and_to():
    seen = []

    def reads(handler: BaseHTTPRequestHandler, body: dict) -> None:
        seen.append(body["messages"])
        first = body["messages"][0]["content"] == HEAD.explain
        send(handler, "from ' w3' to the first word" if first else "[0]")

    with serving(reads) as url:
        known = looks_at_names(component(PLANTED["a set of tokens"][0]))
        found = told(known, Endpoint(url, "m"))
    assert found.sentence == "it looks from ' w3' to the first word"
    system, *shots, asked = [message["content"] for message in seen[0]]
    assert (system, shots[::2]) == (HEAD.explain, [question for question, _ in HEAD.shots])
    assert asked.count("\n' w3' -> ") + asked.count("\n' w7' -> ") == 5
    assert all(messages[0]["content"] == HEAD.simulate for messages in seen[1:])


def test_a_pair_is_marked_where_it_stands_in_the_text():
    words = ("He", " said", " (", "no", ")")
    shown = Passage(words, 0, np.ones(5), "d", (4, 2))
    assert looking(shown) == "He said** (**no[[)]]\n')' -> ' ('"
    assert looking(Passage(words, 0, np.ones(5), "d", (1, 1))).startswith("He[[** said**]] (")


@pytest.mark.parametrize("form", [PART, HEAD])
def test_the_worked_examples_are_of_the_form_that_is_asked_for(form):
    for question, answer in form.shots:
        assert answer.startswith(form.begins)
        mark = "\t10" if form is PART else "[["
        assert mark in question or "\t9" in question
    tokens = json.loads(form.example[0].partition("\n")[2])
    assert parsed(form.example[1], len(tokens)) is not None


@pytest.mark.parametrize(
    ("letters", "shots", "passages"),
    [(3, 3, 5), (2287, 2, 5), (LETTERS // 2, 3, 1), (2 * LETTERS, 0, 1)],
)
def test_where_there_is_no_room_examples_go_first_and_then_passages(letters, shots, passages):
    long = [Passage(("x" * letters,), 0, np.array([float(i)]), "d") for i in range(9)]
    _, *said, asked = to_explain(long, 8.0)
    assert asked["content"].count("x\t") == passages * (letters <= LETTERS)
    assert len(said) == 2 * shots
    assert sum(len(message["content"]) for message in (*said, asked)) <= LETTERS


def test_so_many_are_asked_at_once_and_no_more():
    lock, now, most, wanted = threading.Lock(), [0], [0], [1]

    def counts(handler: BaseHTTPRequestHandler, body: dict) -> None:
        if body["messages"][0]["content"] == PART.explain:
            knows(handler, body)
            return
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        late = time.monotonic() + 10
        while most[0] < wanted[0] and time.monotonic() < late:  # the others are on their way
            time.sleep(0.005)
        with lock:
            now[0] -= 1
        knows(handler, body)

    known, answers = component(PLANTED["a set of tokens"][0]), []
    for at_once in (1, 3):
        most[0], wanted[0] = 0, at_once
        with serving(counts) as url:
            answers.append(told(known, Endpoint(url, "m", at_once=at_once)).to_dict())
        assert most[0] == at_once
    assert answers[0] == answers[1]


def test_what_is_malformed_counts_as_nothing_and_is_counted():
    def babbles(handler: BaseHTTPRequestHandler, body: dict) -> None:
        first = body["messages"][0]["content"] == PART.explain
        send(handler, "names" if first else "I would say [1, 2")

    with serving(babbles) as url:
        found = told(component(PLANTED["a name"][0]), Endpoint(url, "m"))
    assert found.sentence == "it responds to names"
    assert found.scores.simulation == 0.0
    # each passage is asked about once; the same question has the same answer
    assert len(found.simulator.failed) == found.passages


def test_a_busy_one_is_asked_again_when_it_says(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    left = [429, 503]

    def busy(handler: BaseHTTPRequestHandler, body: dict) -> None:
        if left:
            send(handler, "no", left.pop(0), retry_after="0.25")
        else:
            send(handler, "yes")

    with serving(busy) as url:
        endpoint = Endpoint(url, "m")
        assert endpoint.ask([{"role": "user", "content": "?"}]) == "yes"
    assert (endpoint.asked, pauses) == (3, [0.25, 0.25])


def test_a_slow_one_and_one_that_breaks_off_are_given_up_in_the_end():
    def slow(handler: BaseHTTPRequestHandler, body: dict) -> None:
        time.sleep(1)

    def half(handler: BaseHTTPRequestHandler, body: dict) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices": [')

    for reply in (slow, half):
        with serving(reply) as url:
            endpoint = Endpoint(url, "m", seconds=0.2, tries=2, pause=0.01)
            with pytest.raises(EndpointError, match="no answer"):
                endpoint.ask([{"role": "user", "content": "?"}])
            assert endpoint.asked == 2


@pytest.mark.parametrize(("status", "text"), [(401, "no answer"), (404, "no answer")])
def test_what_cannot_get_better_is_not_asked_again(status, text):
    with serving(lambda handler, _: send(handler, "key?", status)) as url:
        endpoint = Endpoint(url, "m")
        with pytest.raises(EndpointError, match=text):
            endpoint.ask([{"role": "user", "content": "?"}])
        assert endpoint.asked == 1


def test_an_answer_without_a_text_is_refused():
    def empty(handler: BaseHTTPRequestHandler, body: dict) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    with serving(empty) as url, pytest.raises(EndpointError, match="without a text"):
        Endpoint(url, "m").ask([{"role": "user", "content": "?"}])


def test_numbers_are_read_and_what_is_none_is_not():
    assert parsed("so: [0, 10, 2.5]", 3).tolist() == [0, 10, 2.5]
    for answer in (
        "[1, 2]",
        "[1, 2, 11]",
        "[1, true, 3]",
        "[1, null, 3]",
        "none",
        "[1, 2, NaN]",
        "[-1,0,0]",
    ):
        assert parsed(answer, 3) is None
    assert written(passage(0, 1.5, 3), 3.0) == "a\t0\nb\t5\nc\t10"
    assert isinstance(parsed("[1]", 1), np.ndarray)
