"""Tiny random models, and runtime checks of every shape annotation: installed here, before anything
imports minigpt."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jaxtyping

from tests import sampled

PACKAGES = ["minigpt", "interp", "weights"]
# How often a property is tried and shapes are checked: in make test, and in make test-slow.
THOROUGH = os.environ.get("PROFILE") in ("thorough", "mutants")
(jaxtyping.install_import_hook if THOROUGH else sampled.install)(PACKAGES, "tests.checked")

import hypothesis
import pytest
import tiktoken
import torch

from minigpt import GPT2, Config, Params, Tokenizer, build
from minigpt.params import UNEMBED, shapes
from minigpt.recompute.rows import Rows

VOCABULARY = Path(__file__).parents[2] / "shared" / "tokenizer"
if VOCABULARY.is_dir():
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(VOCABULARY))

USUAL = 20
hypothesis.settings.register_profile("here", deadline=None, max_examples=USUAL)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=USUAL, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5 * USUAL)
# For mutants: the same draws each time, and that one fails is enough.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=50,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile(
    os.environ.get("PROFILE") or ("ci" if os.environ.get("CI") else "here")
)


# Files that are long by browsers, processes and whole studies, the longest first: begun first, so
# that no worker ends alone with one.
LONG = (
    *("test_debugger_browser", "test_audit", "test_learn", "test_collate", "test_debugger_look"),
    *("test_executor", "test_parity", "test_hub", "test_debugger_kept", "test_cli"),
    *("test_architecture", "test_components", "test_known_neurons", "test_corpus_commands"),
    *("test_debugger_other_model", "test_play", "test_search", "test_tasks_mini", "test_exports"),
)


_made = Rows.__init__


def _in_order(rows: Rows, *given: object, **named: object) -> None:
    """What is looked up in rows relies on their order: whoever makes them otherwise is found out
    here."""
    _made(rows, *given, **named)
    assert bool((rows.ids[1:] > rows.ids[:-1]).all()), "rows out of order, or one of them twice"


Rows.__init__ = _in_order

# The letters from A on, one token each.
LETTERS = Tokenizer(
    tiktoken.Encoding(
        "letters",
        pat_str=".",
        mergeable_ranks={bytes([65 + i]): i for i in range(50)},
        special_tokens={},
    )
)


@pytest.fixture(scope="module", autouse=True)
def shapes_are_checked_anew() -> None:
    """A function's first calls in each file."""
    sampled.anew()


def examples(number: int) -> hypothesis.settings:
    """So many tries of a property in make test, five times as many in make test-slow."""
    return hypothesis.settings(max_examples=5 * number if THOROUGH else number)


def some(cases: Iterable[Any], every: int = 4) -> list[Any]:
    """Cases of which one in so many is tried in make test, all of them in make test-slow."""
    given = [case if isinstance(case, tuple) else (case,) for case in cases]
    marks = ([pytest.mark.slow] * (i % every > 0) for i in range(len(given)))
    return [pytest.param(*case, marks=mark) for case, mark in zip(given, marks, strict=True)]


def unchecked(function: Callable) -> Callable:
    """The function as a user meets it, without the runtime checks that only tests install: for
    errors of its own."""
    return inspect.unwrap(function)


def random_params(
    config: Config, *, seed: int = 0, dtype: torch.dtype = torch.float32, tied: bool = True
) -> Params:
    """Parameters of which none is special: LayerNorm's weights away from 1, every bias away from
    0."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in shapes(config, tied=tied).items():
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) == 1:
            drawn[name] = 1 + 0.3 * x if name.endswith("weight") else 0.2 * x
        else:
            drawn[name] = x * (
                0.3 if name in ("wte.weight", "wpe.weight", UNEMBED) else shape[0] ** -0.5
            )
    return build(config, {name: x.to(dtype) for name, x in drawn.items()})


@cache
def tiny(
    n_layer: int = 2,
    n_head: int = 2,
    d_model: int = 8,
    d_mlp: int = 16,
    n_ctx: int = 32,
    n_vocab: int = 50,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tied: bool = True,
) -> GPT2:
    """A random model without a tokenizer. Made once for each shape: nothing changes a model."""
    config = Config(n_layer, n_head, d_model, d_mlp, n_ctx, n_vocab)
    return GPT2(random_params(config, seed=seed, dtype=dtype, tied=tied), name="tiny")


@pytest.fixture(scope="session")
def model() -> GPT2:
    """Two layers of two heads, float64."""
    return tiny(dtype=torch.float64)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Properties have a marker, so that they can be tried more often; long files come first."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
    for item in items:
        if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.property)
