"""What is added to what the pass computes, multiplied with it, or put there as a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.audit.dense import patched
from minigpt import Patch
from minigpt.errors import NoEffectWarning, PatchError
from tests.minigpt.pairs import CLEAN, CORRUPT, MODEL, pair

V = torch.linspace(-1, 1, 16)
LINES = {
    "a1.1 += v": ("a1.1", lambda x: x + V),
    "a1.1@-1 *= 0.5": ("a1.1@-1", lambda x: 0.5 * x),
    "a1 *= -2": ("a1", lambda x: -2 * x),
    "a1 += v": ("a1", lambda x: x + V),
    "m1 *= 0.5": ("m1", lambda x: 0.5 * x),
    "m1.n3 *= 3": ("m1.n3", lambda x: 3 * x),
    "m1.b += v": ("m1.b", lambda x: x + V),
    "resid1@3 += v": ("resid1@3", lambda x: x + V),
    "resid1.mid *= 2": ("resid1.mid", lambda x: 2 * x),
    "input *= 2": ("input", lambda x: 2 * x),
    "emb += v": ("emb", lambda x: x + V),
    "a0.1.z *= 2": ("a0.1.z", lambda x: 2 * x),
    "a0.1.pattern@4 *= 0.25": ("a0.1.pattern@4", lambda x: 0.25 * x),
    "a0.1.pattern += 0.5": ("a0.1.pattern", lambda x: x + 0.5),
    "out.b *= 2": ("out.b", lambda x: 2 * x),
    "a1.1 += other": ("a1.1", lambda x: x + CORRUPT["a1.1"]),
    "m2.n7 = 4.5": ("m2.n7", lambda x: torch.full_like(x[..., :1], 4.5) * row(2, 7)),
    "m2.n7@-1 += 4.5": ("m2.n7@-1", lambda x: x + 4.5 * row(2, 7)),
    "m2 = 0.125": ("m2", lambda x: torch.full_like(x, 0.125)),
}


def row(layer: int, neuron: int) -> torch.Tensor:
    return MODEL.params.blocks[layer].w_out[neuron]


def parsed(text: str) -> Patch:
    return Patch.parse(text, {"v": V, "other": CORRUPT})


@pytest.mark.parametrize("text", LINES)
def test_what_stands_there_is_what_is_computed_and_the_value(text):
    address, after = LINES[text]
    run = MODEL.rerun(CLEAN, parsed(text))
    torch.testing.assert_close(run[address], after(CLEAN[address]), atol=1e-6, rtol=1e-5)
    assert str(parsed(text)) == str(Patch.parse(str(parsed(text)), {"v": V, "other": CORRUPT}))


@pytest.mark.parametrize("text", [*LINES, "a0.0>m1.in += v", "a0.0>a2.1.q *= -1", "m1.in += v"])
@pytest.mark.parametrize("lengths", [(14,), (14, 9, 5)])
def test_a_rerun_has_the_bits_of_the_pass_written_out(text, lengths):
    clean, corrupt = pair(MODEL, lengths)
    patch = Patch.parse(text, {"v": V, "other": corrupt})
    dense, run = patched(MODEL, clean, patch), MODEL.rerun(clean, patch)
    inside = clean.batch.mask
    for name in ("resid1.mid", "resid2", "resid3"):
        assert torch.equal(run[name][inside], dense[name][inside])
    assert not torch.equal(run.logits[inside], clean.logits[inside])


def test_what_is_added_is_added_after_what_other_edits_change():
    first = MODEL.rerun(CLEAN, parsed("a0.0 = other; resid2 += v"))
    torch.testing.assert_close(
        first["resid2"], MODEL.rerun(CLEAN, parsed("a0.0 = other"))["resid2"] + V
    )
    edge = MODEL.rerun(CLEAN, parsed("m0 = 0; a1.0>m2.in *= 0"))
    other = MODEL.rerun(CLEAN, parsed("m0 = 0; a1.0>m2.in = 0"))
    torch.testing.assert_close(edge["resid3"], other["resid3"], atol=1e-6, rtol=1e-5)


def test_a_held_node_that_is_added_to_is_what_the_pass_computes_and_the_vector():
    held = MODEL.rerun(CLEAN, parsed("hold heads = other; a2.1 += v; a2.0 *= 2"))
    free = MODEL.rerun(CLEAN, parsed("hold heads but a2.1 a2.0 = other"))
    torch.testing.assert_close(held["a2.1"], free["a2.1"] + V, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(held["a2.0"], 2 * free["a2.0"], atol=1e-6, rtol=1e-5)


def test_once_is_itself_and_zero_is_none():
    with pytest.warns(NoEffectWarning):
        assert torch.equal(MODEL.rerun(CLEAN, parsed("a1.1 *= 1")).logits, CLEAN.logits)
    zero = MODEL.rerun(CLEAN, parsed("a1.1 *= 0"))
    assert torch.equal(zero.logits, MODEL.rerun(CLEAN, parsed("a1.1 = 0")).logits)


@pytest.mark.parametrize(
    "value", [7, 7.0, np.float32(7), np.int64(7), np.array(7.0), torch.tensor(7.0)]
)
def test_numbers_and_arrays_are_values(value):
    run = MODEL.rerun(CLEAN, Patch.write("m1", value))
    assert bool((run["m1"] == 7).all())
    array = np.ones((14, 16), dtype=np.float32)
    assert bool((MODEL.rerun(CLEAN, Patch.write("a0.1", array))["a0.1"] == 1).all())


def test_a_number_is_itself_in_the_text():
    patch = Patch.write("m1.n3@-1", 0.1) | Patch.add("a0.0", -2e-7) | Patch.scale("m2", 3)
    assert str(patch) == "a0.0 += -2e-07; m1.n3@-1 = 0.1; m2 *= 3"
    assert Patch.parse(str(patch), {}) == patch
    assert hash(Patch.parse(str(patch), {})) == hash(patch)
    assert patch.sources == {}
    assert Patch.write("m1", 0.1) != Patch.write("m1", 0.2)
    assert Patch.add("m1", 0.1) != Patch.write("m1", 0.1)


def test_a_node_that_is_a_vector_already_cannot_be_scaled():
    written = MODEL.rerun(CLEAN, Patch.write("a1.1", V))
    for text in ("a1.1 *= 2", "a1 *= 2"):
        with pytest.raises(PatchError, match=r"has a vector in the place of a1\.1"):
            MODEL.rerun(written, parsed(text))
    torch.testing.assert_close(MODEL.rerun(written, parsed("a1.1 += v"))["a1.1"][0, 3], 2 * V)


def test_a_sweep_of_factors_is_each_of_them_alone():
    patches = [Patch.scale("a1.1", factor) for factor in (0.0, 0.5, 2.0)]
    patches += [Patch.add("a0.0>m1.in", V * factor) for factor in (1.0, 2.0)]
    swept = MODEL.rerun(CLEAN, patches, "resid3").values
    for values, patch in zip(swept, patches, strict=True):
        assert torch.equal(values, MODEL.rerun(CLEAN, patch)["resid3"])
