"""MIB's curve: ends that are known, every point a run of its own, areas by hand."""

from __future__ import annotations

import pytest
import torch

from interp import metrics
from interp.circuit.ablation import Ablation
from interp.circuit.curve import Curve, curve, pruned, ranked
from interp.circuit.search import exact
from interp.circuit.turns import Turns
from interp.tasks import Prompts
from minigpt.address import edges as every_edge
from minigpt.errors import MiniGPTError
from tests.conftest import tiny

MODEL = tiny(2, 2, 8, 16, dtype=torch.float64)
EVERY = list(every_edge(MODEL.config))
SHARES = (0.05, 0.2, 0.5, 1.0)
pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def on(source: str = "pairs") -> Ablation:
    clean = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 5, 2]])
    corrupt = torch.tensor([[1, 9, 3, 4], [5, 2, 7, 8], [9, 8, 5, 2]])
    pairs = Prompts(clean, corrupt, answers=[10, 11, 12], distractors=[13, 14, 15])
    return Ablation(MODEL, pairs, metrics.logit_diff(pairs), source, over="heads mlps")


def scored(given: Ablation) -> dict[str, float]:
    with Turns(given) as turns:
        return dict(zip(EVERY, exact(turns).mean(1).tolist(), strict=True))


@pytest.mark.parametrize("source", ["pairs", "zero", "mean"])
def test_all_edges_are_the_model_none_are_the_empty_circuit(source):
    given = on(source)
    found = curve(given, scored(given), shares=SHARES)
    assert torch.equal(found.metric[-1], given.full)
    assert float(found.recovered[-1]) == 1.0
    assert found.counts == tuple(int(share * len(EVERY)) for share in SHARES)
    if source == "pairs":
        corrupt = given.metric(MODEL.run(given.pairs.corrupted))
        assert torch.allclose(found.empty, corrupt, atol=1e-10)


def test_each_point_is_a_circuits_own_run_and_pruning_changes_none_of_them():
    given = on()
    scores = scored(given)
    found = curve(given, scores, absolute=True, shares=SHARES)
    ordered = ranked(scores, absolute=True)
    for count, metric in zip(found.counts, found.metric, strict=True):
        assert torch.allclose(metric, given.edges(ordered[:count], EVERY), atol=1e-10)


def test_the_areas_are_those_of_trapezoids():
    full, empty = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    metric = torch.tensor([[0.0] * 4, [0.5] * 4, [1.0] * 4], dtype=torch.float64)
    found = Curve((0.0, 0.5, 1.0), (0, 5, 10), metric, full, empty)
    assert found.cpr == pytest.approx(0.5)
    assert found.cmd == pytest.approx(0.5)
    assert found.intervals()["cpr"] == pytest.approx((0.5, 0.5))
    assert found.over(found)["cpr"] == (0.0, 0.0)
    better = Curve((0.0, 0.5, 1.0), (0, 5, 10), metric[[0, 2, 2]], full, empty)
    assert better.over(found)["cpr"] == pytest.approx((0.25, 0.25))
    assert better.over(found)["cmd"] == pytest.approx((-0.25, -0.25))
    with pytest.raises(MiniGPTError, match="different prompts"):
        found.over(Curve((0.0,), (0,), metric[:1], 2 * full, empty))
    over = Curve((0.0, 1.0), (0, 10), metric[[2, 2]] * 1.5, full, empty)
    assert over.cpr == pytest.approx(1.5)
    assert over.cmd == pytest.approx(0.5)


def test_what_no_path_goes_through_is_pruned():
    assert pruned(["input>a0.0.v", "a0.0>out", "a0.1>m1.in", "input>m0.in"]) == [
        "input>a0.0.v",
        "a0.0>out",
    ]
    assert pruned(EVERY) == EVERY
    assert pruned(["a0.0>out"]) == []
