"""A tiny model in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import weights
from tests.conftest import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model, saved."""
    return weights.save(tiny(), tmp_path / "tiny")
