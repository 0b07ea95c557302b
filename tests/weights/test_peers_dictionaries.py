"""Dictionaries that SAELens and dictionary_learning themselves wrote: the same latents and
reconstructions. Needs the environment of `make test-peers`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from weights import load_dictionary

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PEERS_PYTHON", ROOT / ".peers-venv" / "bin" / "python"))
NAMES = (
    *("standard", "topk", "topk_rescaled", "jumprelu", "gated", "layer_norm", "rescaled"),
    *("transcoder", "skip_transcoder", "jumprelu_transcoder", "batchtopk", "matryoshka_batchtopk"),
    *("AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE", "JumpReluAutoEncoder"),
    *("GatedAutoEncoder", "MatryoshkaBatchTopKSAE"),
)
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PYTHON.is_file(), reason="no peers are installed: make test-peers"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """What the peers wrote: a folder for each name, x and their answers beside it."""
    folder = tmp_path_factory.mktemp("peers")
    subprocess.run([PYTHON, ROOT / "tests/weights/peers.py", folder], check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_what_a_peer_wrote_gives_what_the_peer_gives(written, name):
    theirs = load_file(written / f"{name}.safetensors")
    d = load_dictionary(written / name)
    z = d.encode(theirs["x"])
    assert 0 < (theirs["z"] > 0).float().mean() < 1
    torch.testing.assert_close(z, theirs["z"], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(d.decode(z, theirs["x"]), theirs["out"], atol=4e-6, rtol=1e-5)
