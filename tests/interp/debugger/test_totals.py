"""Total effects are exact: each is a rerun with that row patched."""

from __future__ import annotations

import pytest
import torch

from interp import patching
from interp.debugger import totals
from interp.tasks import Prompts
from minigpt import GPT2, Patch
from tests.interp.debugger.questions import METRIC, MODEL, OTHER, PAIRS, PROMPT, asked

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


@pytest.mark.parametrize(("instead", "source"), [("0", "zero"), ("other", "pairs")])
def test_total_effects_are_exact_not_estimated(instead, source):
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
        lambda self, trace, patches, *rest, **more: (
            swept.append(len(patches)),
            real(self, trace, patches, *rest, **more),
        )[1],
    )
    stream = totals.totals(asked())
    first = next(stream)
    stream.close()
    assert (first.done, first.of, swept) == (3, 36, [3])
    monkeypatch.undo()
    assert first.effects.items() <= totals.complete(asked()).effects.items()


def test_an_embedding_can_be_ablated():
    found = asked(patches=("emb@9 = 0",))
    assert torch.equal(
        found.right.trace.logits, MODEL.rerun(MODEL.run(PROMPT), Patch.zero("emb@9")).logits
    )
    assert totals.complete(asked(), ["emb@9", "pos@3"]).effects["emb@9"].left != 0


def test_a_pair_row_is_about_that_pair_alone():
    clean = MODEL.run(PROMPT)
    row = clean["a2.6.pattern@13"].clone()
    row[0, 1] = 0
    expected = float(METRIC(MODEL.rerun(clean, Patch.write("a2.6.pattern@13", row)))) - float(
        METRIC(clean)
    )
    found = totals.complete(asked(), ["a2.6@13<1", "a2.6@13"]).effects
    assert found["a2.6@13<1"].left == pytest.approx(expected, abs=1e-5)
    assert found["a2.6@13<1"] != found["a2.6@13"]


@pytest.mark.parametrize("instead", ["0", "other", "mean(reference)"])
def test_a_pair_is_replaced_by_what_any_node_is(instead):
    clean, pair = MODEL.run(PROMPT), "a2.6@13<1"
    mean = Patch.mean(pair, MODEL.run([OTHER, PROMPT.replace("drink", "book")]))
    patch = {"0": Patch.zero(pair), "other": Patch.write(pair, MODEL.run(OTHER))}.get(instead, mean)
    texts = (OTHER, PROMPT.replace("drink", "book"))
    question = asked(other=OTHER, compare="interventions", reference=texts, instead=instead)
    expected = float(METRIC(MODEL.rerun(clean, patch))) - float(METRIC(clean))
    assert expected != 0
    assert totals.complete(question, [pair]).effects[pair].left == expected


def test_a_pair_that_an_intervention_decides_has_no_total_effect():
    names = ["a2.6@13<1", "a2.6@12<1"]
    for line in ("a2.6@13 = 0", "a2.6@13<1 = x2", "a2.6.pattern@13 = x2"):
        found = totals.complete(asked(patches=(line,)), names)
        assert found.effects["a2.6@13<1"].right is None
        assert found.effects["a2.6@12<1"].right is not None
