"""Linear weights of a feature graph and its scores are circuit-tracer's own, on the same weights,
transcoders and prompt. Needs the environment of `make test-peers`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import weights
from interp import metrics
from interp.features import exact, file, influence, linear
from minigpt import GPT2, Trace
from tests.conftest import tiny
from tests.weights.test_peers_dictionaries import PYTHON, ROOT, pytestmark

__all__ = ["pytestmark"]
LAYERS = 3
PEER = ROOT / "tests/interp/peers_circuit_tracer.py"
TOKENS = torch.tensor([0, 17, 3, 41, 8, 8, 29])
METRIC = metrics.logit_diff(answers=3, distractors=4)


class Theirs(NamedTuple):
    """circuit-tracer's answers, and our run of the same; senders and receivers in its order."""

    model: GPT2
    trace: Trace
    latents: list[str]
    errors: list[str]
    answers: dict[str, Tensor]
    file: Path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Theirs:
    """Both sides: it writes no latents nor errors at the first position."""
    folder = tmp_path_factory.mktemp("circuit-tracer")
    plain = tiny(LAYERS, 4, 32, 16)
    weights.save(plain, folder / "model")
    asked = {"tokens": TOKENS, "answers": torch.tensor([3, 4])}
    save_file(asked, folder / "asked.safetensors")
    subprocess.run([PYTHON, PEER, folder], check=True)
    known = [weights.load_dictionary(folder / f"layer_{i}.safetensors") for i in range(LAYERS)]
    model, answers = plain.with_dictionaries(*known), load_file(folder / "answers.safetensors")
    latents = [f"m{layer}.l{n}@{at}" for layer, at, n in answers["features"].tolist()]
    errors = [f"m{layer}.e@{at}" for layer in range(LAYERS) for at in range(len(TOKENS))]
    drawn = folder / "graph" / "theirs.json"
    return Theirs(model, model.run(TOKENS[None]), latents, errors, answers, drawn)


def ours(theirs: Theirs) -> Tensor:
    """Our weights in the order of its matrix: latents, errors, tokens (without their position's
    embedding) by latents and the output."""
    points = linear.gradients(theirs.trace, METRIC, theirs.latents).before
    written = linear.weights(
        theirs.trace, METRIC, [*theirs.latents, *theirs.errors], theirs.latents
    )
    first = torch.tensor([name.endswith("@0") for name in [*theirs.latents, *theirs.errors]])
    words = theirs.model.params.wte[TOKENS].double()
    tokens = torch.einsum("rtd,td->rt", points[0], words)
    return torch.cat([torch.where(first, 0, written), tokens], 1)


def test_both_see_the_same_run_and_the_same_latents(theirs: Theirs) -> None:
    torch.testing.assert_close(
        theirs.trace.logits[0], theirs.answers["logits"], atol=1e-5, rtol=1e-5
    )
    on = torch.stack([theirs.trace.act(name)[0] for name in theirs.latents])
    torch.testing.assert_close(on, theirs.answers["activations"], atol=1e-5, rtol=1e-5)
    later = sum(int((theirs.trace.act(f"m{layer}.l")[0, 1:] > 0).sum()) for layer in range(LAYERS))
    assert len(theirs.latents) == later > 100


def test_every_edge_has_its_weight(theirs: Theirs) -> None:
    n = len(theirs.latents)
    matrix = theirs.answers["adjacency"]
    rows = torch.cat([matrix[:n], matrix[-1:]])[:, :-1].double()
    found = ours(theirs)
    assert (rows.abs() > 1e-3).sum() > 1000
    torch.testing.assert_close(found, rows, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found.roll(1, 1), rows, atol=1e-2)


def test_replacement_and_completeness_are_its(theirs: Theirs) -> None:
    tokens = [f"emb@{at}" for at in range(len(TOKENS))]
    senders, receivers = [*theirs.latents, *theirs.errors, *tokens], [*theirs.latents, "out"]
    found = influence.scores(senders, receivers, ours(theirs))
    expected = theirs.answers["scores"].tolist()
    assert [found.replacement, found.completeness] == pytest.approx(expected, abs=1e-5)


def test_its_graph_is_read_and_what_is_written_again_is_read_by_it(
    theirs: Theirs, tmp_path
) -> None:
    graph = file.load(theirs.file)
    plain = json.loads(theirs.file.read_text())
    assert len(graph.edges) == len(plain["links"]) > 200
    n = len(theirs.latents)
    index = {name: i for i, name in enumerate([*theirs.latents, *theirs.errors])}
    matrix = theirs.answers["adjacency"]
    assert len(set(graph.edges)) == len(graph.edges)
    for edge in graph.edges[::7]:
        row = -1 if edge.receiver == "out" else index[edge.receiver]
        column = index.get(edge.sender)
        column = n + len(theirs.errors) + int(edge.sender[4:]) if column is None else column
        assert edge.linear == pytest.approx(float(matrix[row, column]), abs=1e-6)
    ours = tmp_path / "ours.json"
    file.save(graph, ours, layers=LAYERS, answer=plain["nodes"][-1]["feature"])
    again = json.loads(ours.read_text())
    ids = [{node["node_id"]: node["feature"] for node in each["nodes"]} for each in (plain, again)]
    assert ids[0] == ids[1]
    subprocess.run([PYTHON, PEER, "--read", ours], check=True)


def test_where_exact_and_linear_disagree_is_said(theirs: Theirs, capsys) -> None:
    """A table of it: attention and LayerNorm, which the linear convention freezes, are what the
    exact weights are computed with."""
    names = theirs.latents[::9]
    exactly = exact.weights(theirs.model, theirs.trace, METRIC, names, names)
    frozen = linear.weights(theirs.trace, METRIC, names, names)
    apart = (exactly - frozen).abs()[exactly != 0]
    with capsys.disabled():
        print(f"\nexact and linear weights: {apart.median():.2g} apart in the middle, ", end="")
        print(f"{apart.max():.2g} at most, of {exactly.abs().max():.2g}")
    assert apart.max() > 1e-3
