"""MIB's curve and EAP-IG's files are what their own code says, on the same weights and prompts.
Needs `make .bench-venv/tl2/.done`, and copies of both repositories: EAP_IG, MIB_TRACK."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import weights
from interp import metrics, tasks
from interp.circuit import Circuit, files
from interp.circuit.ablation import Ablation
from interp.circuit.curve import SIZES, curve
from interp.circuit.matrix import places
from interp.circuit.search import exact
from interp.circuit.turns import Turns
from minigpt.address import edges as every_edge

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TL2_PYTHON", ROOT / ".bench-venv" / "tl2" / "bin" / "python"))
AT_HAND = all(Path(os.environ.get(name, "-")).is_dir() for name in ("EAP_IG", "MIB_TRACK"))
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not (PYTHON.is_file() and AT_HAND),
        reason="EAP-IG and MIB's circuit track are not at hand: EAP_IG=FOLDER MIB_TRACK=FOLDER",
    ),
]
MODEL = weights.load("ioi-mini")
EVERY = list(every_edge(MODEL.config))


def one_length(n: int, seed: int) -> tasks.Prompts:
    """Prompts of one length: what stands for text on their side are token ids."""
    pairs = tasks.ioi.prompts(MODEL.words, 4 * n, seed)
    length = pairs.lengths.mode().values
    return pairs.rows((pairs.lengths == length).nonzero().flatten().tolist()[:n])


PAIRS = one_length(12, 0)


@pytest.fixture(scope="module")
def on() -> Ablation:
    return Ablation(MODEL, PAIRS, metrics.logit_diff(PAIRS), "pairs", over="heads mlps")


@pytest.fixture(scope="module")
def scores(on) -> dict[str, float]:
    with Turns(on) as turns:
        return dict(zip(EVERY, exact(turns).mean(1).tolist(), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scores) -> Path:
    place = tmp_path_factory.mktemp("eap-ig")
    weights.save(MODEL, place / "model")
    asked = {"clean": PAIRS.clean, "corrupt": PAIRS.corrupt}
    asked |= {"answers": PAIRS.answers[:, 0], "distractors": PAIRS.distractors[:, 0]}
    save_file({name: x.contiguous() for name, x in asked.items()}, place / "asked.safetensors")
    files.write(Circuit({}, EVERY, scores), MODEL.config, place / "graph.json")
    subprocess.run([PYTHON, ROOT / "benchmarks/peers/eap_ig.py", place], check=True)
    return place


@pytest.mark.parametrize(("name", "absolute"), [("signed", False), ("by_size", True)])
def test_curve_and_areas_are_mibs_own(on, scores, folder, name, absolute):
    theirs = load_file(folder / "answers.safetensors")
    ours = curve(on, scores, absolute=absolute)
    assert ours.shares == SIZES
    expected = torch.tensor([*ours.recovered.tolist(), ours.cpr, ours.cmd], dtype=torch.float64)
    torch.testing.assert_close(theirs[name], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs["baseline"].double(), on.full, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["theirs.json", "theirs.pt"])
def test_files_that_their_code_writes_are_read(folder, scores, name):
    graph = files.read(folder / name)
    assert len(graph.edges) == len(EVERY)
    found = torch.tensor([graph.scores[edge] for edge in EVERY])
    expected = torch.tensor([scores[edge] for edge in EVERY])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_estimates_by_gradients_order_edges_much_as_exact_effects_do(folder, scores):
    """Not an identity: what they miss is in benchmarks/README.md. The layout of both matrices and
    the signs are, or nothing would agree."""
    theirs, at = load_file(folder / "answers.safetensors"), places(MODEL.config)
    own = torch.tensor([scores[edge] for edge in EVERY])
    for name in ("eap", "eap_ig"):
        found = torch.tensor([float(theirs[name][at[edge]]) for edge in EVERY])
        assert float(torch.corrcoef(torch.stack([found, own]))[0, 1]) > 0.4
