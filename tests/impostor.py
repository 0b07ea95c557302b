"""A pytest plugin (-p impostor) that passes a small random model off as GPT-2: the checks of the
real one must run, and fail."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def impostor() -> Any:
    """GPT-2 small's layers, heads and vocabulary, a sixteenth of its width. Nothing is imported
    before conftest.py is in place."""
    from minigpt import GPT2, Config, tokenizer
    from tests.conftest import random_params

    return GPT2(random_params(Config(12, 12, 48, 192, 1024, 50257)), tokenizer.gpt2())


@pytest.fixture(autouse=True, scope="session")
def passed_off():
    """In the place of the real one."""
    import weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights.catalog, "at_hand", lambda model: Path())
        patch.setattr(weights, "load", lambda name: impostor())
        yield
