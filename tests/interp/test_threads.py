"""A command takes the threads that are free, says so where they are fewer, and its numbers are the
same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interp.cli import threads

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """Nobody said how many; the load is what a file says."""
    for name in threads.SAID:
        monkeypatch.delenv(name, raising=False)
    before, load = torch.get_num_threads(), tmp_path / "loadavg"
    monkeypatch.setattr(threads, "LOAD", load)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    torch.set_num_threads(4)
    yield load
    torch.set_num_threads(before)


@pytest.mark.parametrize(("runnable", "free"), [(1, 4), (2, 3), (4, 1), (9, 1)])
def test_as_many_as_nobody_else_works_on(quiet, runnable, free):
    quiet.write_text(f"9.00 9.00 9.00 {runnable}/321 4711\n")
    said = threads.choose()
    assert torch.get_num_threads() == free
    assert said.startswith(f"{free} thread") if free < 4 else said == ""


def test_whoever_says_a_number_is_left_alone(quiet, monkeypatch):
    quiet.write_text("9.00 9.00 9.00 9/321 4711\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads.choose() == ""
    assert torch.get_num_threads() == 4


def test_where_the_load_cannot_be_seen_torch_decides(quiet):
    assert threads.choose() == ""
    assert torch.get_num_threads() == 4


@pytest.mark.slow
def test_the_numbers_are_the_same_bits():
    found = []
    for n in ("1", "2", "4"):
        done = subprocess.run(
            [sys.executable, "-m", "interp.cli", "why", "When Mary and John went", "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": n},
            check=True,
        )
        answer = json.loads(done.stdout)
        assert 1 <= answer.pop("provenance")["machine"]["threads"] <= int(n)
        found.append(answer)
    assert found[0] == found[1] == found[2]
