"""Shapes are checked while tests run: a wrong one is found at a function's first calls, in every
file, and at some of the later ones."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from tests import checked, sampled


def made():
    """A function that says that its result is as long as what it is given, and errs from the nth
    call on."""
    wrong: list[int] = []

    def halved(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return x[: len(x) // 2] if wrong else x

    return sampled.jaxtyped(halved, typechecker=checked), wrong


def test_a_wrong_shape_is_found_at_the_first_call():
    function, wrong = made()
    wrong.append(1)
    with pytest.raises(TypeCheckError):
        function(torch.zeros(4))


def test_and_later_at_one_call_in_so_many():
    function, wrong = made()
    for _ in range(sampled.FIRST):
        function(torch.zeros(4))
    wrong.append(1)
    results = []
    for _ in range(sampled.THEN):
        try:
            function(torch.zeros(4))
            results.append("unseen")
        except TypeCheckError:
            results.append("found")
    assert results.count("found") == 1


def test_and_at_the_first_calls_of_the_next_file():
    function, wrong = made()
    for _ in range(sampled.FIRST + 1):
        function(torch.zeros(4))
    wrong.append(1)
    function(torch.zeros(4))
    sampled.anew()
    with pytest.raises(TypeCheckError):
        function(torch.zeros(4))


def test_the_packages_functions_are_checked():
    from minigpt import ops

    sampled.anew()
    with pytest.raises(TypeCheckError):
        ops.linear(torch.zeros(2, 3), torch.zeros(4, 5), torch.zeros(5))
