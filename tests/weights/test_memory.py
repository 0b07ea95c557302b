"""Loading a model takes little more than its size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import weights
from minigpt import build
from minigpt.config import SIZES
from minigpt.params import UNEMBED, shapes
from tests.weights.tools import ROOT, run_python

MEMORY = """
import gc, os, torch, weights

def peak():
    lines = open("/proc/self/status").readlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

torch.ones(300, 300) @ torch.ones(300, 300)
for kind in ("whole", "bin"):
    model = None
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = peak()
    model = weights.load(kind, tokenizer=['a name'])
    print((peak() - before) / (4 * 124439808))
copy = [x.clone() for block in model.params.blocks for x in vars(block).values()]
print((peak() - before) / (4 * 124439808))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc"
)
def test_loading_gpt2_takes_little_more_than_its_size(tmp_path):
    drawn = {name: torch.full(size, 0.02) for name, size in shapes(SIZES["gpt2"]).items()}
    weights.save(build(SIZES["gpt2"], drawn), tmp_path / "whole")
    (tmp_path / "bin").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "bin")
    torch.save({**drawn, UNEMBED: drawn["wte.weight"]}, tmp_path / "bin" / "pytorch_model.bin")
    del drawn
    code = f"import os\nos.chdir({str(tmp_path)!r})\n{MEMORY}"
    safetensors, pickled, with_a_copy = map(float, run_python(code, PYTHONPATH=str(ROOT)).split())
    shutil.rmtree(tmp_path)
    assert 0.9 < safetensors < 1.2
    assert 0.9 < pickled < 1.2
    assert with_a_copy > 1.2
