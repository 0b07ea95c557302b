"""Every example in a docstring is what is really printed."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.test_architecture import OURS

EXAMPLES = sorted(name for name, text in OURS.items() if ">>> " in text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert not failed
    assert tried


def test_twin_an_example_that_is_wrong_is_noticed():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda _: None).failed == 1


def test_most_packages_have_some():
    assert len(EXAMPLES) >= 10
