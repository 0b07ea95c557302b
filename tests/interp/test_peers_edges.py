"""MIB's curve and EAP-IG's files are what their own code says, on the same weights and prompts.
Needs `make .bench-venv/tl2/.done`, and copies of both repositories: EAP_IG, MIB_TRACK."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

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
from minigpt import GPT2
from minigpt.address import edges as every_edge
from tests.conftest import tiny

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


class Asked(NamedTuple):
    """A model, prompts, scores of its edges, and the folder in which their code answered."""

    on: Ablation
    scores: dict[str, float]
    folder: Path


def small() -> tuple[Ablation, dict[str, float]]:
    """The embedded model, its edges' exact effects."""
    on = ablation(MODEL, one_length(12, 0))
    with Turns(on) as turns:
        return on, dict(zip(EVERY, exact(turns).mean(1).tolist(), strict=True))


def full() -> tuple[Ablation, dict[str, float]]:
    """Full-size GPT-2 with random weights; scores by chance."""
    model = tiny(12, 12, 768, 3072, 64, 50257)
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 50257, (4, 12), generator=draw)
    corrupt = clean.clone()
    corrupt[:, 7] = torch.randint(0, 50257, (4,), generator=draw)
    # The tokens that the corruption moves most: of a small difference a ratio is all rounding.
    moved = model.run(clean).logits_at(-1) - model.run(corrupt).logits_at(-1)
    pairs = tasks.Prompts(clean, corrupt, moved.argmax(1)[:, None], moved.argmin(1)[:, None])
    every = list(every_edge(model.config))
    values = torch.randn(len(every), generator=draw)
    return ablation(model, pairs), dict(zip(every, values.tolist(), strict=True))


def ablation(model: GPT2, pairs: tasks.Prompts) -> Ablation:
    return Ablation(model, pairs, metrics.logit_diff(pairs), "pairs", over="heads mlps")


@pytest.fixture(scope="module", params=[small, full])
def question(request, tmp_path_factory) -> Asked:
    place = tmp_path_factory.mktemp("eap-ig")
    on, scores = request.param()
    pairs = on.pairs
    weights.save(on.model, place / "model")
    asked = {"clean": pairs.clean, "corrupt": pairs.corrupt}
    asked |= {"answers": pairs.answers[:, 0], "distractors": pairs.distractors[:, 0]}
    save_file({name: x.contiguous() for name, x in asked.items()}, place / "asked.safetensors")
    files.write(Circuit({}, list(scores), scores), on.model.config, place / "graph.json")
    subprocess.run([PYTHON, ROOT / "benchmarks/peers/eap_ig.py", place], check=True)
    return Asked(on, scores, place)


@pytest.mark.parametrize(("name", "absolute"), [("signed", False), ("by_size", True)])
def test_curve_and_areas_are_mibs_own(question, name, absolute):
    theirs = load_file(question.folder / "answers.safetensors")
    ours = curve(question.on, question.scores, absolute=absolute)
    assert ours.shares == SIZES
    expected = torch.tensor([*ours.recovered.tolist(), ours.cpr, ours.cmd], dtype=torch.float64)
    torch.testing.assert_close(theirs[name], expected, rtol=0, atol=1e-5)
    full = question.on.full
    torch.testing.assert_close(theirs["baseline"].double(), full, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["theirs.json", "theirs.pt"])
def test_files_that_their_code_writes_are_read(question, name):
    graph, scores = files.read(question.folder / name), question.scores
    assert len(graph.edges) == len(scores)
    found = torch.tensor([graph.scores[edge] for edge in scores])
    torch.testing.assert_close(found, torch.tensor([*scores.values()]), rtol=1e-6, atol=1e-7)


def test_estimates_by_gradients_order_edges_much_as_exact_effects_do(question):
    """Not an identity: what they miss is in benchmarks/README.md. The layout of both matrices and
    the signs are, or nothing would agree."""
    if question.on.model is not MODEL:
        pytest.skip("the scores of the other model are by chance")
    theirs = load_file(question.folder / "answers.safetensors")
    own = torch.tensor([question.scores[edge] for edge in EVERY])
    at = places(MODEL.config)
    for name in ("eap", "eap_ig"):
        found = torch.tensor([float(theirs[name][at[edge]]) for edge in EVERY])
        assert float(torch.corrcoef(torch.stack([found, own]))[0, 1]) > 0.4
