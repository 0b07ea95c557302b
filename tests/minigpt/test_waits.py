"""A host does not wait for a card but where values decide what is to be computed: once a stage that
edits act on, however many patches there are. The card is pretended, on a CPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks.accelerator.pretend import Mixed, pretended
from minigpt import Patch, device
from minigpt.address import edges, heads
from tests.conftest import some, tiny
from tests.minigpt.pairs import pair, tokens

MODEL = tiny(3, 4, 32, 32)
PROMPTS = tokens(0, 3, 14), tokens(1, 3, 14)
# Patches, and how often the host may wait for one.
EDITS = {
    "": 0,
    "a1.1 = 0": 1,
    "a1.1 = corrupt": 1,
    "m1 = corrupt": 1,
    "m1.n3@4 = corrupt; m1.n5 = 0": 1,
    "a0.0>m1.in = corrupt": 1,
    "a0.0>m1.in = corrupt; a0.1>m1.in = corrupt; a0.2>m2.in = corrupt": 1,
    "a0.0.pattern = corrupt": 1,
    "a1.1@5<2 = 0": 1,
    "a1.1@5<2 = corrupt; a1.1@6<2 = corrupt; a1.0@5<3 *= 2": 1,
    "a1.1@5<2 += corrupt; a1.1@6<2 = corrupt": 2,
    "a1.1.z = corrupt": 1,
    "a1.1.q = corrupt": 1,
    "resid1@-1 = corrupt": 1,
    "input = corrupt": 1,
    "a1.b = 0": 1,
    "out.b@-1 = 0": 1,
    "hold heads = corrupt": 3,
    "hold heads but a1.1@3 = mean(corrupt)": 3,
    "a1.2.z = corrupt; m1.n3 = 0; a0.1>a2.1.k = corrupt; out.b@-1 = 0": 4,
}


def waited(text: str) -> tuple[int, torch.Tensor]:
    """How often the host waited for a rerun, and its logits."""
    with pretended(MODEL) as card:
        clean, corrupt = map(MODEL.run, PROMPTS)
        assert not card.lines
        logits = MODEL.rerun(clean, Patch.parse(text, {"corrupt": corrupt})).logits
        assert card.holds(logits)
    return card.lines.total(), logits


@pytest.mark.parametrize("text", some(EDITS))
def test_a_rerun_waits_once_a_stage_that_is_edited(text):
    waits, logits = waited(text)
    assert waits <= EDITS[text]
    clean, corrupt = map(MODEL.run, PROMPTS)
    assert torch.equal(logits, MODEL.rerun(clean, Patch.parse(text, {"corrupt": corrupt})).logits)


@pytest.mark.parametrize("wanted", ["out@-1", "resid2"])
def test_a_sweep_waits_as_often_for_many_patches_as_for_one(wanted):
    def waits(addresses: list[object]) -> int:
        with pretended(MODEL) as card:
            clean, corrupt = map(MODEL.run, PROMPTS)
            patches = [Patch.write(str(address), corrupt) for address in addresses]
            assert card.holds(MODEL.rerun(clean, patches, wanted).values)
        return card.lines.total()

    layer = list(heads(MODEL.config, 1))
    assert waits(layer[:1]) == waits(layer) == 1
    assert waits(list(heads(MODEL.config))) == MODEL.config.n_layer


def test_all_edges_wait_once_a_kind_of_sender():
    with pretended(MODEL) as card:
        clean, corrupt = map(MODEL.run, (x[:1] for x in PROMPTS))
        patches = [Patch.read(str(edge), corrupt) for edge in edges(MODEL.config)]
        values = MODEL.rerun(clean, patches, "out@-1").values
    chunks = -(-len(patches) * 14 // device.CPU.sweep_rows)
    kinds = 3 + 2 * MODEL.config.n_layer
    assert len(values) == len(patches)
    assert card.lines.total() <= kinds * (chunks + 1)


@pytest.mark.parametrize("address", ["out", "resid2.mid@3", "a1.1.pattern", "a1@-1", "m1.n3"])
def test_reading_a_trace_waits_for_nothing(address):
    with pretended(MODEL) as card:
        trace = MODEL.run(PROMPTS[0])
        assert card.holds(trace[address])
        assert card.holds(trace.logits_at(-1))
    assert not card.lines


def test_prompts_of_different_lengths_wait_for_nothing_either():
    batch = pair(MODEL, (14, 9, 14, 5))[0].batch
    with pretended(MODEL) as card:
        trace = MODEL.run(batch)
        x = trace["a1.pattern"]
    assert not card.lines
    assert torch.equal(x.nan_to_num(-1), MODEL.run(batch)["a1.pattern"].nan_to_num(-1))


@pytest.mark.parametrize("module", ["attention", "rows", "edits", "rerun"])
def test_row_numbers_that_are_not_sent_are_refused(monkeypatch, module):
    """The twin: a card takes no row numbers of the host's, or waits for them."""
    with pretended(MODEL):
        clean, corrupt = map(MODEL.run, PROMPTS)
        monkeypatch.setattr(f"minigpt.recompute.{module}.sent", lambda x, to: x)
        with pytest.raises(Mixed):
            MODEL.rerun(clean, Patch.parse("a1.1 = corrupt", {"corrupt": corrupt}))


def test_masks_that_are_not_sent_are_refused(monkeypatch):
    """The twin: a card takes no masks of the host's."""
    batch = pair(MODEL, (14, 9))[0].batch
    with pretended(MODEL):
        monkeypatch.setattr("minigpt.batch.sent", lambda x, to: x)
        with pytest.raises(Mixed):
            _ = MODEL.run(batch)["resid1"]
