"""Each metric against its definition, written out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from interp import lens, metrics
from interp.metrics import MetricError

TOKENS = torch.randint(0, 50, (4, 6), generator=torch.Generator().manual_seed(1))
PAIRS = SimpleNamespace(
    answers=torch.tensor([1, 2, 3, 4]), distractors=torch.tensor([5, 6, 7, 8]), positions={}
)


@pytest.fixture(scope="module")
def trace(model):
    return model.run(TOKENS)


@pytest.fixture(scope="module")
def last(trace):
    return trace.logits[:, -1]


def test_logit_and_logit_difference(trace, last):
    each = range(4)
    torch.testing.assert_close(metrics.logit(PAIRS)(trace), last[each, [1, 2, 3, 4]])
    torch.testing.assert_close(
        metrics.logit_diff(PAIRS)(trace), last[each, [1, 2, 3, 4]] - last[each, [5, 6, 7, 8]]
    )


def test_several_answers_are_averaged(trace, last):
    found = metrics.logit_diff(
        answers=torch.tensor([[1, 2]]), distractors=torch.tensor([[3, 4, 5]])
    )(trace)
    torch.testing.assert_close(found, last[:, 1:3].mean(1) - last[:, 3:6].mean(1))


def test_probability_loss_and_their_sum_over_answers(trace, last):
    chances = last.softmax(-1)
    torch.testing.assert_close(metrics.prob(PAIRS)(trace), chances[range(4), [1, 2, 3, 4]])
    torch.testing.assert_close(
        metrics.prob(answers=[[1, 2]] * 4)(trace), chances[:, 1] + chances[:, 2]
    )
    torch.testing.assert_close(metrics.loss(PAIRS)(trace), -chances[range(4), [1, 2, 3, 4]].log())


def test_rank_counts_the_better_tokens(trace, last):
    order = last.argsort(-1, descending=True)
    expected = [order[i].tolist().index(token) for i, token in enumerate([1, 2, 3, 4])]
    assert metrics.rank(PAIRS)(trace).tolist() == expected
    assert metrics.rank(answers=last.argmax(-1))(trace).tolist() == [0] * 4


def test_accuracy_is_against_the_distractors_or_else_against_everything(trace, last):
    assert metrics.accuracy(PAIRS)(trace).tolist() == [
        float(last[i, i + 1] > last[i, i + 5]) for i in range(4)
    ]
    assert metrics.accuracy(answers=last.argmax(-1))(trace).tolist() == [1] * 4
    assert metrics.accuracy(answers=last.topk(2).indices[:, 1])(trace).tolist() == [0] * 4


def test_kl_is_zero_to_itself_and_by_hand_to_another(model, trace, last):
    other = model.run(TOKENS.flip(0))
    assert metrics.kl(trace)(trace).abs().max() < 1e-12
    p, q = last.softmax(-1), other.logits[:, -1].softmax(-1)
    torch.testing.assert_close(metrics.kl(trace)(other), (p * (p / q).log()).sum(-1))
    assert float(metrics.kl(trace)(other).min()) > 0


def test_a_metric_reads_at_its_position_and_at_a_name(model, trace):
    torch.testing.assert_close(metrics.logit(answers=1, at=2)(trace), trace.logits[:, 2, 1])
    from minigpt import Batch

    named = model.run(Batch(TOKENS, torch.full((4,), 6), {"END": torch.tensor([1, 2, 3, 4])}))
    pairs = SimpleNamespace(answers=[1] * 4, distractors=[2] * 4, positions=named.batch.positions)
    assert metrics.logit_diff(pairs).at == "END"
    torch.testing.assert_close(
        metrics.logit_diff(pairs)(named),
        (named.logits[..., 1] - named.logits[..., 2])[range(4), [1, 2, 3, 4]],
    )


def test_half_precision_is_read_in_float64(model):
    trace = model.to(dtype=torch.bfloat16).run(TOKENS)
    assert metrics.logit_diff(PAIRS)(trace).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.logit_diff(answers=1), "without distractors"),
        (lambda: metrics.logit_diff(), "without answers|without distractors"),
        (lambda: metrics.prob(), "without answers"),
        (lambda: metrics.logit(answers=[]), "whole token ids"),
        (lambda: metrics.logit(answers=[1.5]), "whole token ids"),
    ],
)
def test_what_makes_no_metric_is_refused(make, message):
    with pytest.raises(MetricError, match=message):
        make()


def test_the_loss_of_a_certain_answer_is_zero():
    read = metrics.loss(answers=0).read
    assert read is not None
    assert float(read(torch.tensor([[100.0, 0.0]]))[0]) == pytest.approx(0, abs=1e-12)
    assert float(read(torch.tensor([[0.0, 0.0]]))[0]) == pytest.approx(math.log(2))


# ---- what is asked is checked once, where the metric is read


def asked(kind: str, **ids) -> metrics.Metric:
    return getattr(metrics, kind)(**ids)


@pytest.mark.parametrize("kind", ["logit", "prob", "rank", "loss", "accuracy", "logit_diff"])
@pytest.mark.parametrize("wrong", [-1, -100, 50, 10**6])
def test_an_id_that_the_model_does_not_have_is_refused(model, kind, wrong):
    trace = model.run(torch.zeros(2, 4, dtype=torch.long))
    others = {"distractors": [1, 2]} if kind in ("logit_diff", "accuracy") else {}
    with pytest.raises(MetricError, match=rf"answers \[{wrong}\][\s\S]*token ids (0 to 49|from 0)"):
        asked(kind, answers=[3, wrong], **others)(trace)
    if others:
        with pytest.raises(MetricError, match=rf"distractors \[{wrong}\]"):
            asked(kind, answers=[3, 4], distractors=[1, wrong])(trace)


@pytest.mark.parametrize("kind", ["logit", "prob", "rank", "loss", "accuracy", "logit_diff"])
def test_answers_of_more_prompts_than_the_run_has_are_refused(model, kind):
    others = {"distractors": [1, 2]} if kind == "logit_diff" else {}
    metric = asked(kind, answers=[3, 4], **others)
    for prompts in (1, 3):
        with pytest.raises(MetricError, match=f"2 prompts for a run of {prompts}"):
            metric(model.run(torch.zeros(prompts, 4, dtype=torch.long)))
    assert metric(model.run(torch.zeros(2, 4, dtype=torch.long))).shape == (2,)


def test_a_reference_of_other_prompts_and_a_wrong_shape_are_refused(model):
    two, one = (model.run(torch.zeros(n, 4, dtype=torch.long)) for n in (2, 1))
    for reference, trace in ((two, one), (one, two)):
        if len(reference.tokens) > 1:
            with pytest.raises(MetricError, match="shape"):
                metrics.kl(reference)(trace)
    with pytest.raises(MetricError, match=r"shape \[\] for a run of 2"):
        metrics.Metric("mean", -1, lambda logits: logits.mean())(two)


RAGGED = torch.tensor([[3, 7, 9], [5, -1, -1], [3, 4, -1], [0, 1, 2]])


def test_prompts_may_have_different_numbers_of_answers(model, trace):
    """A prompt's number is what it would be alone, with its own answers."""
    pairs = SimpleNamespace(answers=RAGGED, distractors=RAGGED.roll(1, 0), positions={})
    for make in (metrics.logit_diff, metrics.logit, metrics.prob, metrics.rank, metrics.accuracy):
        together = make(pairs)(trace)
        for i in range(4):
            own = [[x for x in rows[i].tolist() if x >= 0] for rows in (RAGGED, RAGGED.roll(1, 0))]
            alone = SimpleNamespace(answers=[own[0]], distractors=[own[1]], positions={})
            torch.testing.assert_close(
                together[i : i + 1], make(alone)(model.run(TOKENS[i : i + 1]))
            )
    assert metrics.top1(pairs)(trace).tolist() == metrics.accuracy(answers=RAGGED)(trace).tolist()


