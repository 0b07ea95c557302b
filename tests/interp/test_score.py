"""A latent's score is the sum of what was written before; and what every kind of patching does to
it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp import patching, score
from interp.metrics import MetricError
from interp.tasks import Prompts
from minigpt import Patch
from minigpt.errors import AddressError
from tests.minigpt.test_latents import MODEL, WHOLES

CLEAN = torch.randint(1, 50, (3, 6), generator=torch.Generator().manual_seed(1))
CORRUPT = torch.randint(1, 50, (3, 6), generator=torch.Generator().manual_seed(2))
PAIRS = Prompts(CLEAN, CORRUPT, torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
RUN, OTHER = MODEL.run(PAIRS), MODEL.run(PAIRS.corrupted)
V = torch.linspace(-1, 1, 16, dtype=torch.float64)
GIVEN = {"o": OTHER, "v": V}
EDITS = (
    "",
    "emb@1 = v; a0.1@2 = v; resid1 += v; m0.l3 = 2",
    "m2.in@2 = o; a1.0>m2.in@5 = v; a1.l.b *= 3; resid2.mid += v",
    "m0.n3 = 2; m0.b = v; m1.n2@3 *= 2; m1.n4 = 1; a1.1@2 = v; a1.b = 0",
    "m0 += v; a1 = v; resid1.l3 = 2; resid1.e = o",
)


def by_hand(trace, name: str, at: int) -> np.ndarray:
    """The score as the files' formulas have it, in NumPy."""
    whole, _, number = name.rpartition(".l")
    d = MODEL.params.dictionaries[whole]
    x = trace.split(score._latent(MODEL.params, name).site).x[:, at].double().numpy()
    if d.normalise == "rms":
        x = x / np.linalg.norm(x, axis=-1, keepdims=True) * x.shape[-1] ** 0.5
    if d.normalise in ("centre", "layer_norm"):
        x = x - x.mean(-1, keepdims=True)
    if d.normalise == "layer_norm":
        x = x / (x.std(-1, ddof=1, keepdims=True) + 1e-5)
    x = x * d.scale - (d.decoder_bias.numpy() if d.centred else 0)
    return x @ d.encoder[:, int(number)].numpy() + float(d.encoder_bias[int(number)])


@pytest.mark.parametrize("text", EDITS)
@pytest.mark.parametrize("whole", WHOLES)
def test_the_rows_sum_to_the_score_and_not_without_one_of_them(whole, text):
    trace = MODEL.rerun(RUN, Patch.parse(text, GIVEN)) if text else RUN
    for number, at in ((3, 5), (20, 2)):
        name = f"{whole}.l{number}"
        found = score.direct(trace, f"{name}@{at}")
        expected = torch.from_numpy(by_hand(trace, name, at))
        torch.testing.assert_close(found.base, expected)
        torch.testing.assert_close(found.per_prompt.sum(0), expected)
        assert len(set(found.addresses)) == len(found.addresses)
        assert found.addresses[-1] == name
        largest = int(found.per_prompt.abs().sum(1).argmax())
        less = found.per_prompt.sum(0) - found.per_prompt[largest]
        assert not torch.allclose(less, expected)


def test_what_the_rows_are():
    found = {whole: score.direct(RUN, f"{whole}.l3").addresses for whole in WHOLES}
    assert found["m0"][:2] == ("m0.n0", "m0.n1")
    assert found["m0"][-2:] == ("m0.b", "m0.l3")
    assert found["m1"][-2:] == ("m1.n7", "m1.l3"), "of activations a bias is no part"
    assert found["a1"] == ("a1.0", "a1.1", "a1.b", "a1.l3")
    assert found["resid1"] == ("emb", "pos", "a0.0", "a0.1", "a0.b", "m0", "resid1.l3")
    assert found["m2"][-3:] == ("a2.1", "a2.b", "m2.l3")
    assert found["resid2.mid"] == (*found["m2"][:-1], "resid2.mid.l3")


@pytest.mark.parametrize("whole", [whole for whole in WHOLES if whole != "a1"])
def test_as_a_metric_it_is_what_one_rerun_after_another_says(whole):
    asked = score.metric(MODEL, f"{whole}.l3@4")
    before = asked(RUN)
    torch.testing.assert_close(before, score.direct(RUN, f"{whole}.l3@4").base)
    over = ["a0.1", "m0", "a0", "emb@1", "resid1@2"]
    over = over if whole not in ("m0", "resid1") else ["a0.1", "a0", "emb@1", "emb"]
    found = patching.nodes(MODEL, PAIRS, asked, over=over, direction="noising")
    for name, values in zip(found.addresses, found.per_prompt, strict=True):
        alone = MODEL.rerun(RUN, Patch.write(name, OTHER))
        torch.testing.assert_close(values, asked(alone) - before)
    if whole[0] == "m":
        edges = [f"a0.0>{whole}.in", f"emb>{whole}.in@4"]
        found = patching.edges(MODEL, PAIRS, asked, edges, direction="noising")
        for name, values in zip(found.addresses, found.per_prompt, strict=True):
            alone = MODEL.rerun(RUN, Patch.read(name, OTHER))
            assert values.any()
            torch.testing.assert_close(values, asked(alone) - before)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_what_an_mlp_reads_is_swept_with_the_bits_of_each_patch_alone(layer):
    texts = ("emb@1 = v", f"a0.0>m{layer}.in = o", f"m{layer}.in@3 = o", "a0 = 0; m1.n3 = 1")
    patches = [Patch.parse(text, GIVEN) for text in texts]
    for want in (f"m{layer}.in@4", f"m{layer}.in"):
        swept = MODEL.rerun(RUN, patches, [want, want]).values
        for patch, values in zip(patches, swept, strict=True):
            alone = MODEL.rerun(RUN, patch)[want]
            assert torch.equal(values[0], alone)
            assert torch.equal(values[1], alone)


def test_what_a_sweep_cannot_tell_is_refused():
    for text in ("m0.n3 = 0", "m0.l5 = 0", "m0 = 0", "m0.b = 0"):
        asked = score.metric(MODEL, "m0.l3")
        with pytest.raises(MetricError, match=r"before m0\n.*one patch at a time"):
            asked.after(MODEL, RUN, [Patch.parse(text, {})])
        asked(MODEL.rerun(RUN, text))
    with pytest.raises(MetricError, match="before resid1"):
        score.metric(MODEL, "resid1.l3").after(MODEL, RUN, [Patch.zero("resid1.l5")])
    with pytest.raises(MetricError, match=r"score\.direct"):
        score.metric(MODEL, "a1.l3")
    for text, said in (("m0.l", "a latent"), ("m0", "a latent"), ("a0.l3", "no dictionary")):
        for ask in (lambda name: score.metric(MODEL, name), lambda name: score.direct(RUN, name)):
            with pytest.raises(AddressError, match=said):
                ask(text)
