"""The API gives the functions' own results, and says why it refuses."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.debugger import api, export, totals
from interp.debugger.graph import graphs
from interp.debugger.pathmap import pathmaps
from interp.debugger.question import MAX_PROMPTS
from interp.debugger.session import runs
from tests.conftest import examples
from tests.interp.debugger.questions import ASKED, LONGER, MODEL, OTHER, PROMPT, everything
from tests.interp.debugger.test_links import CHOSEN

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_what_is_not_there_is_said_to_be_not_there(client):
    reply = client.post("/api/summary", json={"prompt": PROMPT, "model": "gpt2"})
    assert reply.status_code == 400
    assert "'gpt2'" in reply.json()["detail"]
    assert client.post("/api/nothing", json={}).status_code == 404


@pytest.mark.parametrize("name", export.RESULTS)
def test_the_api_gives_the_functions_own_results(client, name):
    reply = client.post(f"/api/{name}", json=asdict(everything()))
    assert reply.status_code == 200
    assert reply.json() == json.loads(
        export.as_json(export.result(runs(MODEL, everything()), name))
    )
    asked = runs(MODEL, everything())
    for kind in ("json", "csv"):
        assert client.post(
            f"/api/export/{name}?format={kind}", json=asdict(everything())
        ).text == export.as_file(asked, name, export.result(asked, name), kind)
    assert client.post(
        f"/api/export/{name}?format=python", json=asdict(everything())
    ).text == export.as_python(everything(), name)


@pytest.mark.parametrize(
    ("name", "every"), [("totals", totals.totals), ("graph", graphs), ("pathmap", pathmaps)]
)
def test_long_work_comes_as_it_is_computed(client, name, every):
    reply = client.post(f"/api/{name}/stream", json={"question": asdict(everything())})
    assert [json.loads(line) for line in reply.text.splitlines()] == [
        json.loads(export.as_json(each)) for each in every(runs(MODEL, everything()))
    ]


def test_totals_of_some_addresses_and_nothing_silently_ignored(client):
    reply = client.post(
        "/api/totals/stream", json={"question": asdict(ASKED), "addresses": ["a2.6@13"]}
    )
    assert list(json.loads(reply.text)["effects"]) == ["a2.6@13"]
    assert (
        client.post(
            "/api/totals/stream", json={"question": asdict(ASKED), "addresses": ["a9.9"]}
        ).status_code
        == 400
    )
    assert (
        client.post(
            "/api/totals/stream", json={"question": asdict(ASKED), "addresses": ["a2.6"] * 5000}
        ).status_code
        == 200
    )
    many = [f"m{layer}.n{n}" for layer in range(4) for n in range(512)] + [
        f"m0.n{n}@{t}" for t in range(5) for n in range(512)
    ]
    assert (
        "up to 4000"
        in client.post(
            "/api/totals/stream", json={"question": asdict(ASKED), "addresses": many}
        ).json()["detail"]
    )


def test_links_and_facts(client):
    assert client.get(f"/api/question?{everything().to_url()}").json() == json.loads(
        json.dumps(asdict(everything()))
    )
    assert client.post("/api/link", json=asdict(everything())).json() == {
        "url": everything().to_url()
    }
    assert client.get("/api/question?promt=x").status_code == 400
    assert client.get("/api/models").json()[0]["n_layer"] == 4
    assert "direct" in client.get("/api/definitions").json()
    assert set(export.RESULTS) == set(api.RECORDS)


def test_the_reference_has_every_operation_and_record_and_loads_nothing(client):
    text, schema = client.get("/api/docs").text, client.get("/api/openapi.json").json()
    for name in (*schema["paths"], "Question", "Table", "distractors", "other_answers"):
        assert name in text
    assert "<script" not in text
    assert "http" not in text.replace("Http", "")
    for name in ("Question", "Summary", "Upstream"):
        assert f"<h2 id={name}>" in text


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"prompt": "a " * 2000}, 400, "2001 tokens"),
        ({"prompt": PROMPT, "reference": [PROMPT] * MAX_PROMPTS}, 422, "65 prompts"),
        ({"prompt": "a" * 20000}, 422, "1,024 tokens"),
        ({"promt": "x"}, 422, "promt"),
        ({"prompt": 3}, 422, "prompt"),
        ([], 422, "question"),
        ({"prompt": PROMPT, "answers": [" Marry"]}, 400, "one token"),
        ({"prompt": "\ud800"}, 422, "surrogate"),
        ({"k": float("nan")}, 422, "k"),
        ({"model": "../../etc/passwd", "prompt": PROMPT}, 400, "ioi-mini"),
    ],
)
def test_refusals_say_why(client, body, status, part):
    reply = client.post(
        "/api/summary", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert reply.status_code == status
    assert part in reply.json()["detail"]


ADDRESSES = st.sampled_from(
    [
        "a2.6",
        "a2.6@13",
        "a9.9",
        "m1.n7@9",
        "m1@3",
        "emb@2",
        "pos@-1",
        "out",
        "out@13",
        "a3.4.q@13<1",
        "a3.4@13<1",
        "a3.4.v@13",
        "resid2",
        "resid2@4",
        "a2.6.pattern@5",
        "a2.6.z",
        "a0.1>a2.6.q@4",
        "m1>out",
        "a3.b@1",
        "out.b@13",
        "m2.b",
        "input@4",
        "a2.6@13<",
        "@",
        "<",
        "",
    ]
)
LINES = st.tuples(
    ADDRESSES,
    st.sampled_from(
        ["0", "other", "this", "mean(reference)", "x2", "x-1e6", "x1e99", "", "zero", "hold"]
    ),
).map(" = ".join)
PLAUSIBLE = {
    "model": st.just("ioi-mini"),
    "prompt": st.sampled_from([PROMPT, OTHER, "A", "<|endoftext|>", "", "\x00"]),
    "answers": st.lists(st.sampled_from([" Mary", " John", " Marry", ""]), max_size=2),
    "distractors": st.lists(st.sampled_from([" John", " Anna"]), max_size=2),
    "other": st.sampled_from(["", OTHER, LONGER, "B"]),
    "metric": CHOSEN["metric"],
    "compare": CHOSEN["compare"],
    "split": CHOSEN["split"],
    "sort": CHOSEN["sort"],
    "k": st.integers(1, 20),
    "instead": CHOSEN["instead"],
    "patches": st.lists(LINES, max_size=2),
    "node": ADDRESSES,
    "trail": st.lists(ADDRESSES, max_size=3),
    "graph": st.lists(ADDRESSES, max_size=4),
    "receivers": st.lists(ADDRESSES, max_size=2),
    "at": st.sampled_from(["END", "all", "3", "-1", "99", "x<", ""]),
    "reference": st.lists(st.sampled_from([PROMPT, OTHER, "A"]), max_size=2),
    "find": st.sampled_from(["", "a3", "john @13", "("]),
}


def check_plausible(client, body, name):
    reply = client.post(f"/api/{name}", json=body)
    assert reply.status_code in (200, 400, 422), (name, body)
    assert isinstance(reply.json(), dict)
    return reply.status_code


@examples(40)
@given(st.fixed_dictionaries({}, optional=PLAUSIBLE), st.sampled_from(list(export.RESULTS)))
def test_half_sensible_questions_never_break_the_server(client, body, name):
    check_plausible(client, {"model": "ioi-mini", "prompt": PROMPT, **body}, name)


@pytest.mark.slow
@settings(max_examples=5000)
@given(st.fixed_dictionaries({}, optional=PLAUSIBLE), st.sampled_from(list(export.RESULTS)))
def test_thousands_of_half_sensible_questions_never_break_the_server(client, body, name):
    check_plausible(client, {"model": "ioi-mini", "prompt": PROMPT, **body}, name)
