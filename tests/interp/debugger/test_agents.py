"""The server for agents, asked by the protocol's own client: the same records as the API's;
refusals with what is legal."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import anyio
import pytest

pytest.importorskip("mcp", reason="needs the protocol's SDK: pip install '.[mcp]'")

from mcp import StdioServerParameters
from mcp.client.client import Client

import weights
from interp.cli.inputs import EMBEDDED, load
from interp.debugger import agents, export
from interp.debugger.question import Question
from interp.debugger.session import Session

ASKED = {
    "prompt": "When Mary and John went to the store, John gave a drink to",
    "answers": [" Mary"],
    "distractors": [" John"],
}
TWIN = "When Mary and John went to the store, Mary gave a drink to"
WORDS = tuple(ASKED["answers"]), tuple(ASKED["distractors"])
QUESTION = Question(prompt=ASKED["prompt"], answers=WORDS[0], distractors=WORDS[1])
SESSION = Session({"ioi-mini": load("ioi-mini", latents=EMBEDDED["ioi-mini"])})


def called(name: str, given: dict | None = None, server=None):
    """What a tool answers, and whether it refused."""

    async def ask():
        async with Client(server or agents.build(SESSION)) as client:
            return await client.call_tool(name, given or {})

    found = anyio.run(ask)
    return found, "".join(part.text for part in found.content)


@pytest.mark.parametrize("tool", agents.ASKS)
def test_a_tool_answers_with_the_record_of_its_result(tool):
    more = {"node": "a2.6@13"} if tool in ("attention", "details") else {}
    more |= {"trail": ["a3.4.q@13<1"]} if tool == "upstream" else {}
    more |= {"other": TWIN} if tool == "path_map" else {}
    more |= {"graph": ["a2.6@13", "a3.4@13"]} if tool == "circuit" else {}
    found, said = called(tool, {"question": {**ASKED, **more}})
    assert not found.is_error, said
    tuples = {name: tuple(x) if isinstance(x, list) else x for name, x in more.items()}
    asked = Question(prompt=ASKED["prompt"], answers=WORDS[0], distractors=WORDS[1], **tuples)
    own = asdict(export.result(SESSION.runs(asked), agents.ASKS[tool][0]))
    assert json.loads(said) == json.loads(json.dumps(own))


def test_models_links_traces_and_patches():
    assert "ioi-mini" in called("models")[1]
    assert called("link", {"question": ASKED})[1] == QUESTION.to_url()
    read = json.loads(called("trace", {"prompt": ASKED["prompt"], "addresses": ["a2.6@-1"]})[1])
    assert read["a2.6@-1"] == SESSION.models["ioi-mini"].run(ASKED["prompt"])["a2.6@-1"].tolist()
    lines = {"question": ASKED, "interventions": ["a3.4 = 0"]}
    found, said = called("patch", lines)
    assert not found.is_error
    plain = called("ask", {"question": ASKED})[1]
    assert said != plain


@pytest.mark.parametrize(
    ("tool", "given", "part"),
    [
        ("ask", {"question": {**ASKED, "answers": ["Mary and"]}}, "legal"),
        ("ask", {"question": {**ASKED, "what": 1}}, "what"),
        ("trace", {"prompt": "When Mary", "addresses": ["a9.9"]}, "layers 0 to 3"),
        ("patch", {"question": ASKED, "interventions": ["a2.6 == 0"]}, "a2.6"),
        ("patch", {"question": ASKED, "interventions": []}, "no interventions"),
        ("component", {"address": "a2.6"}, "interp"),
        ("ask", {"question": {**ASKED, "model": "gpt3"}}, "ioi-mini"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_says_what_can(tool, given, part):
    found, said = called(tool, given)
    assert found.is_error
    assert part in said


def test_components_come_from_the_servers_store(tmp_path):
    from interp.corpus.make import make
    from weights.catalog import CONCEPTS

    texts = tmp_path / "texts.jsonl"
    lines = CONCEPTS.read_text("utf-8").splitlines()[:20]
    texts.write_text("\n".join(json.dumps({"text": json.loads(x)["text"]}) for x in lines))
    model = weights.load("ioi-mini")
    store = make(model, [texts], tmp_path / "store")
    server = agents.build(Session({"ioi-mini": model}, stores={"ioi-mini": store}))
    found, said = called("component", {"address": "a2.6"}, server)
    assert not found.is_error, said
    data = json.loads(said)
    assert data["address"] == "a2.6"
    assert data["examples"]
    assert data["explanation"]


def test_the_command_speaks_on_its_standard_input():
    """As an editor starts it."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "interp.cli", "mcp"])

    async def ask():
        async with Client(server) as client:
            tools = await client.list_tools()
            return [tool.name for tool in tools.tools], await client.call_tool("models", {})

    names, found = anyio.run(ask)
    assert {"ask", "nodes", "trace", "patch", "upstream", "circuit", "component"} <= set(names)
    assert not found.is_error
