"""Steps upstream follow one another: which can, by what each is measured, and which are refused."""

from __future__ import annotations

import pytest

from interp.debugger import upstream
from minigpt import MiniGPTError
from tests.interp.debugger.questions import EXACT, exact

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_values_are_measured_by_the_step_before_them_where_the_page_says_so():
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


def test_a_query_may_be_traced_after_values_and_both_are_named():
    found = upstream.upstream(exact(trail=("a2.1.v@6<3", "a1.0.q@3<1", "a0.1@3<2")))
    assert found.sum.left == pytest.approx(found.score.left, abs=1e-10)
    assert "through its query and its key" in found.words
    assert len(found.trail) == 3
    assert upstream.upstream(exact(trail=("a2.1.v@6<3", "a1.0.q@3<1")), 0).words == found.trail[0]


def test_values_chain_after_values():
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
        (("a2.1.q@6<",), "is no pair"),
    ],
)
def test_a_trail_that_cannot_be_followed_is_refused(trail, why):
    with pytest.raises(MiniGPTError, match=why):
        upstream.upstream(exact(trail=trail))
