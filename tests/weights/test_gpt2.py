"""The real GPT-2 small against numbers that others recorded from it. Skipped, and said so, where
its weights cannot be had.

The recordings come from public notebooks of TransformerLens and from transformer-explainer; they
are looked for in ../shared/recorded beside the repository, or in the folder that RECORDED names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import weights
from interp import attribution, heads, metrics
from weights import catalog

pytestmark = pytest.mark.gpt2
RECORDED = Path(os.environ.get("RECORDED", Path(__file__).parents[3] / "shared" / "recorded"))
PROMPTS = [
    "When John and Mary went to the shops,{} gave the bag to",
    "When Tom and James went to the park,{} gave the ball to",
    "When Dan and Sid went to the shops,{} gave an apple to",
    "After Martin and Amy went to the park,{} gave a drink to",
]
NAMES = [(" Mary", " John"), (" Tom", " James"), (" Dan", " Sid"), (" Martin", " Amy")]
DIFFERENCES = [3.337, 3.202, 2.709, 3.797, 1.720, 5.281, 2.601, 5.767]


@pytest.fixture(scope="module")
def gpt2():
    if catalog.at_hand(catalog.find("gpt2")) is None:
        pytest.skip(
            "GPT-2's weights are not at hand; `make test-gpt2` fetches them first, as `interp "
            "fetch gpt2` does"
        )
    model = weights.load("gpt2")
    if model.tokenizer is None:
        pytest.skip(
            "GPT-2's vocabulary is not at hand; set TIKTOKEN_CACHE_DIR to a folder that holds it"
        )
    return model


def recorded(name: str):
    path = RECORDED / name
    if not path.exists():
        pytest.skip(
            f"the recorded numbers are not at hand: {name}; set RECORDED to the folder that holds "
            "them"
        )
    return np.load(path) if path.suffix == ".npz" else json.loads(path.read_text())


@pytest.fixture(scope="module")
def eight(gpt2):
    """The 8-prompt set with <|endoftext|> in front: a trace, and the logit difference as the
    metric."""
    texts, answers, distractors = [], [], []
    for template, pair in zip(PROMPTS, NAMES, strict=True):
        for right, wrong in (pair, pair[::-1]):
            texts.append("<|endoftext|>" + template.format(wrong))
            answers.append(gpt2.tokenizer.single(right))
            distractors.append(gpt2.tokenizer.single(wrong))
    return gpt2.run(texts), metrics.logit_diff(answers=answers, distractors=distractors)


def value_biases(trace, metric) -> torch.Tensor:
    """What each head's own value bias adds to the metric [layer, head]: the recordings fold it into
    the layer's bias."""
    toward, d, rows = attribution.gradient(trace, metric), trace.config.d_model, []
    for block in trace.params.blocks:
        into = (toward @ block.w_o.double().T).unflatten(-1, (trace.config.n_head, -1))
        rows.append(
            (into * block.b_qkv[2 * d :].double().unflatten(0, (trace.config.n_head, -1)))
            .sum(-1)
            .mean(0)
        )
    return torch.stack(rows)


def test_logit_differences_of_the_eight_prompts(eight):
    trace, metric = eight
    assert trace.tokens.shape == (8, 15)
    np.testing.assert_allclose(metric(trace), DIFFERENCES, atol=1e-3)
    assert float(metric(trace).mean()) == pytest.approx(3.5519, abs=1e-3)


def test_final_layernorm_scales(eight):
    np.testing.assert_allclose(
        eight[0].scale("out@-1"),
        [19.569, 18.355, 18.286, 18.684, 17.488, 18.870, 16.422, 18.680],
        atol=2e-3,
    )


def test_direct_attribution_of_every_head(eight):
    ours = attribution.direct(*eight).grid() - value_biases(*eight)
    theirs = recorded("transformerlens_exploratory_analysis.json")[
        "cell47:Logit Difference From Each Head"
    ]["z"]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_accumulated_stream(eight):
    """The recording keeps the final LayerNorm's scale at every point and leaves out the folded
    bias: running sums of direct effects."""
    trace, metric = eight
    found = attribution.direct(trace, metric)
    sums = found.values.cumsum(0)
    ends = [found.addresses.index(a) for layer in range(12) for a in (f"a{layer}.b", f"m{layer}")]
    ours = [float(sums[1]), *sums[ends].tolist()]
    theirs = recorded("transformerlens_exploratory_analysis.json")[
        "cell41:Logit Difference From Accumulate Residual Stream"
    ]["y"]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_closure_on_the_real_weights(eight):
    assert attribution.closure(*eight, attribution.direct(*eight, neurons=True)).holds


@pytest.mark.parametrize("i", range(5))
def test_whole_logit_rows_and_all_attention_patterns(gpt2, i):
    data = recorded("transformer_explainer_logits_and_attention.npz")
    trace = gpt2.run(torch.from_numpy(data[f"ids_{i}"]))
    np.testing.assert_allclose(trace.logits_at(-1)[0], data[f"logits_{i}"], atol=2e-2)
    ours = torch.stack([trace[f"a{layer}.pattern"][0] for layer in range(12)])
    np.testing.assert_allclose(ours, data[f"attn_{i}"], atol=1e-3)


def test_next_words_of_a_known_prompt(gpt2):
    chances = (
        gpt2.run(
            "<|endoftext|>After John and Mary went to the store, John gave a bottle of milk to"
        )
        .logits_at(-1)[0]
        .softmax(-1)
    )
    for text, chance in (
        (" Mary", 0.7007),
        (" the", 0.0467),
        (" John", 0.0454),
        (" them", 0.0411),
        (" his", 0.0273),
    ):
        assert float(chances[gpt2.tokenizer.single(text)]) == pytest.approx(chance, abs=2e-4)


def test_loss_on_a_known_sentence(gpt2):
    trace = gpt2.run("<|endoftext|>Hello world!")
    loss = torch.nn.functional.cross_entropy(trace.logits[0, :-1], trace.tokens[0, 1:])
    assert float(loss) == pytest.approx(5.331855773925781, abs=4e-5)


def test_the_induction_heads_stand_out(gpt2):
    scores = heads.induction(gpt2, n=100, batch=4)
    for layer, head, score in (
        (5, 1, 0.931),
        (6, 9, 0.926),
        (5, 5, 0.926),
        (7, 10, 0.904),
        (7, 2, 0.851),
    ):
        assert float(scores[layer, head]) == pytest.approx(score, abs=0.05)
    assert float(scores[5, 8]) < 0.05


def test_name_movers_copy_and_negative_heads_do_the_reverse(gpt2, eight):
    trace, _ = eight
    copied, denied = heads.copying(trace, at=2), heads.copying(trace, at=2, sign=-1)
    assert min(copied[9, 9], copied[10, 0], copied[9, 6]) >= 0.75
    assert min(denied[10, 7], denied[11, 10]) >= 0.75
    assert float(copied.mean()) < 0.3
