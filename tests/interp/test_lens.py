"""What a run says at every position, by the logits themselves."""

from __future__ import annotations

import torch
from torch.nn import functional as F

import weights
from interp import heads
from interp.lens import lens, losses
from minigpt import Batch
from tests.conftest import tiny

MODEL = tiny(3, 2, 16, 32)


def ragged() -> Batch:
    tokens = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 4, 1])
    return Batch(tokens * (torch.arange(9) < lengths[:, None]), lengths)


def test_the_loss_of_each_token_is_its_cross_entropy():
    trace = MODEL.run(ragged())
    found = losses(trace)
    for i, n in enumerate(trace.batch.lengths.tolist()):
        logits, tokens = trace.logits[i, : n - 1].double(), trace.tokens[i, 1:n]
        wanted = F.cross_entropy(logits, tokens, reduction="none")
        torch.testing.assert_close(found[i, : n - 1], wanted)
        assert bool(found[i, n - 1 :].isnan().all())


def test_repeated_tokens_are_expected_by_a_model_with_induction_heads():
    model = weights.load("ioi-mini")
    tokens = heads.repeated(model.config, 20, 8, among=heads.words(model.tokenizer))
    found = losses(model.run(tokens))
    assert float(found[:, 20:-1].mean()) < 0.5 * float(found[:, :19].mean())


def test_the_last_point_says_what_the_model_says_and_each_is_read_like_it():
    trace = MODEL.run(ragged())
    found = lens(trace, k=4)
    assert found.points[0] == "resid0"
    assert found.points[-1] == "resid3"
    n = trace.batch.lengths.tolist()
    for i in range(3):
        best = trace.logits[i, : n[i]].topk(4, -1)
        assert torch.equal(found.ids[-1, i, : n[i]], best.indices)
        assert torch.equal(found.logits[-1, i, : n[i]], best.values)
        assert bool(found.logits[:, i, n[i] :].isnan().all())
    middle = found.points.index("resid1.mid")
    x = trace["resid1.mid"][0]
    p, eps = MODEL.params, MODEL.config.eps
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    logits = (normed * p.ln_w + p.ln_b) @ p.unembed.T
    torch.testing.assert_close(found.logits[middle, 0], logits.topk(4, -1).values)


def test_its_words_are_those_of_one_prompt_at_one_position():
    model = weights.load("ioi-mini")
    trace = model.run("When Mary and John went to the store, John gave a drink to")
    words = lens(trace, k=2).words(model.tokenizer)
    assert words["resid4"][0] == " Mary"
    assert len(words) == 9
    assert repr(lens(trace, k=2)) == "Lens(the first 2 tokens at 9 points, 1 prompt, 14 positions)"
