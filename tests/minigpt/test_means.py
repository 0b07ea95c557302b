"""A mean at one position: each prompt gives what it has there, whatever their lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import weights
from interp import metrics, patching
from interp.tasks import ioi
from minigpt import Patch, Trace, reference
from minigpt.errors import PatchError, PositionError
from minigpt.params import tensors
from tests.conftest import tiny
from tests.minigpt.pairs import MODEL, pair
from tests.patches import rows_of

LENGTHS, SUBJECT = (14, 9, 11, 9), torch.tensor([3, 7, 0, 5])
GROUPS = torch.tensor([0, 1, 0, 1])


def named(trace: Trace) -> Trace:
    positions = {"END": trace.batch.lengths - 1, "S": SUBJECT}
    return MODEL.run(replace(trace.batch, positions=positions))


CLEAN, OTHER = map(named, pair(MODEL, LENGTHS))


def at(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return x[torch.arange(len(x)), rows]


@pytest.mark.parametrize("node", ["a1.1", "m1", "m1.n3", "resid1", "a2.0.z", "emb"])
@pytest.mark.parametrize(
    ("place", "rows"), [("S", SUBJECT), (-1, torch.tensor(LENGTHS) - 1), (3, torch.full((4,), 3))]
)
def test_it_is_the_mean_of_what_each_prompt_has_there(node, place, rows):
    run = MODEL.rerun(CLEAN, Patch.mean(f"{node}@{place}", OTHER))
    mean = at(OTHER[node], rows).mean(0)
    torch.testing.assert_close(
        run[f"{node}@{place}"], mean.expand(4, *mean.shape), atol=1e-6, rtol=1e-5
    )
    assert torch.equal(run[node][:, 0][rows > 0], CLEAN[node][:, 0][rows > 0])


def test_by_group_it_is_that_of_the_prompts_own_group():
    run = MODEL.rerun(CLEAN, Patch.mean("a1.1@S", OTHER, GROUPS))
    there = at(OTHER["a1.1"], SUBJECT)
    torch.testing.assert_close(run["a1.1@S"][0], there[GROUPS == 0].mean(0))
    torch.testing.assert_close(run["a1.1@S"][3], there[GROUPS == 1].mean(0))


@pytest.mark.parametrize(
    "text", ["a1.1@S", "m1@END", "resid2@-1", "a0.0>m1.in@S", "a2.1.q@S", "a1.z@S"]
)
@pytest.mark.parametrize("by", [None, GROUPS])
def test_the_reference_says_the_same(text, by):
    model = tiny(3, 2, 8, 16, dtype=torch.float64)
    clean, other = (model.run(replace(t.batch, tokens=t.tokens % 50)) for t in (CLEAN, OTHER))
    source = f"mean(other{' by groups' if by is not None else ''})"
    patch = Patch.parse(f"{text} = {source}", {"other": other, "groups": by})
    positions = {name: x.tolist() for name, x in clean.batch.positions.items()}
    params = {name: x.numpy() for name, x in tensors(model.params).items()}
    runs = {"other": reference.run(params, model.config, rows_of(other.batch), positions=positions)}
    wanted = reference.run(params, model.config, rows_of(clean.batch), patch, runs, positions)
    found = model.rerun(clean, patch)
    for index, logits in enumerate(wanted.logits):
        np.testing.assert_allclose(found.logits[index, : len(logits)], logits, atol=1e-10)


def test_what_has_no_one_meaning_is_refused_with_what_would_do():
    with pytest.raises(PatchError, match=r"or a position(.|\n)*a1.1@END(.|\n)*source='group'"):
        MODEL.rerun(CLEAN, Patch.mean("a1.1", OTHER))
    with pytest.raises(PatchError, match="mean over prompts"):
        MODEL.rerun(CLEAN, Patch.mean("a1.1.pattern@END", OTHER))
    bare = MODEL.run(replace(OTHER.batch, positions={}))
    with pytest.raises(PositionError, match="position @S"):
        MODEL.rerun(CLEAN, Patch.mean("a1.1@S", bare))


def test_knocking_out_by_the_mean_works_on_the_tasks_own_prompts():
    model = weights.load("ioi-mini")
    prompts = ioi.prompts(model.tokenizer, 40)
    assert prompts.batch.ragged
    found = patching.knockout(
        model, prompts, metrics.logit_diff(prompts), "heads@END", source="mean"
    )
    assert len(found) == 32
    trace = model.run(prompts)
    patch = Patch.mean("a3.4@END", trace)
    metric = metrics.logit_diff(prompts)
    wanted = metric(model.rerun(trace, patch)) - metric(trace)
    torch.testing.assert_close(found.per_prompt[found.addresses.index("a3.4@END")], wanted)
