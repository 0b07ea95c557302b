"""The answer in a sentence, the lens, the graph after interventions, and what may go on to be
typed: each against the library."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import weights
from interp import attribution
from interp.debugger.completion import Completions
from interp.debugger.graph import graph, sources
from interp.debugger.lens import WINDOW, lens_table
from interp.debugger.pathmap import pathmap
from interp.debugger.session import Session
from interp.debugger.summary import summary
from interp.debugger.verdict import verdict
from interp.lens import lens
from minigpt import Patch
from tests.interp.debugger.questions import ASKED, METRIC, MODEL, OTHER, PROMPT, asked

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_the_verdict_says_what_pushes_and_against():
    said = verdict(asked(find="nothing", sort="norm", split=("neurons",)))
    assert said.startswith("Most for it: m3 +12.266, m2 +3.295, a3.4 +2.835 (looks at ' Mary').")
    assert "Most against it: a1.6 −0.764" in said
    assert summary(asked()).verdict == said


@pytest.mark.parametrize("line", ["a2.6@13 = 0", "a2.6@13=0"])
def test_after_an_ablation_the_verdict_names_who_responds(line):
    said = verdict(asked(patches=(line,)))
    assert said == (
        "Without a2.6@13: −0.239. Writes that changed most: m3 −1.105, a3.0 +0.275 "
        "(looks at ' John'), m2 −0.231."
    )


def test_other_verdicts_say_what_differs():
    assert verdict(asked(patches=("a2.6 = x0.5",))).startswith("With a2.6 = x0.5: ")
    two = verdict(asked(other=OTHER))
    assert two.startswith("This prompt +20.206, other prompt −22.548. Writes that differ most: m3 ")
    assert verdict(asked(metric="probability", patches=("a2.6 = 0",))).startswith("Without a2.6: ")
    assert verdict(asked(metric="loss")) == ""


def test_the_lens_is_the_librarys_around_the_selected_position():
    found, trace = lens_table(asked(node="a2.6@9", patches=("a2.6 = 0",))), MODEL.run(PROMPT)
    whole, metric = lens(trace, 3), dict(attribution.logit_lens(trace, METRIC))
    assert found.positions == tuple(range(14))[:WINDOW]
    assert {point.address: point.metric.left for point in found.points} == metric
    for point, ids, chances in zip(found.points, whole.ids, whole.probabilities, strict=True):
        for at, said in zip(found.positions, point.left, strict=True):
            assert [s.token for s in said] == [MODEL.words.text(i) for i in ids[0, at].tolist()]
            assert [s.probability for s in said] == pytest.approx(chances[0, at].tolist(), rel=1e-5)
    assert found.points[-1].right != found.points[-1].left
    chances = trace.logits_at(-1)[0].softmax(-1).topk(3).values
    assert torch.allclose(whole.probabilities[-1, 0, -1], chances, rtol=1e-4)


def test_the_graph_is_of_the_run_after_the_interventions():
    nodes = ("a3.4@13", "m1@13", "emb@9")
    clean = graph(asked(graph=nodes))
    found = graph(asked(graph=nodes, patches=("a2.6 = 0",)))
    assert (clean.side, found.side) == ("this prompt", "after")
    run, patch = MODEL.run(PROMPT), Patch.zero("a2.6")
    base = float(METRIC(MODEL.rerun(run, patch)))
    assert found.metric == base
    for edge in found.edges:
        both = patch | Patch.read(edge.edge, 0.0)
        assert edge.effect == float(METRIC(MODEL.rerun(run, both))) - base
    assert {e.edge: e.effect for e in found.edges} != {e.edge: e.effect for e in clean.edges}


@pytest.mark.parametrize("part", ["m1.n7@13", "m1.l138@13"])
def test_an_edge_into_a_part_of_an_mlp_leads_on_through_that_part_alone(part):
    """As if all other parts of the layer were held."""
    model = MODEL.with_dictionaries(weights.load_dictionary("ioi-mini:m1"))
    run = model.run(PROMPT)
    name = part.partition("@")[0]
    whole = name.rstrip("0123456789")
    beside = ["m1.l.b", "m1.e"] if whole == "m1.l" else []
    names = [*beside, *(f"{whole}{i}" for i in range(512))]
    names.remove(name)
    found = graph(Session({model.name: model}).runs(replace(ASKED, graph=(part, "m0@13"))))
    (edge,) = [e for e in found.edges if e.receiver == part and e.sender == "m0@13"]
    held = Patch.read("m0>m1.in@13", 0.0) | Patch.hold(" ".join(names), run)
    expected = float(METRIC(model.rerun(run, held))) - float(METRIC(run))
    assert edge.effect == pytest.approx(expected, abs=2e-4)
    everything = model.rerun(run, Patch.read("m0>m1.in@13", 0.0))
    assert edge.effect != pytest.approx(float(METRIC(everything)) - float(METRIC(run)), abs=1e-2)


def test_the_path_map_says_that_it_is_before_the_interventions():
    question = {"other": OTHER, "patches": ("a2.6 = 0",)}
    assert pathmap(asked(**question)).before
    assert not pathmap(asked(other=OTHER)).before
    assert pathmap(asked(**question)).cells == pathmap(asked(other=OTHER)).cells


@pytest.mark.slow
def test_the_strongest_sources_are_those_of_the_largest_exact_edges():
    found = sources(asked(graph=("a2.6@13",)), "a2.6@13", k=3)
    every = [
        f"{name}>a2.6.{port}@{at}"
        for name in (
            "emb",
            "m0",
            "m1",
            *(f"a{layer}.{head}" for layer in (0, 1) for head in range(8)),
        )
        for port, at in (("q", 13), ("k", 13), ("v", 13), ("k", 1), ("v", 1))
    ]
    run = MODEL.run(PROMPT)
    effects = {
        edge: abs(float(METRIC(MODEL.rerun(run, Patch.read(edge, 0.0)))) - float(METRIC(run)))
        for edge in every
    }
    best = sorted(effects, key=lambda edge: -effects[edge])
    named = dict.fromkeys(f"{e.partition('>')[0]}@{e.partition('@')[2]}" for e in best)
    assert found == tuple(named)[:3]
    assert sources(asked(graph=("a2.6@13", found[0])), "a2.6@13", k=1) == (found[1],)


def test_a_word_goes_on_as_the_vocabulary_has_it():
    known = Completions(MODEL.words)
    assert known.of("Jessi")[:1] == ["Jessica"]
    assert known.of("Mary, Jessi")[:1] == ["Mary, Jessica"]
    for typed in ("", "Mary,", '"Jes', "zzzz"):
        assert known.of(typed) == []
    assert all(MODEL.words.single(f" {word}") for word in known.of("a"))
