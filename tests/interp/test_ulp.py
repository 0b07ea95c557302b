"""Distances and bounds against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise as neighbours

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.numerics import bounds, ulp

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
every = pytest.mark.parametrize("dtype", TYPES, ids=str)
# Numbers that float32 holds exactly, of very different sizes, their products far from under- and
# overflow.
numbers = st.builds(lambda m, e: m * 2.0**e, st.integers(-(2**24), 2**24), st.integers(-24, 12))


def exact(x: torch.Tensor) -> list[Fraction]:
    return [Fraction(v) for v in x.double().flatten().tolist()]


def all_halves() -> torch.Tensor:
    """Every finite float16, in order, zero once."""
    bits = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    return torch.unique(bits[bits.isfinite()])


# --- units in the last place


@every
@given(start=st.floats(-4, 4, width=16), steps=st.integers(0, 60), up=st.booleans())
def test_the_distance_is_how_many_steps_lead_there(dtype, start, steps, up):
    a = b = torch.tensor([start], dtype=dtype)
    for _ in range(steps):
        b = torch.nextafter(b, torch.full_like(b, torch.inf if up else -torch.inf))
    assert int(ulp.distance(a, b)) == int(ulp.distance(b, a)) == steps


@given(pair=st.tuples(*[st.integers(0, 63486)] * 2))
def test_in_float16_it_is_the_number_of_numbers_between(pair):
    halves = all_halves()
    i, j = (k % len(halves) for k in pair)
    assert int(ulp.distance(halves[i : i + 1], halves[j : j + 1])) == abs(i - j)


def test_float16_by_fractions_has_no_gap_smaller_than_its_unit():
    halves = all_halves()
    gaps = [b - a for a, b in neighbours(exact(halves))]
    units = exact(
        ulp.size(
            torch.where(
                halves < 0, halves[torch.arange(len(halves)).clamp(max=len(halves) - 2) + 1], halves
            ).double(),
            torch.float16,
        )
    )
    assert gaps == units[:-1]


@every
@given(x=st.floats(1e-30, 1e30))
def test_the_unit_is_the_power_of_two_of_its_binade(dtype, x):
    kind, exponent = torch.finfo(dtype), math.frexp(x)[1] - 1
    lowest = math.frexp(kind.smallest_normal)[1] - 1
    expected = Fraction(2) ** max(exponent, lowest) * Fraction(kind.eps)
    assert exact(ulp.size(torch.tensor([x, -x], dtype=torch.float64), dtype)) == [expected] * 2


@every
@given(x=st.floats(-1e4, 1e4))
def test_rounding_to_nearest_is_half_a_unit_at_most(dtype, x):
    right = torch.tensor([x], dtype=torch.float64)
    found = right.to(dtype)
    (share,) = exact(ulp.error(found, right))
    (unit,) = exact(ulp.size(right, dtype))
    assert abs(Fraction(x) - exact(found)[0]) <= unit / 2
    assert share <= Fraction(1, 2)


def test_what_is_not_near_is_far_and_what_is_nothing_is_nothing():
    big, nan = torch.finfo(torch.float64).max, math.nan
    a = torch.tensor([0.0, nan, nan, big, 1.0], dtype=torch.float64)
    b = torch.tensor([-0.0, nan, 1.0, -big, torch.inf], dtype=torch.float64)
    assert ulp.distance(a, b)[:4].tolist() == [0, 0, ulp.FAR, ulp.FAR]
    assert 0 < int(ulp.distance(a, b)[4]) < ulp.FAR
    assert not ulp.same_bits(a[:1], b[:1]), "the sign of zero is a bit"
    assert ulp.same_bits(a[1:3], a[1:3].clone())
    assert ulp.differ(a, b).tolist() == [True, False, True, True, True]


def test_two_types_have_no_distance():
    with pytest.raises(ulp.UlpError, match=r"(?s)float32.*one floating-point type"):
        ulp.distance(torch.ones(1), torch.ones(1, dtype=torch.float64))


# --- bounds


@given(x=st.lists(numbers, min_size=1, max_size=70))
def test_sums_stay_under_their_bounds(x):
    given_, right = torch.tensor(x, dtype=torch.float32), sum(map(Fraction, x))
    one_by_one = torch.zeros((), dtype=torch.float32)
    for term in given_:
        one_by_one = one_by_one + term
    found = {
        "any": one_by_one,
        "compensated": bounds.compensated(given_.unbind()),
    }
    for method, total in found.items():
        assert abs(exact(total)[0] - right) <= allowed(
            bounds.summed(given_, torch.float32, method)
        ), method
    assert abs(exact(given_.sum())[0] - right) <= allowed(bounds.summed(given_, torch.float32))


def allowed(bound: torch.Tensor) -> Fraction:
    """A bound as a fraction, with what its own float64 arithmetic may have lost."""
    return Fraction(float(bound)) * (1 + Fraction(1, 10**12))


@given(data=st.data(), n=st.integers(1, 40), biased=st.booleans())
def test_a_product_stays_under_its_bound(data, n, biased):
    x, w = (
        torch.tensor(data.draw(st.lists(numbers, min_size=n, max_size=n)), dtype=torch.float32)
        for _ in range(2)
    )
    b = torch.tensor([data.draw(numbers)], dtype=torch.float32) if biased else None
    found = torch.addmm(b, x[None], w[:, None]) if b is not None else x[None] @ w[:, None]
    right = sum(
        (p * q for p, q in zip(exact(x), exact(w), strict=True)),
        exact(b)[0] if b is not None else Fraction(0),
    )
    assert abs(exact(found)[0] - right) <= allowed(
        bounds.product(x[None], w[:, None], torch.float32, b)
    )


@given(a=numbers, b=numbers)
def test_an_addition_loses_what_two_sum_says_and_no_more_than_its_bound(a, b):
    total, lost = bounds.two_sum(
        torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    )
    assert exact(total)[0] + exact(lost)[0] == Fraction(a) + Fraction(b)
    assert abs(exact(lost)[0]) <= allowed(bounds.added(total, torch.float32))


@every
@given(n=st.integers(0, 10**9))
def test_gamma_is_what_higham_says(dtype, n):
    u = Fraction(torch.finfo(dtype).eps) / 2
    if n * u >= 1:
        assert bounds.gamma(n, dtype) == math.inf
    else:
        assert bounds.gamma(n, dtype) == pytest.approx(float(n * u / (1 - n * u)), rel=1e-12)


# --- twins: a worse sum breaks a better sum's bound, so that the bounds are not idle


def test_twin_adding_one_by_one_breaks_the_better_bound():
    x = torch.tensor([1.0] + [2.0**-24] * 4096)
    total = torch.zeros(())
    for term in x:
        total = total + term
    right = sum(exact(x))
    bound = allowed(bounds.summed(x, torch.float32, "compensated"))
    assert abs(exact(total)[0] - right) > bound
    assert abs(exact(bounds.compensated(x.unbind()))[0] - right) <= bound


def test_twin_a_product_with_a_term_left_out_breaks_its_bound():
    x, w = torch.linspace(1, 2, 50)[None], torch.linspace(1, 2, 50)[:, None]
    right = sum(p * q for p, q in zip(exact(x), exact(w), strict=True))
    assert abs(exact(x[:, 1:] @ w[1:])[0] - right) > allowed(bounds.product(x, w, torch.float32))


@pytest.mark.parametrize("bound", [0.009372261025816836, 0.009372261025816835, 1e-300, 3.0, 0.0])
def test_a_bound_is_said_in_nine_digits_and_not_below_itself(bound):
    said = bounds.said(bound)
    assert bound <= said <= bound * (1 + 2e-8)
    assert said == float(f"{said:.8e}")
    assert bound == 0 or bounds.said(math.nextafter(bound, math.inf)) == said
