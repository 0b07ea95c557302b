"""The writes before a port and what edits put in sum to what the port reads, in any patched run."""

from __future__ import annotations

import pytest
import torch

from interp import parts
from interp.parts import Parts
from minigpt import Patch, Site, parse
from minigpt.model import GPT2
from tests.conftest import some, tiny
from tests.minigpt.pairs import runs

MODEL: GPT2 = tiny(3, 2, 16, 32, dtype=torch.float64)
CLEAN, CORRUPT = runs(MODEL, 0, 2, 6)
ROWS = (torch.tensor([0, 0, 1]), torch.tensor([5, 2, 3]))
PORTS = ("a0.1.q", "m0.in", "a1.0.v", "m1.in", "a2.1.k", "out")
# Vectors where nodes' own writes were: in a head, a whole of listed parts, a neuron, a bias, the
# stream, and where a port alone sees them.
PATCHES = (
    "",
    "a0.1 = v",
    "a0 = v; m1 = o",
    "m0.n3 = v; m1.n2@-1 = v; m0.b = v",
    "m0 = v; a1.b = v",
    "input = v",
    "emb@2 = v; pos = v",
    "resid1 = v; resid1.mid@3 = o; m1.in = o; out = o; a2.1.k = v",
    "a0.0>m1.in = o; emb>out = 0; a1.0.v@3 = o; a2.0 = o; a1.pattern = o",
)


def toward(seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(3, 16, generator=draws, dtype=torch.float64)


def apart(text: str, port: Site, neurons=()) -> float:
    """How far the parts are from the number, at most."""
    values = {"v": torch.linspace(-1, 1, 16, dtype=torch.float64), "o": CORRUPT}
    trace = MODEL.rerun(CLEAN, Patch.parse(text, values))
    stream = Parts(trace, port, lambda x: x[ROWS], toward())
    written = dict(stream.nodes(neurons))
    edits = [values for _, values in stream.edits(written)]
    total = sum([*written.values(), *edits, stream.dot(parts.granted(trace, port))])
    return float((total - stream.dot(trace.stream(port))).abs().max())


@pytest.mark.parametrize("neurons", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("text", some(PATCHES, 3))
def test_they_sum_to_what_the_port_reads(text, neurons):
    assert max(apart(text, parse(port).site, neurons) for port in PORTS) < 1e-13


@pytest.mark.parametrize(("text", "gone"), [("a0 = v", "edits"), ("m1.in = v", "granted")])
def test_twin_without_what_edits_put_in_they_do_not(text, gone, monkeypatch):
    owner = Parts if gone == "edits" else parts
    nothing = {"edits": lambda *_: (), "granted": lambda *_: torch.zeros(2, 6, 16)}
    monkeypatch.setattr(owner, gone, nothing[gone])
    assert max(apart(text, parse(port).site) for port in PORTS) > 1e-3


@pytest.mark.parametrize("text", PATCHES)
def test_each_is_the_write_that_the_run_has(text):
    values = {"v": torch.linspace(-1, 1, 16, dtype=torch.float64), "o": CORRUPT}
    trace = MODEL.rerun(CLEAN, Patch.parse(text, values))
    stream = Parts(trace, Site("out"), lambda x: x[ROWS], toward())
    for site, value in stream.nodes([1]):
        assert torch.allclose(value, stream.dot(trace.write(site)), atol=1e-13), site
