"""The same results for agents and editors, as tools of the Model Context Protocol: the functions of
the page and of the JSON API, under names that say what they do.

Every answer is the record that the API gives; what cannot be asked is an error that says what is
legal and what to type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

import minigpt
from interp.debugger import components, export
from interp.debugger.api import RECORDS, Model, facts
from interp.debugger.question import Question, QuestionError
from interp.debugger.session import Session
from minigpt.errors import MiniGPTError

P = ParamSpec("P")
R = TypeVar("R")
# What a tool is called where that is not its result's name, and what it is for.
ASKS = {
    "ask": ("summary", "Why a token rather than another: the logits, their difference, top tokens"),
    "nodes": ("nodes", "The nodes that push for the answer and against it, sorted"),
    "total_effects": ("totals", "What is lost without each node, by running without it"),
    "attention": ("attention", "Where the question's `node`, a head, looks"),
    "details": ("details", "One `node` from all sides: what it wrote, what it promotes"),
    "upstream": (
        "upstream",
        "The question's `trail`: which earlier writes make a score",
    ),
    "circuit": ("graph", "The circuit graph: nodes and exact effects of the edges between them"),
    "path_map": ("pathmap", "Path patching from every head to the question's `receivers`"),
    "lens": ("lens", "What each stream point would say, position by position"),
}
HOW = (
    "Why a GPT-2 says what it says. Ask with a prompt and answers, each a single token with its "
    "space (' Mary'). Nodes have addresses: a2.6 a head, m3 an MLP, m3.n5 a neuron, m3.l9 a "
    "latent, resid2 the stream, a2.6@-1 at the last position. Interventions are lines: "
    "'a2.6@13 = 0', 'm1 = mean(reference)', 'a2.6 = x0.5'."
)


def build(session: Session) -> MCPServer[Any]:
    """The server; `.run()` speaks on standard input and output."""
    server = MCPServer("minigpt-interp", instructions=HOW, version=minigpt.__version__)
    for name, (result, about) in ASKS.items():
        described = server.tool(name=name, description=f"{about}. {_first(result)}")
        described(_told(_asked(session, result)))
    for tool in (_models(session), _patch(session), _trace(session), _component(session), link):
        server.tool()(_told(tool))
    return server


def _told(tool: Callable[P, R]) -> Callable[P, R]:
    """A tool whose refusals are said to whoever asked."""

    @wraps(tool)
    def told(*args: P.args, **named: P.kwargs) -> R:
        try:
            return tool(*args, **named)
        except MiniGPTError as error:
            raise ToolError(str(error)) from error

    return told


def _first(result: str) -> str:
    return (RECORDS[result].__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _asked(session: Session, result: str) -> Callable[[Question], dict[str, Any]]:
    def ask(question: Question) -> dict[str, Any]:
        return _plain(export.result(session.runs(question), result))

    return ask


def _plain(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = asdict(record)
    return found


def link(question: Question) -> str:
    """The question as a link into the debugger's page."""
    return question.to_url()


def _models(session: Session) -> Callable[[], list[Model]]:
    def models() -> list[Model]:
        """The models that can be asked, and their shapes."""
        return facts(session)

    return models


def _patch(session: Session) -> Callable[[Question, list[str]], dict[str, Any]]:
    def patch(question: Question, interventions: list[str]) -> dict[str, Any]:
        """The same question before and after interventions ("a2.6@13 = 0", "m1 = other")."""
        if not interventions:
            raise QuestionError("no interventions", "lines of a patch", "'a2.6@13 = 0'")
        asked = replace(question, patches=tuple(interventions))
        return _plain(export.result(session.runs(asked), "summary"))

    return patch


def _trace(session: Session) -> Callable[[str, list[str], str], dict[str, Any]]:
    def trace(prompt: str, addresses: list[str], model: str = "ioi-mini") -> dict[str, Any]:
        """Read any addresses of a run: "a2.6@-1", "resid2", "a2.6.pattern", "m3.n5"."""
        run = session.model(model).run(prompt)
        return {address: run[address].tolist() for address in addresses}

    return trace


def _component(session: Session) -> Callable[[str, str], dict[str, Any]]:
    def component(address: str, model: str = "ioi-mini") -> dict[str, Any]:
        """What a head, neuron or latent does on the corpus of the server's store, and what explains
        it, with its scores."""
        found = _plain(components.component(session, model, address))
        try:
            found["explanation"] = _plain(components.explanation(session, model, address))
        except MiniGPTError as error:
            found["explanation"] = {"said": str(error)}
        return found

    return component
