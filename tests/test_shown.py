"""Every record that a user can hold says what it is on a line, and in a notebook as a table."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from html.parser import HTMLParser

import pytest
import torch

import weights
from interp import attribution, figures, metrics, patching
from interp.attribution import Closure
from interp.audit.row import Audit, Row, Section
from interp.circuit import Circuit
from interp.circuit.criteria import Faithfulness, Removal
from interp.debugger import nodes
from interp.debugger.question import Question
from interp.debugger.session import Session
from interp.discover.null import Cutoff
from interp.discover.record import Discovery, Finding, Map
from interp.discover.roles import Scores
from interp.effects import Effects
from interp.ioi.part import Claim, Part
from interp.ioi.study import Study
from interp.lens import lens
from interp.tasks import Prompts
from interp.why import why
from minigpt import GPT2, Config, Patch, Receipt, Sweep, Tokenizer, Trace
from minigpt.shown import Shown
from minigpt.vocabulary import Names
from tests.test_architecture import OURS
from weights.catalog import KNOWN

# Records that only the engine, a page or a command holds.
WITHIN = (
    "minigpt.recompute",
    "minigpt.reference",
    "minigpt.settle",
    "minigpt.device",
    "interp.show",
    "interp.figures",
    "interp.cli",
    "interp.debugger.api",
    "interp.debugger.cards",
    "interp.debugger.place",
)
LONGEST, LINES = 120, 16
EVIL = "<script>alert('1')</script>"


def records(names: Mapping[str, str]) -> Iterator[type]:
    """The public dataclasses of modules, by their sources."""
    for name, source in names.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                known = getattr(importlib.import_module(name), node.name)
                if is_dataclass(known) and not name.startswith(WITHIN):
                    yield known


def faults(held: type) -> list[str]:
    """What a class lacks to show itself."""
    own = held.__repr__ is not object.__repr__
    return [f"{held.__name__} has no __repr__"] * (not own) + [
        f"{held.__name__} has no _repr_html_: let it be Shown"
    ] * (not hasattr(held, "_repr_html_"))


HELD = [*records(OURS), Sweep, Tokenizer, figures.Figure]


@pytest.mark.parametrize("held", HELD, ids=lambda held: f"{held.__module__}.{held.__name__}")
def test_every_record_has_both_forms(held):
    assert not faults(held), faults(held)


def test_twin_a_record_without_them_is_noticed():
    @dataclass(repr=False)
    class Bare:
        x: int = 1

    assert len(faults(Bare)) == 2
    assert not faults(dataclass(repr=False)(type("Good", (Shown,), {})))
    assert {GPT2, Trace, Config, Receipt, Patch, Prompts, Effects, Circuit} < {*HELD}


@cache
def roots() -> list[object]:
    """Records of every kind, from which the others can be reached."""
    model = weights.load("ioi-mini")
    text = "When Mary and John went to the store, John gave a drink to"
    other = text.replace("John gave", "Mary gave")
    pairs = Prompts.from_texts(model.tokenizer, [text], [other], [" Mary"], [" John"])
    metric, trace = metrics.logit_diff(pairs), model.run(pairs)
    patch = Patch.write("a0.6@9", model.run(other)) | Patch.hold("mlps", trace)
    found = Circuit({"mover": "a2.6@END a3.4@END"})
    question = Question(prompt=text, answers=(" Mary",), distractors=(" John",))
    runs = Session({"ioi-mini": model}).runs(question)
    return [
        *(model, model.tokenizer, pairs, pairs.batch, metric, trace, patch, lens(trace), found),
        *(model.rerun(trace, patch), model.rerun(trace, [patch], "out@-1"), why(model, text)),
        *(attribution.direct(trace, metric), patching.nodes(model, pairs, metric, over="heads")),
        *(found.faithfulness(model, pairs, metric, "zero"), nodes.table(runs), question, runs),
        *(
            KNOWN[0],
            discovery(),
            study(),
            Audit("m", "p", "cpu", (section(),)),
            Removal("K", (), 1, 2),
        ),
    ]


def discovery() -> Discovery:
    effects = Effects("paths", "logit", ("a0.1",), torch.ones(1, 2), torch.ones(2), KNOWN[0].config)
    asked = Map(("out",), "END", 3.0, effects, Cutoff(0.1, 0.0, 0.2, 0.05), ("a0.1",))
    scores = Scores({"IO": 0.9}, {"S2": 0.8}, 1.0, 0.0, {"induction": 0.1})
    head = Finding("a0.1@END", "name mover", {"out": 1.0}, scores)
    return Discovery(
        (head,),
        (asked,),
        "logit",
        3.0,
        0.1,
        0.05,
        32,
    )


def section() -> Section:
    return Section("parity", "Parity", EVIL, (Row.under("a promise " * 40, 1.0, 2.0),))


def study() -> Study:
    part = Part(
        "task", EVIL, "figure 2", "a text " * 99, claims=[Claim("accuracy", "table 1", 0.9)]
    )
    return Study("ioi-mini", 20, 0, parts=[part], circuits={"found": Circuit({"mover": "a2.6"})})


def reached() -> dict[type, list[Shown]]:
    """Every Shown that the roots hold, by its class."""
    found: dict[type, list[Shown]] = {}
    seen, waiting = set(), list(roots())
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (str, bytes, torch.Tensor)):
            continue
        seen.add(id(thing))
        if isinstance(thing, Shown):
            found.setdefault(type(thing), []).append(thing)
            waiting += vars(thing).values()
        elif isinstance(thing, Mapping):
            waiting += thing.values()
        elif isinstance(thing, (list, tuple)):
            waiting += thing
    return found


def test_what_is_said_of_a_record_is_short():
    every = reached()
    named = {GPT2, Trace, Config, Receipt, Patch, Prompts, Effects, Circuit, Tokenizer, Sweep}
    assert named | {Faithfulness, Closure, Study, Audit, Discovery, nodes.Table} < {*every}
    for kind, things in every.items():
        for thing in things[:20]:
            lines = repr(thing).splitlines()
            longest = max(map(len, lines))
            assert longest <= LONGEST, f"{kind}: {longest} letters: {thing!r}"
            assert 1 <= len(lines) <= LINES, f"{kind}: {len(lines)} lines"


class Tags(HTMLParser):
    """Which tags a page has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def test_a_record_in_a_notebook_is_a_line_and_a_table():
    for kind, things in reached().items():
        html = things[0]._repr_html_()
        assert Tags(html).found <= {"div", "code", "table", "tr", "th", "td"}, kind
        assert {"code", "table"} <= Tags(html).found, kind
        assert len(html) < 8000, f"{kind}: {len(html)}"


def test_whatever_text_a_record_has_is_escaped():
    tokenizer = Tokenizer(Names("names", ["<", "script", ">", EVIL]))
    pairs = Prompts([[3, 0]], [[3, 1]], [[3]], [[2]], tokenizer=tokenizer)
    effects = Effects(EVIL, EVIL, (), torch.ones(0, 1), torch.ones(1), KNOWN[0].config)
    for thing in (tokenizer, pairs, effects, section(), study(), Circuit({EVIL: "a0.1"})):
        html = thing._repr_html_()
        assert "alert(" in html
        assert "script" not in Tags(html).found


def test_twin_an_escape_that_is_left_out_is_noticed():
    assert "script" in Tags(f"<div>{EVIL}</div>").found
