"""The debugger without a browser: every number is the library's, every sum holds, and the known
defects of its predecessor are absent."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import weights
from interp import attribution, metrics, patching
from interp.debugger import api, export, intervene, parts, totals, upstream
from interp.debugger import columns as blocks
from interp.debugger import session as sessions
from interp.debugger.align import inverse, twins
from interp.debugger.attention import attention
from interp.debugger.both import Both, both
from interp.debugger.cache import Kept
from interp.debugger.details import details
from interp.debugger.graph import graph, graphs, suggested
from interp.debugger.guard import MAX_BODY, Guard
from interp.debugger.nodes import table
from interp.debugger.pathmap import pathmap, pathmaps
from interp.debugger.place import Place
from interp.debugger.question import MAX_PROMPTS, SORTS, Question, QuestionError
from interp.debugger.session import Session, runs
from interp.debugger.start import serve
from interp.debugger.summary import summary
from interp.tasks import Prompts
from minigpt import GPT2, MiniGPTError, Patch
from tests.conftest import LETTERS, tiny

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")

PROMPT = "When Mary and John went to the store, John gave a drink to"
OTHER = PROMPT.replace("John gave", "Mary gave")
LONGER = "Then, " + PROMPT
ASKED = Question(prompt=PROMPT, answers=(" Mary",), distractors=(" John",))
LAST = 13
MODEL = weights.load("ioi-mini")
TO = MODEL.tokenizer.single
METRIC = metrics.logit_diff(answers=TO(" Mary"), distractors=TO(" John"))
PAIRS = Prompts.from_texts(MODEL.tokenizer, [PROMPT], [OTHER], [" Mary"], [" John"])
# A model in float64 whose tokens are letters: in it sums hold to 1e-10.
EXACT = replace(tiny(n_layer=3, dtype=torch.float64), tokenizer=LETTERS)
LETTER = Question(model="tiny", prompt="ABCADBC", answers=("D",), distractors=("E",))
STEPS = ("a2.1.q@6<3", "a2.1.k@6<3", "a2.1@6<3", "a2.1@6<6", "a2.1.v@6<3", "a2.1.v@6", "m1.n5@4")


def asked(**changes: object) -> sessions.Runs:
    return runs(MODEL, replace(ASKED, **changes))


def exact(**changes: object) -> sessions.Runs:
    return runs(EXACT, replace(LETTER, **changes))


# --- a question is a link ---------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MANY = st.lists(TEXT, max_size=3).map(tuple)
CHOSEN = {
    "metric": st.sampled_from(["logits", "probability", "loss", "rank"]),
    "compare": st.sampled_from(["", "interventions", "other"]),
    "split": st.lists(st.sampled_from(["keys", "neurons"]), unique=True).map(tuple),
    "sort": st.sampled_from(SORTS),
    "k": st.integers(1, 1000),
    "instead": st.sampled_from(["0", "mean(reference)", "other"]),
}
QUESTIONS = st.fixed_dictionaries(
    {
        f.name: CHOSEN.get(f.name, MANY if isinstance(getattr(ASKED, f.name), tuple) else TEXT)
        for f in fields(Question)
    }
)


@given(QUESTIONS)
def test_defect_8_a_link_brings_every_view_back_exactly(values):
    question = Question(**values)
    assert Question.from_url(question.to_url()) == question
    assert Question.from_url("?" + question.to_url()) == question


def test_what_is_at_its_default_is_left_out_of_a_link():
    assert Question().to_url() == ""
    assert ASKED.to_url() == urlencode(
        [("prompt", PROMPT), ("answers", " Mary"), ("distractors", " John")]
    )
    assert Question.from_url({"answers": [" Mary", " Anna"], "k": 3}) == Question(
        answers=(" Mary", " Anna"), k=3
    )


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("promt=x", ["promt", "prompt"]),
        ("k=many", ["k='many'", "whole number"]),
        ("k=0", ["k=0", "1 to 1000"]),
        ("prompt=a&prompt=b", ["prompt", "twice"]),
        ("sort=size", ["sort='size'", "direct"]),
        ("split=letters", ["split", "keys"]),
        ("instead=one", ["instead", "mean(reference)"]),
        ("&".join(["reference=a"] * 64), ["65 prompts", "up to 64"]),
        ("prompt=" + "a" * 20000, ["20,000 characters", "1,024 tokens"]),
        ("&".join(["trail=a2.3.v@3"] * 40), ["40 steps", "32"]),
        ("&".join(["graph=a2.3@3"] * 300), ["300 graph", "256"]),
    ],
)
def test_a_link_that_means_nothing_is_refused_with_what_is_legal(url, parts):
    with pytest.raises(QuestionError) as error:
        Question.from_url(url)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"answers": (" Marry",)}, ["' Marry' is", "one token"]),
        ({"prompt": ""}, ["empty"]),
        ({"prompt": "a " * 200}, ["201 tokens", "128"]),
        ({"answers": (" John",)}, ["answer and a distractor"]),
        ({"model": "gpt5"}, ["gpt5", "ioi-mini"]),
        ({"compare": "other"}, ["without another prompt"]),
        ({"patches": ("a9.9 = 0",)}, ["layer 9 of 4"]),
        ({"patches": ("a2.6 = other",)}, ["another prompt", "second prompt"]),
        ({"patches": ("a2.6 = 1",)}, ["the source '1'", "mean(reference)"]),
        ({"patches": ("a2.6",)}, ["no intervention"]),
        ({"patches": ("a2.6 = 0", "a2.6@3 = this")}, ["both decide"]),
        ({"patches": ("a2.6@40 = x2",)}, ["@40", "14 tokens"]),
        ({"patches": ("a2.6 = x1e9",)}, ["factor", "1,000,000"]),
        ({"reference": ("When Mary",)}, ["2 tokens", "14"]),
        ({"other": "Mary and Mary"}, ["14 and 3 tokens", "aligned"]),
    ],
)
def test_a_question_that_cannot_be_asked_says_what_to_type(changes, expected):
    model = replace(MODEL, name="ioi-mini")
    with pytest.raises(MiniGPTError) as error:
        Session({"ioi-mini": model}).runs(replace(ASKED, **changes))
    for part in expected:
        assert part in str(error.value)


# --- every number is the library's ------------------------------------------------------------------------------------


def test_the_metric_and_the_logits_are_the_models():
    trace, found = MODEL.run(PROMPT), summary(asked(other=OTHER))
    assert found.metric.left == float(METRIC(trace))
    assert found.metric.right == float(METRIC(MODEL.run(OTHER)))
    logits = trace.logits[0, -1]
    for row in found.next:
        assert row.logit.left == float(logits[row.id])
        assert row.rank.left == int((logits > logits[row.id]).sum())
        assert row.probability.left == pytest.approx(
            float(logits.double().softmax(-1)[row.id]), rel=1e-6
        )
    assert [row.token for row in found.next if row.role == "answer"] == [" Mary"]
    assert [piece.position for piece in found.tokens if piece.differs] == [9]


def test_direct_effects_are_the_librarys_and_what_is_shown_sums_to_the_metric():
    for split in ((), ("keys",), ("neurons",), ("keys", "neurons")):
        found = table(asked(split=split, k=7))
        library = attribution.direct(
            MODEL.run(PROMPT), METRIC, neurons="neurons" in split, sources="keys" in split
        )
        known = {
            f"{name}@{LAST}"
            if ".v@" not in name
            else f"{name.partition('.v@')[0]}@{LAST}<{name.partition('@')[2]}": value
            for name, value in library
        }
        assert len(found.rows) == 14
        for row in found.rows:
            assert row.direct.left == known[row.address]
        assert sum(row.direct.left for row in found.rows) + found.rest.left == pytest.approx(
            found.metric.left, abs=1e-5
        )
        assert found.gap <= found.bound


def test_every_row_together_is_the_whole_table():
    found = table(exact(k=1000))
    assert found.rest.left == pytest.approx(0, abs=1e-12)
    assert sum(row.direct.left for row in found.rows) == pytest.approx(found.metric.left, abs=1e-12)
    assert found.count == 7 * len(
        list(attribution.direct(EXACT.run("ABCADBC"), METRIC_OF(LETTER)).addresses)
    )


def METRIC_OF(question: Question) -> metrics.Metric:
    return runs(EXACT, question).left.metric


def test_twin_a_node_left_out_of_the_sum_is_seen(monkeypatch):
    whole = attribution.direct

    def less(*args, **kwargs):
        found = whole(*args, **kwargs)
        return found.rows([i for i, name in enumerate(found.addresses) if name != "a1.b"])

    monkeypatch.setattr(attribution, "direct", less)
    found = table(asked())
    assert found.gap > found.bound


def test_norms_and_activations_are_the_traces():
    trace, found = MODEL.run(PROMPT), table(asked(sort="norm", split=("neurons",), k=40))
    for row in found.rows:
        write = trace[row.address.partition("@")[0]][0, row.position]
        assert row.norm.left == pytest.approx(float(write.norm()), rel=1e-5)
        if row.kind == "neuron":
            assert row.activation.left == float(trace.act(row.address)[0])
        if row.kind == "head":
            assert row.activation.left == float(
                trace[f"{row.address.partition('@')[0]}.pattern@{row.position}"][0, row.key]
            )


@pytest.mark.parametrize(("instead", "source"), [("0", "zero"), ("other", "pairs")])
def test_defect_14_total_effects_are_exact_not_estimated(instead, source):
    found = totals.complete(asked(other=OTHER, compare="interventions", instead=instead))
    for over in ("heads", "mlps"):
        for name, value in patching.knockout(MODEL, PAIRS, METRIC, over, source):
            assert found.effects[name].left == value


def test_means_are_over_the_reference_prompts():
    texts = (OTHER, PROMPT.replace("drink", "book"))
    found = totals.complete(asked(reference=texts, instead="mean(reference)"), ["a2.6", "m1"])
    reference = Prompts.from_texts(MODEL.tokenizer, list(texts), None, [" Mary"] * 2, [" John"] * 2)
    library = patching.knockout(
        MODEL,
        Prompts.from_texts(MODEL.tokenizer, [PROMPT], None, [" Mary"], [" John"]),
        METRIC,
        ["a2.6", "m1"],
        "mean",
        reference=reference,
    )
    assert {name: effect.left for name, effect in found.effects.items()} == dict(library)


def test_totals_at_a_position_and_on_top_of_interventions():
    clean, patch = MODEL.run(PROMPT), Patch.zero("a3.4")
    found = totals.complete(asked(patches=("a3.4 = 0",)), ["a2.6@13", "a3.4@13", "emb@9"])
    base = float(METRIC(MODEL.rerun(clean, patch)))
    for name in ("a2.6@13", "emb@9"):
        assert (
            found.effects[name].right
            == float(METRIC(MODEL.rerun(clean, patch | Patch.zero(name)))) - base
        )
        assert found.effects[name].left == float(
            METRIC(MODEL.rerun(clean, Patch.zero(name)))
        ) - float(METRIC(clean))
    assert found.effects["a3.4@13"].right is None


def test_totals_come_in_chunks_and_stop_when_nobody_asks(monkeypatch):
    monkeypatch.setattr(totals, "CHUNK", 14 * 3)
    swept, real = [], GPT2.rerun
    monkeypatch.setattr(
        GPT2,
        "rerun",
        lambda self, trace, patches, *rest: (
            swept.append(len(patches)),
            real(self, trace, patches, *rest),
        )[1],
    )
    stream = totals.totals(asked())
    first = next(stream)
    stream.close()
    assert (first.done, first.of, swept) == (3, 36, [3])
    monkeypatch.undo()
    assert first.effects.items() <= totals.complete(asked()).effects.items()


def test_attention_is_the_traces_and_weighted_by_what_is_taken():
    trace, found = MODEL.run(PROMPT), attention(asked(other=OTHER), "a2.6@13")
    side = found.sides[0]
    assert torch.equal(torch.tensor(side.weights), trace["a2.6.pattern"][0])
    value = trace["a2.6.v"][0] @ MODEL.params.blocks[2].w_o[6 * 16 : 7 * 16]
    assert torch.allclose(
        torch.tensor(side.weighted), trace["a2.6.pattern"][0] * value.norm(dim=-1)
    )
    assert len(found.sides) == 2
    with pytest.raises(QuestionError, match="no pattern"):
        attention(asked(), "m2")


def test_details_promote_what_the_write_adds_to_the_logits():
    trace, found = MODEL.run(PROMPT), details(asked(), "a3.4@13").sides[0]
    write, mean = trace["a3.4@13"][0].double(), trace["resid4@13"][0].double().mean()
    assert mean.isfinite()
    logits = (
        (write - write.mean()) * MODEL.params.ln_w / trace.scale("out@13")[0]
    ) @ MODEL.params.unembed.double().T
    best = (logits - logits.mean()).topk(10)
    assert [p.token for p in found.promotes] == [
        MODEL.tokenizer.text(i) for i in best.indices.tolist()
    ]
    assert [p.effect for p in found.promotes] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert found.looked[0].token == " Mary"
    assert sum(p.weight for p in found.looked) == pytest.approx(1)


def test_details_of_what_a_head_takes_from_each_key_add_up_to_its_write():
    whole = exact().left.trace.write(blocks.Site("attn", 2, 1))[0, 6]
    pieces = [parts_of("a2.1@6", key) for key in range(7)]
    assert torch.allclose(torch.stack(pieces).sum(0), whole, rtol=0, atol=1e-12)


def parts_of(address: str, key: int) -> torch.Tensor:
    trace = exact().left.trace
    return Place.parse(f"{address}<{key}", trace).wrote(trace)


def test_graph_edges_are_the_librarys():
    found = graph(
        asked(other=OTHER, instead="other", graph=("a3.4@13", "a2.6@13", "m0@9", "a0.6@9", "emb@9"))
    )
    library = dict(patching.edges(MODEL, PAIRS, METRIC, [edge.edge for edge in found.edges]))
    assert {edge.edge: edge.effect for edge in found.edges} == pytest.approx(library, abs=0)
    assert {"a2.6>a3.4.q@13", "a0.6>a2.6.k@9", "a3.4>out@13"} <= set(library)
    assert "a0.6>out@9" not in library
    direct = dict(attribution.direct(MODEL.run(PROMPT), METRIC))
    assert {v.address: v.direct for v in found.vertices}["a3.4@13"] == pytest.approx(
        direct["a3.4"], rel=1e-5
    )
    assert [v.address for v in found.vertices][-1] == "out@13"
    assert found.circuit["roles"] == {
        "embeddings": "emb@9",
        "heads": "a0.6@9 a2.6@13 a3.4@13",
        "mlps": "m0@9",
    }
    assert suggested(asked(), 2) == ("a3.4@13", "a2.6@13")


def test_the_path_map_is_the_librarys_and_comes_layer_by_layer():
    question = {"other": OTHER, "receivers": ("a3.4.q", "a2.6.q")}
    library = patching.paths(MODEL, PAIRS, METRIC, "heads", ["a3.4.q", "a2.6.q"], "END").grid()
    stages = list(pathmaps(asked(**question)))
    assert [stage.done for stage in stages] == [8, 16, 24, 32]
    assert stages[0].cells[1] == (None,) * 8
    assert torch.equal(torch.tensor(stages[-1].cells, dtype=torch.float64), library)
    assert pathmap(asked(**question)) == stages[-1]
    with pytest.raises(QuestionError, match="second prompt"):
        pathmap(asked())
    with pytest.raises(QuestionError, match="14 and 16 tokens"):
        pathmap(asked(other=LONGER))


# --- upstream ---------------------------------------------------------------------------------------------------------

EDITED = (
    "a0.1@3 = 0",
    "resid1@3 = x1.5",
    "a1.0>a2.1.q@6 = x3",
    "m0 = x2",
    "m1.n2@4 = x-1",
    "resid2.mid@6 = x0.5",
)


@pytest.mark.parametrize("patches", [(), EDITED])
@pytest.mark.parametrize("split", [(), ("neurons",)])
@pytest.mark.parametrize("step", STEPS)
def test_parts_upstream_sum_to_the_score(step, split, patches):
    found = upstream.upstream(exact(trail=(step,), split=split, patches=patches))
    assert found.sum.left == pytest.approx(found.score.left, abs=1e-10)
    if patches:
        assert found.sum.right == pytest.approx(found.score.right, abs=1e-10)
        assert found.score.right != found.score.left
    assert sum(s.direct.left for s in found.sources) + found.rest.left == pytest.approx(
        found.score.left, abs=1e-10
    )


@pytest.mark.parametrize(
    "step", ["a3.4.q@13<1", "a3.4.k@13<1", "a3.4@13<1", "a3.4.v@13", "m2.n300@13"]
)
def test_in_float32_the_gap_is_under_its_bound(step):
    found = upstream.upstream(asked(trail=(step,)))
    assert 0 < found.gap <= found.bound


def doubtful(side: sessions.Side, block: int, weight: str) -> sessions.Side:
    """The same run, as if rounding in one bias of one block could have done very much."""
    params = side.trace.params
    changed = replace(params.blocks[block], **{weight: getattr(params.blocks[block], weight) + 1e6})
    blocks = (*params.blocks[:block], changed, *params.blocks[block + 1 :])
    return replace(side, trace=replace(side.trace, params=replace(params, blocks=blocks)))


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("a0.1.q@6<3", []),
        ("m0.n3@6", ["a0"]),
        ("a1.0.k@6<3", ["a0", "m0"]),
        ("m1.n3@6", ["a0", "m0", "a1"]),
        ("a2.1@6<3", ["a0", "m0", "a1", "m1"]),
        ("m2.n3@6", ["a0", "m0", "a1", "m1", "a2"]),
    ],
)
def test_the_bound_counts_the_rounding_of_every_write_that_the_step_reads_and_no_other(
    step, before
):
    asked_of = exact(trail=(step,))
    bound = upstream.upstream(asked_of).bound
    counted = []
    for layer, (half, bias) in product(range(3), {"a": "b_o", "m": "b_out"}.items()):
        there = replace(asked_of, left=doubtful(asked_of.left, layer, bias))
        counted += [f"{half}{layer}"] * (upstream.upstream(there).bound > 1e3 * bound)
    assert counted == before


def test_twin_a_bias_left_out_upstream_is_seen(monkeypatch):
    every = parts.nodes
    monkeypatch.setattr(
        parts, "nodes", lambda config: (site for site in every(config) if str(site) != "a0.b")
    )
    found = upstream.upstream(exact(trail=("a2.1.q@6<3",)))
    assert found.gap > 1e-3
    assert found.gap > found.bound


def test_the_score_is_what_the_softmax_reads():
    trace = EXACT.run("ABCADBC")
    for through in (".q", ".k", ""):
        expected = trace["a2.1.q@6"][0] @ trace["a2.1.k@3"][0] * EXACT.config.d_head**-0.5
        assert upstream.upstream(exact(trail=(f"a2.1{through}@6<3",))).score.left == pytest.approx(
            float(expected), abs=1e-14
        )


def test_a_values_score_by_the_metric_is_the_heads_direct_effect():
    whole = upstream.upstream(exact(trail=("a2.1.v@6",))).score.left
    library = attribution.direct(EXACT.run("ABCADBC"), METRIC_OF(LETTER))
    assert whole == pytest.approx(library["a2.1"], abs=1e-12)
    pieces = [upstream.upstream(exact(trail=(f"a2.1.v@6<{key}",))).score.left for key in range(7)]
    assert sum(pieces) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "read"),
    [
        ("a2.1.q@6<3", lambda t: t["a2.1.q@6"][0] @ t["a2.1.k@3"][0] * 0.5),
        ("a2.1.k@6<3", lambda t: t["a2.1.q@6"][0] @ t["a2.1.k@3"][0] * 0.5),
        ("m1.n5@4", lambda t: t["m1.in@4"][0] @ EXACT.params.blocks[1].w_in[:, 5]),
    ],
)
@pytest.mark.parametrize("instead", ["0", "other", "mean(reference)"])
def test_exact_effects_upstream_are_reruns_with_that_edge_patched(step, read, instead):
    other = "ABEADBC"
    found = upstream.upstream(
        exact(trail=(step,), instead=instead, other=other, compare="interventions")
    )
    clean, reference = EXACT.run("ABCADBC"), exact().left.sources.reference()
    given = {"0": 0.0, "other": EXACT.run(other)}
    for source in found.sources:
        if source.exact.left is not None:
            edge, at = source.edge.split("@")
            mean = reference[edge.partition(">")[0]][:, int(at)].mean(0)
            patched = EXACT.rerun(clean, Patch.read(source.edge, given.get(instead, mean)))
            assert source.exact.left == pytest.approx(
                float(read(patched) - read(clean)), abs=1e-10
            ), source.edge
    exacts = [source.exact.left for source in found.sources if source.exact.left is not None]
    assert len(exacts) > 5
    assert any(abs(x) > 1e-3 for x in exacts)


def test_exact_effects_of_values_are_reruns_too():
    found = upstream.upstream(exact(trail=("a2.1.v@6<3",)))
    clean = EXACT.run("ABCADBC")
    toward = EXACT.params.blocks[2].w_o[4:8] @ attribution.gradient(clean, METRIC_OF(LETTER))[0]
    for source in (s for s in found.sources if s.exact.left is not None):
        patched = EXACT.rerun(clean, Patch.read(source.edge, 0.0))
        change = (
            (patched["a2.1.v@3"][0] - clean["a2.1.v@3"][0]) @ toward * clean["a2.1.pattern@6"][0, 3]
        )
        assert source.exact.left == pytest.approx(float(change), abs=1e-12)


def test_twin_a_direct_effect_is_not_the_exact_one():
    """LayerNorm's scale moves when a write is left out; were exact effects the closed form, the
    test above would see it."""
    found = upstream.upstream(exact(trail=("a2.1.q@6<3",)))
    assert (
        max(abs(s.exact.left + s.direct.left) for s in found.sources if s.exact.left is not None)
        > 1e-3
    )


def test_sources_upstream_on_both_sides_stand_side_by_side():
    alone = upstream.upstream(
        runs(MODEL, replace(ASKED, prompt=LONGER, trail=("a3.4.q@15<3",), k=100))
    )
    found = upstream.upstream(asked(other=LONGER, trail=("a3.4.q@13<1",), k=100))
    theirs = {source.address.partition("@")[0]: source.direct.left for source in alone.sources}
    assert found.score.right == alone.score.left
    for source in found.sources:
        if source.address:
            assert source.direct.right == theirs[source.address.partition("@")[0]]


def test_the_reference_is_as_long_as_the_prompt_and_a_longer_other_prompt_takes_from_it_where_its_twins_are():
    found = upstream.upstream(
        asked(other=LONGER, trail=("a3.4.q@13<1",), k=100, instead="mean(reference)")
    )
    longer, reference = MODEL.run(LONGER), asked().left.sources.reference()

    def score(trace):
        return (
            float(trace["a3.4.q@15"][0].double() @ longer["a3.4.k@3"][0].double())
            * MODEL.config.d_head**-0.5
        )

    compared = [
        (source.edge.partition(">")[0], source.exact.right)
        for source in found.sources
        if source.exact.right is not None
    ]
    for sender, change in compared:
        patched = MODEL.rerun(
            longer, Patch.read(f"{sender}>a3.4.q@15", reference[f"{sender}@13"].mean(0))
        )
        assert change == pytest.approx(score(patched) - score(longer), abs=1e-4), sender
    assert len(compared) > 5


# --- interventions ----------------------------------------------------------------------------------------------------


def test_operations_are_lines_and_lines_are_patches():
    lines = [
        intervene.line("zero", "a2.6@13"),
        intervene.line("mean", "m1"),
        intervene.line("scale", "a3.1", 0.5),
        intervene.line("freeze", "a3.2"),
        intervene.line("other", "a0.6>a2.1.v@9"),
    ]
    assert lines == [
        "a2.6@13 = 0",
        "m1 = mean(reference)",
        "a3.1 = x0.5",
        "a3.2 = this",
        "a0.6>a2.1.v@9 = other",
    ]
    found = asked(other=OTHER, patches=tuple(lines))
    clean, other = MODEL.run(PROMPT), MODEL.run(OTHER)
    reference = found.left.sources.reference()
    patch = (
        Patch.zero("a2.6@13")
        | Patch.mean("m1", reference)
        | Patch.write("a3.1", 0.5 * clean["a3.1"])
        | Patch.write("a3.2", clean)
        | Patch.read("a0.6>a2.1.v@9", other)
    )
    assert torch.equal(found.right.trace.logits, MODEL.rerun(clean, patch).logits)
    assert found.right.trace["a3.2"].equal(clean["a3.2"])
    for wrong in (("scale", None), ("zero", 2.0), ("scale", float("inf")), ("vanish", None)):
        with pytest.raises(QuestionError):
            intervene.line(wrong[0], "a2.6", wrong[1])


def test_before_after_and_difference_show_how_other_nodes_respond():
    found = asked(patches=("a3.4 = 0", "a2.6@13 = 0"), sort="direct.difference", k=50)
    shown, clean = table(found), MODEL.run(PROMPT)
    patched = MODEL.rerun(clean, Patch.zero("a3.4") | Patch.zero("a2.6@13"))
    before, after = (dict(attribution.direct(trace, METRIC)) for trace in (clean, patched))
    responding = {row.address: row for row in shown.rows}
    assert responding["a3.7@13"].direct == both(before["a3.7"], after["a3.7"])
    assert responding["a3.4@13"].direct.right == 0
    assert [row.direct.difference for row in shown.rows] == sorted(
        (row.direct.difference for row in shown.rows), reverse=True
    )
    receipt = summary(found).receipt
    assert (receipt.changed, receipt.words) == (patched.receipt.changed, str(patched.receipt))


def test_undo_is_a_shorter_list():
    lines = ("a3.4 = 0", "a2.6@13 = 0")
    assert torch.equal(
        asked(patches=lines[:1]).right.trace.logits,
        MODEL.rerun(MODEL.run(PROMPT), Patch.zero("a3.4")).logits,
    )
    assert asked(patches=()).right is None


def test_an_intervention_that_changes_nothing_is_said_to():
    found = summary(asked(patches=("a3.4 = this",)))
    assert not found.receipt.effective
    assert any("changed nothing" in note for note in found.notes)


def test_an_edit_of_a_stream_is_a_row_and_the_sum_still_holds():
    found = table(exact(patches=("resid1@6 = x1.5", "a1.0@6 = x2"), sort="direct.right", k=1000))
    assert {"resid1@6"} <= {row.address for row in found.rows if row.kind == "edit"}
    assert found.sum.right == pytest.approx(found.metric.right, abs=1e-12)


# --- two prompts ------------------------------------------------------------------------------------------------------


def test_prompts_are_aligned_by_how_they_begin_and_end():
    assert twins(list("ABCD"), list("AXCD")) == (0, 1, 2, 3)
    assert twins(list("ABCD"), list("AXBCD")) == (0, 2, 3, 4)
    assert twins(list("ABQCD"), list("ABCD")) == (0, 1, None, 2, 3)
    assert twins(list("ABQCD"), list("ABXYZCD")) == (0, 1, None, 5, 6)
    assert twins(list("AB"), list("AXY")) == (0, 2)
    assert inverse((0, 1, None, 2, 3), 4) == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        ("ABC", "ABBC", "where the longer one has more is ambiguous"),
        ("AAAA", "AAA", "where the longer one has more is ambiguous"),
        ("ABA", "ABABA", "where the longer one has more is ambiguous"),
        ("ABC", "XYZW", "they begin and end with different tokens"),
        ("A", "XY", "they begin and end with different tokens"),
    ],
)
def test_prompts_that_cannot_be_aligned_are_refused_with_the_reason(left, right, why):
    for one, other in ((left, right), (right, left)):
        with pytest.raises(QuestionError, match=f"cannot be aligned: {why}") as error:
            twins(list(one), list(other))
        assert f"{len(one)} and {len(other)} tokens" in str(error.value)
        assert f"{len(one)}: {'|'.join(one)}" in str(error.value)
        assert f"{len(other)}: {'|'.join(other)}" in str(error.value)


def test_defect_13_prompts_of_two_lengths_are_compared_and_patched_where_they_have_twins():
    found = asked(other=LONGER, sort="direct.difference", k=50)
    shown, clean, longer = table(found), MODEL.run(PROMPT), MODEL.run(LONGER)
    library = dict(attribution.direct(longer, METRIC))
    for row in shown.rows:
        assert row.direct.right == library[row.address.partition("@")[0]]
    patched = asked(
        other=LONGER, patches=("a2.6@-1 = other", "resid1@4 = other", "a0.6>a2.1.v@9 = other")
    ).right.trace
    expected = (
        Patch.write("a2.6@-1", longer["a2.6@-1"])
        | Patch.write("resid1@4", longer["resid1@6"])
        | Patch.read("a0.6>a2.1.v@9", longer["a0.6@11"])
    )
    assert torch.equal(patched.logits, MODEL.rerun(clean, expected).logits)
    assert any("aligned" in note for note in summary(found).notes)
    gone = PROMPT.replace("John gave a drink to", "John gave a big drink to")
    for line, why in (
        ("a2.6@12 = other", "no twin"),
        ("a2.6.pattern@-1 = other", "keys have no twin"),
        ("hold heads = other", "as many tokens"),
    ):
        with pytest.raises(QuestionError, match=why):
            runs(
                MODEL,
                replace(ASKED, prompt=gone.replace(" big", " nice"), other=PROMPT, patches=(line,)),
            )


@pytest.mark.parametrize("other", [LONGER, "Then a drink to"])
def test_what_heads_take_from_each_key_is_compared_with_what_they_take_from_its_twin(other):
    found = asked(other=other, split=("keys",), k=1000)
    theirs = {
        row.address: row
        for row in table(runs(MODEL, replace(ASKED, prompt=other, split=("keys",), k=1000))).rows
    }
    compared = 0
    for row in table(found).rows:
        there, key = found.twins[row.position], None if row.key is None else found.twins[row.key]
        if there is None or (key is None) != (row.key is None):
            assert row.norm.right is None
        else:
            address = f"{row.address.partition('@')[0]}@{there}" + (
                "" if key is None else f"<{key}"
            )
            assert address not in theirs or row.direct.right == theirs[address].direct.left
            compared += address in theirs
    assert compared > 50
    assert not any(row.kind == "edit" for row in table(found).rows)


def test_each_side_may_have_its_own_answers():
    found = summary(asked(other=OTHER, other_answers=(" John",), other_distractors=(" Mary",)))
    assert found.metric.right == -float(METRIC(MODEL.run(OTHER)))
    assert {row.token: (row.role, row.role_right) for row in found.next if row.role} == {
        " Mary": ("answer", "distractor"),
        " John": ("distractor", "answer"),
    }


# --- the predecessor's known defects, by their numbers in the study ---------------------------------------------------

CHANGES = {
    "prompt": OTHER,
    "answers": (" Anna",),
    "distractors": (" Anna",),
    "metric": "probability",
    "other": LONGER,
    "other_answers": (" Anna",),
    "other_distractors": (" Anna",),
    "reference": (OTHER,),
    "patches": ("a3.4 = 0",),
    "compare": "interventions",
    "split": ("neurons",),
    "sort": "norm",
    "find": "a3",
    "k": 3,
    "instead": "other",
    "node": "a3.4@13",
    "trail": ("a2.6.q@13<1",),
    "graph": ("a3.4@13",),
    "receivers": ("a3.4.q",),
    "at": "9",
}


@pytest.mark.parametrize("name", CHANGES)
def test_defect_1_nothing_on_the_page_is_without_effect(name):
    base = replace(
        ASKED,
        other=OTHER,
        node="a2.6@13",
        trail=("a3.4.q@13<1",),
        instead="mean(reference)" if name == "reference" else "0",
    )

    def everything(question):
        found = runs(MODEL, replace(question, instead="other") if name == "at" else question)
        return [
            asdict(export.result(found, result))
            for result in export.RESULTS
            if result != "pathmap" or len(found.other.tokens) == LAST + 1
        ]

    mine, changed = everything(base), everything(replace(base, **{name: CHANGES[name]}))
    for found in (mine, changed):
        del found[0]["url"]
    assert mine != changed


def test_every_field_but_the_model_is_tried_there():
    assert {field.name for field in fields(Question)} - {"model"} == set(CHANGES)


def test_defect_2_values_are_measured_by_the_step_before_them_where_the_page_says_so():
    found = upstream.upstream(exact(trail=("a2.1.q@6<3", "a1.0.v@6<2")))
    assert "the step before it, a2.1.q@6<3" in found.words
    clean = EXACT.run("ABCADBC")
    first = upstream.upstream(exact(trail=("a2.1.q@6<3",), k=100))
    pieces = [
        upstream.upstream(exact(trail=("a2.1.q@6<3", f"a1.0.v@6<{key}"))).score.left
        for key in range(7)
    ]
    assert sum(pieces) == pytest.approx(
        next(s.direct.left for s in first.sources if s.edge == "a1.0>a2.1.q@6"), abs=1e-12
    )
    by_metric = upstream.upstream(exact(trail=("a1.0.v@6<2",)))
    assert found.score.left != by_metric.score.left
    assert clean.tokens.shape == (1, 7)


def test_defect_3_a_query_may_be_traced_after_values_and_both_are_named():
    found = upstream.upstream(exact(trail=("a2.1.v@6<3", "a1.0.q@3<1", "a0.1@3<2")))
    assert found.sum.left == pytest.approx(found.score.left, abs=1e-10)
    assert "through its query and its key" in found.words
    assert len(found.trail) == 3
    assert upstream.upstream(exact(trail=("a2.1.v@6<3", "a1.0.q@3<1")), 0).words == found.trail[0]


def test_defect_3_values_chain_after_values():
    found = upstream.upstream(exact(trail=("a2.1.v@6<3", "a1.0.v@3<1", "a0.1.v@1")))
    assert found.sum.left == pytest.approx(found.score.left, abs=1e-10)


@pytest.mark.parametrize(
    ("trail", "why"),
    [
        (("a2.1.v@3",), "last position"),
        (("a2.1.q@6<3", "a1.0.v@5"), "does not read"),
        (("a1.1.q@6<3", "a2.0.v@6"), "does not read"),
        (("a2.1@6",), "no step"),
        (("m2@3",), "no step"),
        (("a2.1.q@3<6",), "no later than"),
        (("a2.1.q",), "no position"),
        ((), "without a trail"),
        (("m1.n3@2<1",), "a head, and a key"),
        (("a2.1.q@6<",), "no position"),
    ],
)
def test_a_trail_that_cannot_be_followed_is_refused(trail, why):
    with pytest.raises(MiniGPTError, match=why):
        upstream.upstream(exact(trail=trail))


def test_defect_4_the_bottom_of_a_column_is_its_negative_end_and_masked_pairs_never_show():
    for sort in ("norm", "activation", "direct"):
        found = table(asked(split=("keys",), sort=sort, k=1000))
        assert all(row.key is None or row.key <= row.position for row in found.rows)
    assert all(row.norm.left > 0 for row in found.rows if row.kind == "pair")
    assert found.count == 14 * (2 + 4 * 2 + 1) + 32 * 14 * 15 // 2
    shown = table(asked(sort="direct", k=5)).rows
    assert [row.direct.left > 0 for row in shown] == [True] * 5 + [False] * 5


def test_defect_5_an_embedding_can_be_ablated():
    found = asked(patches=("emb@9 = 0",))
    assert torch.equal(
        found.right.trace.logits, MODEL.rerun(MODEL.run(PROMPT), Patch.zero("emb@9")).logits
    )
    assert totals.complete(asked(), ["emb@9", "pos@3"]).effects["emb@9"].left != 0


def test_defect_6_a_pair_row_is_about_that_pair_alone():
    clean = MODEL.run(PROMPT)
    row = clean["a2.6.pattern@13"].clone()
    row[0, 1] = 0
    expected = float(METRIC(MODEL.rerun(clean, Patch.write("a2.6.pattern@13", row)))) - float(
        METRIC(clean)
    )
    found = totals.complete(asked(), ["a2.6@13<1", "a2.6@13"]).effects
    assert found["a2.6@13<1"].left == expected
    assert found["a2.6@13<1"] != found["a2.6@13"]
    with pytest.raises(QuestionError, match="can only be left out"):
        totals.complete(asked(other=OTHER, instead="other"), ["a2.6@13<1"])


def test_defect_7_a_norm_has_no_sign():
    found = table(asked(split=("neurons",), sort="activation", k=500))
    assert any(row.activation.left < 0 for row in found.rows)
    assert all(row.norm.left >= 0 for row in found.rows)


def test_defect_9_what_is_not_there_is_said_to_be_not_there(client):
    reply = client.post("/api/summary", json={"prompt": PROMPT, "model": "gpt2"})
    assert reply.status_code == 400
    assert "'gpt2'" in reply.json()["detail"]
    assert client.post("/api/nothing", json={}).status_code == 404


def test_defect_10_server_and_page_are_one_origin_on_the_loopback():
    import inspect

    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"
    assert not any(
        "cors" in str(layer).lower()
        for layer in api.build(Session({"ioi-mini": MODEL})).user_middleware
    )


def test_defect_11_every_row_of_every_kind_opens():
    for changes in (
        {"split": ("keys",)},
        {"split": ("neurons",)},
        {"patches": ("resid2@13 = x2", "a3 = x2", "a1.2>a3.4.q@13 = 0")},
    ):
        found = asked(k=9, **changes)
        for row in table(found).rows:
            opened = details(found, row.address)
            assert opened.kind == row.kind
            assert opened.sides[0].promotes
            for step in opened.steps:
                assert upstream.upstream(
                    replace(found, question=replace(found.question, trail=(step,)))
                ).sources


def test_defect_12_a_token_on_one_sides_list_has_its_true_logit_on_the_other():
    found = summary(asked(other=OTHER), k=3)
    theirs = MODEL.run(OTHER).logits[0, -1]
    mine = [row for row in found.next if row.rank.left < 3 and row.rank.right >= 3]
    assert mine
    for row in mine:
        assert row.logit.right == float(theirs[row.id])
        assert row.logit.difference == row.logit.right - row.logit.left


def test_defect_15_nothing_asks_another_machine(monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refused)
    found = asked(other=OTHER, node="a3.4@13", trail=("a3.4.q@13<1",), graph=("a3.4@13",))
    assert all(export.as_json(export.result(found, name)) for name in export.RESULTS)


# --- runs are made once, and kept within bounds -----------------------------------------------------------------------


def test_a_run_is_made_once_for_all_that_ask(monkeypatch):
    made, real = [], GPT2.run
    monkeypatch.setattr(GPT2, "run", lambda self, prompts: (made.append(1), real(self, prompts))[1])
    session = Session({"ioi-mini": MODEL})
    threads = [
        threading.Thread(target=session.runs, args=(replace(ASKED, other=OTHER),)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2


def test_memory_is_bounded_and_the_least_used_goes_first():
    kept = Kept[str](10, len)
    for key in "abc":
        kept.get(key, lambda key=key: key * 4)
    assert len(kept) == 2
    assert kept.used == 8
    assert kept.get("b", lambda: "made again") == "bbbb"
    assert kept.get("a", lambda: "new") == "new"
    assert kept.get("c", lambda: "gone") == "gone"
    assert kept.get("large", lambda: "x" * 11) == "x" * 11
    assert kept.used <= 10
    session = Session({"ioi-mini": MODEL}, memory=3 * sessions.size(MODEL.run(PROMPT)))
    for name in (" Mary", " John", " Anna", " Grace", " Max"):
        session.runs(replace(ASKED, prompt=PROMPT.replace(" Mary", name)))
    assert len(session.kept) == 3


def test_a_run_that_fails_is_not_kept():
    kept = Kept[str](10, len)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: str(1 / 0))
    assert kept.get("a", lambda: "b") == "b"


# --- results go anywhere ----------------------------------------------------------------------------------------------


def everything() -> Question:
    return replace(
        ASKED,
        other=OTHER,
        node="a3.4@13",
        trail=("a3.4.q@13<1",),
        graph=("a3.4@13", "a2.6@13"),
        instead="other",
    )


@pytest.mark.parametrize("name", export.RESULTS)
def test_results_as_json_and_csv_hold_the_same_numbers(name):
    found = export.result(runs(MODEL, everything()), name)
    data, rows = (
        json.loads(export.as_json(found)),
        list(csv.DictReader(io.StringIO(export.as_csv(found)))),
    )
    assert data == json.loads(json.dumps(asdict(found)))
    numbers = {x for x in flat(data) if isinstance(x, float)}
    listed = {
        float(x)
        for row in rows
        for x in row.values()
        if x and x.replace(".", "").replace("-", "").replace("e", "").isdigit() and "." in x
    }
    assert listed
    assert listed <= numbers


def flat(data):
    for item in data.values() if isinstance(data, dict) else data:
        if isinstance(item, (dict, list)):
            yield from flat(item)
        else:
            yield item


def test_the_exported_python_gives_equal_numbers_in_a_fresh_process():
    question = replace(
        everything(), patches=("a2.6@13 = x0.5", "m1 = mean(reference)"), split=("keys",)
    )
    for name in ("nodes", "upstream"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", export.as_python(question, name)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        assert json.loads(done.stdout) == json.loads(
            export.as_json(export.result(runs(MODEL, question), name))
        )


def test_the_terminal_gives_the_same_answers(capsys, monkeypatch):
    from interp import cli

    monkeypatch.setattr(
        sys,
        "argv",
        [
            "interp",
            "debug",
            "--ask",
            PROMPT,
            "-a",
            " Mary",
            "-o",
            " John",
            "--patch",
            "a3.4 = 0",
            "-r",
            "nodes",
            "--json",
        ],
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["nodes"] == json.loads(
        export.as_json(table(asked(patches=("a3.4 = 0",))))
    )
    monkeypatch.setattr(
        sys,
        "argv",
        ["interp", "debug", "--link", f"http://127.0.0.1:8080/?{everything().to_url()}"],
    )
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    for part in (
        "Why ' Mary' rather than ' John'",
        "through its query",
        "sum of direct effects",
        "m2>a3.4.q@13",
    ):
        assert part in shown


# --- the API ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    app = api.build(Session({"ioi-mini": MODEL}))
    with TestClient(Guard(app), base_url="http://127.0.0.1:8080") as client:
        yield client


@pytest.mark.parametrize("name", export.RESULTS)
def test_the_api_gives_the_functions_own_results(client, name):
    reply = client.post(f"/api/{name}", json=asdict(everything()))
    assert reply.status_code == 200
    assert reply.json() == json.loads(
        export.as_json(export.result(runs(MODEL, everything()), name))
    )
    for kind, make in (("json", export.as_json), ("csv", export.as_csv)):
        assert client.post(
            f"/api/export/{name}?format={kind}", json=asdict(everything())
        ).text == make(export.result(runs(MODEL, everything()), name))
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
        lambda self, trace, patches, *rest: (
            swept.append(len(patches)),
            real(self, trace, patches, *rest),
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


@settings(max_examples=150)
@given(st.fixed_dictionaries({}, optional=PLAUSIBLE), st.sampled_from(list(export.RESULTS)))
def test_half_sensible_questions_never_break_the_server(client, body, name):
    check_plausible(client, {"model": "ioi-mini", "prompt": PROMPT, **body}, name)


@pytest.mark.slow
@settings(max_examples=5000)
@given(st.fixed_dictionaries({}, optional=PLAUSIBLE), st.sampled_from(list(export.RESULTS)))
def test_thousands_of_half_sensible_questions_never_break_the_server(client, body, name):
    check_plausible(client, {"model": "ioi-mini", "prompt": PROMPT, **body}, name)


def test_both_has_no_number_that_is_none():
    assert both(1.0, float("nan")) == Both(1.0)
    assert both(1.0, 3.0) == Both(1.0, 3.0, 2.0)
    assert both(None) == Both()
