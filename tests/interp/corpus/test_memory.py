"""Collating stays within the memory that it is given, and says before it begins where it cannot."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from interp.corpus.documents import CorpusError
from interp.corpus.make import make
from interp.corpus.measure import BLOCK, Settings
from interp.corpus.memory import BUDGET, at_once, needed
from interp.executor import Where
from minigpt import GPT2, Config
from minigpt.params import build, shapes
from tests.interp.corpus.test_collate import MODEL, SETTINGS, contents, texts

WIDE = Config(n_layer=4, n_head=4, d_model=64, d_mlp=4096, n_ctx=64, n_vocab=300)
MANY = Settings(top=120)
COLLATES = """
import torch
torch.set_num_threads(1)
from tests.interp.corpus.test_memory import MANY, Where, make, sentences, wide
make(wide(), sentences(), {folder!r}, MANY, where=Where({workers}), progress=False)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def wide() -> GPT2:
    """Few parameters, many neurons."""
    rng = torch.Generator().manual_seed(0)
    given = {name: torch.randn(*shape, generator=rng) for name, shape in shapes(WIDE).items()}
    return GPT2(build(WIDE, given), MODEL.tokenizer, "wide")


def sentences():
    """Enough of them for every place to be taken."""
    return texts(200)


def test_a_run_takes_as_many_windows_as_fit():
    whole, one = (needed(MODEL, SETTINGS, n) for n in (BLOCK, 1))
    assert at_once(MODEL, SETTINGS, whole) == at_once(MODEL, SETTINGS) == BLOCK
    assert 1 < at_once(MODEL, SETTINGS, whole - 1) < BLOCK
    assert at_once(MODEL, SETTINGS, one) == 1
    assert at_once(MODEL, SETTINGS, 2 * one, workers=2) == 1


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path):
    one = needed(MODEL, SETTINGS, 1)
    for budget, workers in ((one - 1, 1), (1.5 * one, 2)):
        with pytest.raises(CorpusError, match="--memory"):
            make(MODEL, texts(), tmp_path / "s", SETTINGS, where=Where(workers), memory=budget)
        assert not (tmp_path / "s").exists()


def test_a_model_that_is_larger_than_the_usual_budget_is_not_refused():
    more = replace(SETTINGS, top=10**6)
    assert needed(MODEL, more, 1) > BUDGET
    assert at_once(MODEL, more) == 1


def test_little_memory_changes_no_byte(tmp_path):
    one = needed(MODEL, SETTINGS, 1)
    for name, budget in (("little", one), ("usual", None)):
        make(MODEL, texts(), tmp_path / name, SETTINGS, memory=budget, progress=False)
    assert contents(tmp_path / "little") == contents(tmp_path / "usual")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_said_to_be_needed_is_what_is_taken_at_most(tmp_path):
    code = COLLATES.format(folder=str(tmp_path / "s"), workers=1)
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    taken = 1024 * int(ran.stdout.split()[-1])
    assert 0.5 * needed(wide(), MANY, BLOCK) < taken <= needed(wide(), MANY, BLOCK)
