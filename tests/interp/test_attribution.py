"""Direct effects are what they claim: by definition, in sum, and under the bound that rounding
allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import attribution, metrics
from interp.effects import Effects
from minigpt.errors import MiniGPTError
from minigpt.patch import Patch
from tests.conftest import examples, tiny
from tests.patches import patches

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
TOKENS = torch.randint(0, 50, (5, 9), generator=torch.Generator().manual_seed(3))
KINDS = [
    {},
    {"neurons": True},
    {"neurons": [1]},
    {"sources": True},
    {"neurons": True, "sources": True},
]


def question(at: int = -1) -> metrics.Metric:
    return metrics.logit_diff(
        answers=[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], distractors=[11, 12, 13, 14, 15], at=at
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("at", [-1, 0, 4])
def test_direct_effects_sum_to_the_metric(model, kind, at):
    trace = model.run(TOKENS)
    found = attribution.direct(trace, question(at), **kind)
    torch.testing.assert_close(found.per_prompt.sum(0), question(at)(trace), rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 10**6), length=st.integers(1, 20), kind=st.sampled_from(KINDS))
def test_in_float32_they_sum_within_the_rounding_bound(seed, length, kind):
    model = tiny(d_model=16, n_head=4, seed=seed % 5)
    trace = model.run(
        torch.randint(0, 50, (3, length), generator=torch.Generator().manual_seed(seed))
    )
    metric = metrics.logit_diff(answers=seed % 50, distractors=(seed + 1) % 50)
    closed = attribution.closure(trace, metric, attribution.direct(trace, metric, **kind))
    assert closed.holds
    assert closed.bound < 1e-3, "a bound that allows everything shows nothing"


@pytest.mark.parametrize("lost", ["out.b", "a1.b", "emb", "a0.1", "m1"])
def test_without_any_one_node_they_do_not(model, lost):
    trace = model.run(TOKENS)
    full = attribution.direct(trace, question())
    short = full.rows([i for i, address in enumerate(full.addresses) if address != lost])
    assert len(short) == len(full) - 1
    assert not attribution.closure(trace, question(), short).holds


def test_a_direct_effect_is_what_is_lost_when_the_write_is_taken_out_of_the_last_stream(model):
    """By definition: subtract the write from the final stream, keep LayerNorm's scale, read the
    metric again."""
    trace, metric = model.run(TOKENS), question()
    found = attribution.direct(trace, metric, neurons=True)
    params, sigma = model.params, trace.scale("out@-1")[:, None]
    unembed = metric.direction(params)

    def value(x):
        return (((x - x.mean(-1, keepdim=True)) / sigma * params.ln_w + params.ln_b) * unembed).sum(
            -1
        )

    final = trace["resid2@-1"]
    for address in ("emb", "pos", "a0.0", "a1.1", "a1.b", "m0.n3", "m1.n15", "m1.b"):
        expected = value(final) - value(final - trace[f"{address}@-1"])
        torch.testing.assert_close(
            found.per_prompt[found.addresses.index(address)], expected, rtol=1e-9, atol=1e-12
        )


def test_sources_of_a_head_sum_to_the_head_and_neurons_to_the_mlp(model):
    trace = model.run(TOKENS)
    whole = dict(attribution.direct(trace, question()))
    split = dict(attribution.direct(trace, question(), neurons=True, sources=True))
    for layer in range(2):
        for head in range(2):
            assert sum(split[f"a{layer}.{head}.v@{t}"] for t in range(9)) == pytest.approx(
                whole[f"a{layer}.{head}"], rel=1e-9
            )
        assert split[f"m{layer}.b"] + sum(
            split[f"m{layer}.n{n}"] for n in range(16)
        ) == pytest.approx(whole[f"m{layer}"], rel=1e-9)


def test_prompts_of_different_lengths_get_the_same_effects_as_alone():
    model = replace(tiny(dtype=torch.float64), tokenizer=None)
    rows = [TOKENS[0, :3], TOKENS[1, :9]]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    from minigpt import Batch

    together = attribution.direct(
        model.run(Batch(padded, torch.tensor([3, 9]))),
        metrics.logit_diff(answers=1, distractors=2),
        sources=True,
    )
    for i, row in enumerate(rows):
        alone = dict(
            attribution.direct(
                model.run(row), metrics.logit_diff(answers=1, distractors=2), sources=True
            )
        )
        got = dict(zip(together.addresses, together.per_prompt[:, i].tolist(), strict=True))
        assert {a: got[a] for a in alone} == pytest.approx(alone, rel=1e-10, abs=1e-12)
        assert all(value == 0 for a, value in got.items() if a not in alone), (
            "positions that a prompt does not have add nothing"
        )


def test_the_lens_ends_at_the_metric_and_begins_at_the_embedding(model):
    trace, metric = model.run(TOKENS), question()
    lens = attribution.logit_lens(trace, metric)
    assert lens.addresses == ("resid0", "resid0.mid", "resid1", "resid1.mid", "resid2")
    torch.testing.assert_close(lens.per_prompt[-1], metric(trace), rtol=1e-12, atol=0)
    assert not torch.allclose(lens.per_prompt[0], lens.per_prompt[-1])


def test_only_a_linear_metric_has_direct_effects(model):
    with pytest.raises(MiniGPTError, match=r"(?s)direct effects on probability.*logit_diff"):
        attribution.direct(model.run(TOKENS), metrics.prob(answers=1))


def test_effects_are_of_the_metrics_own_position(model):
    trace = model.run(TOKENS)
    early, late = (attribution.direct(trace, question(at)) for at in (2, -1))
    assert isinstance(early, Effects)
    assert not torch.allclose(early.values, late.values)


@examples(40)
@given(data=st.data())
def test_direct_effects_of_any_patched_run_sum_to_its_metric(data):
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    clean, corrupt = (model.run(TOKENS[rows, :6]) for rows in ([0, 1], [2, 3]))
    patch = data.draw(patches(model.config, 6, 2, {"clean": clean, "corrupt": corrupt}))
    found, metric = (
        model.rerun(clean, patch),
        metrics.logit_diff(
            answers=[1, 2], distractors=[3, 4], at=data.draw(st.sampled_from([-1, 2]))
        ),
    )
    rows = attribution.direct(found, metric, neurons=data.draw(st.booleans()))
    torch.testing.assert_close(rows.per_prompt.sum(0), metric(found), rtol=1e-9, atol=1e-9)


def test_what_an_edit_wrote_is_what_it_adds():
    """By hand: a written stream's row is the written vector less what stood there, towards the
    metric."""
    model = tiny(2, 2, 8, 16, dtype=torch.float64)
    clean, metric = model.run(TOKENS[:, :6]), question()
    vector = torch.linspace(-1, 1, 8, dtype=torch.float64)
    found = model.rerun(
        clean,
        Patch.write("resid1", vector)
        | Patch.write("a0.1", vector)
        | Patch.write("a1.1", 2 * vector),
    )
    torch.testing.assert_close(attribution.direct(found, metric).per_prompt.sum(0), metric(found))
    unwritten = model.rerun(clean, Patch.write("a0.1", vector))
    rows, toward = attribution.direct(found, metric), attribution.gradient(found, metric)
    torch.testing.assert_close(
        rows.per_prompt[rows.addresses.index("resid1")],
        ((vector - unwritten["resid1@-1"]) * toward).sum(-1),
    )
    torch.testing.assert_close(
        rows.per_prompt[rows.addresses.index("a1.1")], (2 * vector * toward).sum(-1)
    )
