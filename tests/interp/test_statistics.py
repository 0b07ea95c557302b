"""Whether a mean could be chance, and where a patched metric stands between two runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp import metrics, patching, views
from interp.effects import Effects
from interp.numerics.permutation import adjusted, p_values
from interp.show import page
from interp.tasks import Prompts
from minigpt.errors import MiniGPTError, NoEffectWarning
from tests.conftest import tiny

MODEL = tiny(3, 2, 16, 32)


def pairs(n: int = 4) -> Prompts:
    draw = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(0, 50, (2, n, 7), generator=draw)
    return Prompts(clean, corrupt, torch.arange(n), torch.arange(n) + 9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_up_to_twelve_prompts_every_flip_is_counted(values):
    """By the definition, written out: ties count."""
    flips = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    wanted = sum(flip >= abs(sum(values)) for flip in flips) / len(flips)
    assert p_values(torch.tensor([values], dtype=torch.float64)).tolist() == [wanted]


def test_with_more_prompts_draws_come_near_the_exact_share():
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3
    exact = p_values(x)
    thirteen = torch.cat([x, torch.zeros(3, 1, dtype=torch.float64)], 1)
    drawn = p_values(thirteen, draws=40_000)
    torch.testing.assert_close(drawn, exact, atol=0.01, rtol=0)
    assert torch.equal(drawn, p_values(thirteen, draws=40_000))
    assert float(p_values(torch.ones(1, 40)).min()) == 1 / 10_000


def test_where_nothing_is_there_p_is_as_often_small_as_it_says():
    x = torch.randn(2000, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = p_values(x)
    for level in (0.05, 0.25, 0.5):
        assert abs(float((p <= level).double().mean()) - level) < 0.03
    assert float((adjusted(p) <= 0.05).double().mean()) < 0.01


@given(st.lists(st.floats(0, 1), max_size=12))
def test_the_false_discovery_rate_is_that_of_benjamini_and_hochberg(values):
    """A row's rate: the least of m p_j / j over the ranks j from its own on."""
    p = torch.tensor(values, dtype=torch.float64)
    ranked, m = sorted(values), len(values)
    for value, found in zip(values, adjusted(p).tolist(), strict=True):
        rank = ranked.index(value)
        wanted = min(1.0, *(m * ranked[j] / (j + 1) for j in range(rank, m)))
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_normalised_is_zero_for_the_corrupt_run_and_one_for_the_clean_one(direction):
    given, metric = pairs(), metrics.logit_diff(pairs())
    found = patching.nodes(MODEL, given, metric, ["resid0", "a1.1"], direction)
    clean, corrupt = (metric(MODEL.run(side)) for side in (given, given.corrupted))
    assert torch.equal(found.ends[0], clean)
    assert torch.equal(found.ends[1], corrupt)
    whole = 1.0 if direction == "denoising" else 0.0
    mean = found.normalised().mean(1)
    assert float(mean[0]) == pytest.approx(whole)
    after = float((found.base + found.per_prompt[1]).mean())
    wanted = (after - float(corrupt.mean())) / float((clean - corrupt).mean())
    assert float(mean[1]) == pytest.approx(wanted)


def test_what_has_no_two_sides_or_the_same_twice_is_not_normalised():
    given, metric = pairs(), metrics.logit_diff(pairs())
    with pytest.raises(MiniGPTError, match="no clean and corrupt run"):
        patching.knockout(MODEL, given, metric, ["a1.1"]).normalised()
    same = Effects(
        "x",
        "y",
        ("a1.1",),
        torch.ones(1, 2),
        torch.ones(2),
        MODEL.config,
        None,
        (torch.ones(2), torch.ones(2)),
    )
    with pytest.raises(MiniGPTError, match="1 on the clean side and on the corrupt one"):
        same.normalised()
    assert "normalised" not in same.to_frame()


def test_tables_and_json_have_them():
    given, metric = pairs(), metrics.logit_diff(pairs())
    found = patching.nodes(MODEL, given, metric)
    frame, data = found.to_frame(), found.to_dict()
    assert list(frame.columns) == ["address", "value", "low", "high", "p", "fdr", "normalised"]
    assert (
        frame["p"].tolist()
        == [row["p"] for row in data["rows"]]
        == p_values(found.per_prompt).tolist()
    )
    assert data["clean"] == found.ends[0].tolist()


def test_pairs_that_are_twice_the_same_prompt_are_named():
    asked, metric = pairs(), metrics.logit_diff(pairs())
    patching.nodes(MODEL, asked, metric)  # the twin: of other pairs nothing is said
    corrupt = asked.corrupt.clone()
    corrupt[[1, 3]] = asked.clean[[1, 3]]
    with pytest.warns(NoEffectWarning, match=r"2 of 4 pairs .* \(rows 1, 3\): their effects are 0"):
        found = patching.nodes(MODEL, replace(asked, corrupt=corrupt), metric)
    assert float(found.per_prompt[:, [1, 3]].abs().max()) == 0.0


def test_no_effects_and_one_prompts_effects_say_so():
    none = patching.nodes(MODEL, pairs(), metrics.logit_diff(pairs()), over=[])
    assert "0 rows, 4 prompts" in repr(none)
    assert none.interval().shape == (0, 2)
    assert none.to_frame().empty
    assert "nothing to show" in page.document(views.effects(none))
    one = patching.nodes(MODEL, pairs(1), metrics.logit_diff(pairs(1)))
    assert "one prompt, no mean" in repr(one)
    assert "one prompt" in page.document(views.effects(one))
