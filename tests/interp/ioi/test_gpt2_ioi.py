"""The real GPT-2 small on indirect objects against the paper, its authors' data and public
notebooks. Skipped, and said so, where its weights cannot be had. Every measurement is one of
published.py, which test_published.py checks on random weights.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from interp import attribution, heads, metrics
from interp.tasks import ioi
from tests.published import (
    CLASSES,
    Patching,
    copied,
    eight,
    knocked,
    left,
    nodes,
    path_map,
    value_biases,
    without,
)
from tests.weights.test_gpt2 import gpt2, recorded  # noqa: F401

pytestmark = [
    pytest.mark.gpt2,
    pytest.mark.filterwarnings("ignore::interp.tasks.vocabulary.VocabularyWarning"),
]
# Per-prompt logit differences of the 8-prompt set, as first recorded.
EIGHT = [3.3368, 3.2018, 2.7098, 3.7976, 1.7206, 5.2815, 2.6010, 5.7676]
ABLATED_SCALES = [18.523, 17.470, 17.821, 17.507, 17.263, 18.254, 16.180, 17.430]
# The authors' stored means of 100 prompts (7 + 7 templates) without each class: F(M\\K), F(C\\K).
# They name backups with the movers.
KNOCKED = {
    (): (3.3024, 2.8381),
    ("name mover", "backup name mover"): (1.5287, 0.9296),
    ("negative name mover",): (5.6203, 4.2666),
    ("S-inhibition",): (0.2967, 0.2272),
    ("induction",): (1.5709, 1.0352),
    ("duplicate token",): (1.5152, 0.7240),
    ("previous token",): (2.8998, 1.5166),
}


@pytest.fixture(scope="module")
def pairs(gpt2):  # noqa: F811
    return ioi.prompts(gpt2.tokenizer, 200, seed=0)


@pytest.fixture(scope="module")
def patched(gpt2):  # noqa: F811
    return Patching(gpt2, eight(gpt2))


@cache
def trace(name: str, cell: int, i: int = 0) -> np.ndarray:
    """A heat map of a recorded notebook."""
    data = recorded(f"transformerlens_{name}.json")
    if isinstance(data, list):
        return np.array(next(each for each in data if each["cell"] == cell)["traces"][i]["z"])
    return np.array(next(each for key, each in data.items() if key.startswith(f"cell{cell}:"))["z"])


# --- the 8-prompt set -----------------------------------------------------------------------------


def test_the_eight_prompts_and_their_logit_differences(gpt2):  # noqa: F811
    prompts = eight(gpt2)
    metric = metrics.logit_diff(prompts)
    assert prompts.clean.shape == (8, 15)
    assert list(
        zip(prompts.answers[:, 0].tolist(), prompts.distractors[:, 0].tolist(), strict=True)
    ) == [
        (5335, 1757),
        (1757, 5335),
        (4186, 3700),
        (3700, 4186),
        (6035, 15686),
        (15686, 6035),
        (5780, 14235),
        (14235, 5780),
    ]
    np.testing.assert_allclose(metric(gpt2.run(prompts)), EIGHT, atol=1e-3)
    assert float(metric(gpt2.run(prompts.corrupted)).mean()) == pytest.approx(-3.5519, abs=1e-3)


def test_direct_attribution_of_every_head(gpt2):  # noqa: F811
    prompts = eight(gpt2)
    run, metric = gpt2.run(prompts), metrics.logit_diff(prompts)
    np.testing.assert_allclose(
        attribution.direct(run, metric).grid() - value_biases(run, metric),
        trace("exploratory_analysis", 47),
        atol=1e-3,
    )


def test_without_head_9_9(gpt2):  # noqa: F811
    prompts = eight(gpt2)
    run, metric = without(gpt2, gpt2.run(prompts), "a9.9@END"), metrics.logit_diff(prompts)
    assert float(metric(run).mean()) == pytest.approx(2.917, abs=2e-3)
    np.testing.assert_allclose(run.scale("out@-1"), ABLATED_SCALES, atol=2e-3)
    np.testing.assert_allclose(
        attribution.direct(run, metric).grid() - value_biases(run, metric),
        trace("exploratory_analysis", 107),
        atol=1e-3,
    )


@pytest.mark.parametrize(("what", "cell"), [("resid{}", 64), ("a{}", 69), ("m{}", 71)])
def test_activation_patching_by_position(patched, what, cell):
    ours = patched.by_position(what)
    np.testing.assert_allclose(ours, trace("exploratory_analysis", cell), atol=2e-3)
    assert not bool(ours[:, :10].any())


@pytest.mark.parametrize(
    ("what", "cell", "i"),
    [("", 30, 0), (".q", 30, 1), (".k", 30, 2), (".v", 30, 3), (".pattern", 30, 4)],
)
def test_activation_patching_by_head(patched, what, cell, i):
    np.testing.assert_allclose(
        patched.by_head(what), trace("activation_patching", cell, i), atol=2e-3
    )


def test_activation_patching_by_head_and_position(patched):
    places = [(layer, head, at) for layer in range(12) for head in range(12) for at in (10, 14)]
    ours = patched.by_head_and_position([f"a{layer}.{head}@{at}" for layer, head, at in places])
    theirs = trace("activation_patching", 26)
    np.testing.assert_allclose(
        ours, [theirs[12 * layer + head, at] for layer, head, at in places], atol=2e-3
    )


# --- the paper's task -----------------------------------------------------------------------------


def test_the_mean_logit_difference_of_a_hundred_prompts(gpt2):  # noqa: F811
    prompts = ioi.prompts(gpt2.tokenizer, 100, seed=0)
    differences = metrics.logit_diff(prompts)(gpt2.run(prompts))
    assert float(differences.mean()) == pytest.approx(3.56, abs=0.35)
    assert float((differences > 0).double().mean()) >= 0.97


MAPS = {
    "3b": (["out"], "END", "name mover"),
    "4b": ([f"{head}.q" for head in CLASSES["name mover"].split()], "END", "S-inhibition"),
    "13b": ([f"{head}.k" for head in CLASSES["induction"].split()], "S1+1", "previous token"),
}


@pytest.mark.parametrize("figure", MAPS)
def test_the_heads_that_path_patching_finds_first_are_the_papers_class(gpt2, pairs, figure):  # noqa: F811
    receivers, at, named = MAPS[figure]
    expected = CLASSES[named].split()
    assert set(list(path_map(gpt2, pairs, receivers, at))[: len(expected)]) == set(expected)


def test_negative_heads_are_those_without_which_the_logits_difference_rises_most(gpt2, pairs):  # noqa: F811
    assert set(list(path_map(gpt2, pairs, ["out"], "END"))[-2:]) == set(
        CLASSES["negative name mover"].split()
    )


def test_figure_5b_duplicate_and_induction_heads_write_the_values_of_s_inhibition(gpt2, pairs):  # noqa: F811
    found = path_map(gpt2, pairs, [f"{head}.v" for head in CLASSES["S-inhibition"].split()], "S2")
    assert set(list(found)[:4]) == {"a3.0", "a0.1", "a5.5", "a6.9"}


def test_figure_12b_fuzzy_heads_write_their_keys_and_the_duplicate_heads_act_against(gpt2, pairs):  # noqa: F811
    found = path_map(gpt2, pairs, [f"{head}.k" for head in CLASSES["S-inhibition"].split()], "S2")
    assert {"a5.9", "a5.8", "a0.10"} <= set(list(found)[:6])
    assert min(found["a3.0"], found["a0.1"]) > 0


@pytest.mark.parametrize("classes", KNOCKED, ids=lambda classes: " and ".join(classes) or "none")
def test_knocking_out_a_class_costs_the_model_and_the_circuit_what_the_authors_stored(
    gpt2,  # noqa: F811
    classes,
):
    prompts = ioi.prompts(gpt2.tokenizer, 100, seed=0, mode="authors")
    ours = [float(measure(gpt2, prompts, nodes(*classes)).mean()) for measure in (knocked, left)]
    np.testing.assert_allclose(ours, KNOCKED[classes], atol=0.35)


def test_copy_scores(gpt2):  # noqa: F811
    run = gpt2.run(ioi.prompts(gpt2.tokenizer, 200, seed=0))
    copies, denies = (
        copied({at: heads.copying(run, at, sign=sign) for at in ("IO", "S1", "S2")})
        for sign in (1, -1)
    )
    assert min(copies[9, 9], copies[9, 6], copies[10, 0]) > 0.95
    assert min(denies[10, 7], denies[11, 10]) > 0.95
    assert float(copies.mean()) < 0.2
    assert float(denies.mean()) == pytest.approx(0.12, abs=0.1)


@pytest.mark.parametrize(
    ("score", "title"),
    [
        (heads.previous, "Previous Token Scores"),
        (heads.duplicate, "Duplicate Token Scores"),
        (heads.induction, "Induction Head Scores"),
    ],
)
def test_scores_on_repeated_random_tokens(gpt2, score, title):  # noqa: F811
    theirs = np.array(
        recorded("transformerlens_exploratory_analysis.json")[f"cell100:{title}"]["z"]
    )
    np.testing.assert_allclose(
        score(gpt2, n=100, batch=2, among=torch.arange(100, 20000)), theirs, atol=0.02
    )