def test_a_prompt_without_any_answer_is_refused():
    with pytest.raises(metrics.MetricError, match="token ids from 0 up"):
        metrics.logit(answers=torch.tensor([[-1, 3]]))


def test_what_accuracy_is_against_is_in_its_name():
    assert metrics.accuracy(answers=[3]).name == metrics.top1(answers=[3]).name
    assert "every other token" in metrics.top1(answers=[3]).name
    assert "the distractors" in metrics.accuracy(answers=[3], distractors=[4]).name


@pytest.mark.parametrize("given", [{}, [[3], []], ["a"], object()])
def test_what_are_no_ids_is_refused(given):
    with pytest.raises(MetricError, match="whole token ids"):
        metrics.logit(answers=given)


# ---- at every position


def test_the_loss_per_token_is_the_mean_over_a_prompts_own_tokens(model):
    ragged = model.run([[1, 2, 3, 4], [5, 6]])
    by_hand = lens.losses(ragged).nanmean(-1)
    assert torch.allclose(metrics.token_loss(ragged)(ragged), by_hand, atol=1e-12, rtol=0)
    # the twin: of other tokens it is another
    other = model.run([[1, 2, 3, 9], [5, 7]])
    assert not torch.allclose(metrics.token_loss(other)(ragged), by_hand)


def test_kl_at_every_position_is_the_mean_of_those_at_each(model):
    run, reference = model.run([[1, 2, 3], [4, 5, 6]]), model.run([[3, 2, 1], [6, 5, 4]])
    each = torch.stack([metrics.kl(reference, at=t)(run) for t in range(3)])
    assert torch.allclose(metrics.kl(reference, at=None)(run), each.mean(0), atol=1e-12, rtol=0)
    assert float(metrics.kl(run, at=None)(run).abs().max()) == 0.0


def test_what_has_no_position_is_refused_where_one_is_needed(model):
    run, short = model.run([[1, 2, 3]]), model.run([[1, 2]])
    everywhere = metrics.token_loss(run)
    with pytest.raises(MetricError, match="loss per token at every position"):
        _ = everywhere.position
    for wrong in (short, model.run([[1, 2, 3], [1, 2, 3]])):
        with pytest.raises(MetricError, match="prompts and positions beside a reference"):
            everywhere(wrong)
    with pytest.raises(MetricError, match="one token"):
        metrics.token_loss(model.run([[1]]))
