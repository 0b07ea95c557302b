"""Tokens that a latent promotes and reads, against formulas written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from interp import latents
from minigpt import parse
from minigpt.errors import AddressError
from tests.minigpt.test_latents import DICTIONARIES, MODEL

TOKENS = torch.randint(1, 50, (1, 6), generator=torch.Generator().manual_seed(1))
RUN = MODEL.run(TOKENS)


@pytest.mark.parametrize("whole", ["m0", "a1", "m1", "m2", "resid1", "resid2.mid"])
def test_it_promotes_what_its_row_of_the_decoder_adds_to_the_logits(whole):
    params, d = MODEL.params, MODEL.params.dictionaries[whole]
    row = d.decoder[3] / d.scale
    row = row @ params.blocks[1].w_out if whole == "m1" else row
    logits = ((row - row.mean()) * params.ln_w) @ params.unembed.T
    torch.testing.assert_close(latents.promotes(params, f"{whole}.l3"), logits - logits.mean())


@pytest.mark.parametrize("whole", ["m0", "m1", "m2", "resid1", "resid2.mid"])
def test_it_reads_what_the_gradient_says_of_the_frozen_run(whole):
    """The slope of the score along each embedding, LayerNorm's scale and the dictionary's own
    frozen."""
    params, d, at = MODEL.params, MODEL.params.dictionaries[whole], 4
    layer = parse(whole).site.layer
    x = RUN.stream(parse(f"m{layer}.in" if whole[0] == "m" else whole).site)[0, at].clone()
    x.requires_grad_()
    seen = x
    if whole[0] == "m":
        block, sigma = params.blocks[layer], RUN.scale(f"m{layer}.in@{at}")[0]
        seen = (x - x.mean()) / sigma * block.ln2_w + block.ln2_b
        if not d.reads.endswith(".in"):
            seen = F.gelu(seen @ block.w_in + block.b_in, approximate="tanh")
        if d.reads == d.explains:
            seen = seen @ block.w_out + block.b_out
    kept = seen.detach()
    sizes = {"layer_norm": kept.std() + 1e-5, "rms": kept.square().mean().sqrt()}
    seen = seen - seen.mean() if d.normalise in ("centre", "layer_norm") else seen
    seen = seen / sizes.get(d.normalise, 1.0) * d.scale
    (slope,) = torch.autograd.grad(seen @ d.encoder[:, 3], x)
    torch.testing.assert_close(latents.reads(RUN, f"{whole}.l3@{at}"), params.wte @ slope)
    torch.testing.assert_close(latents.direction(RUN, f"{whole}.l3@{at}"), slope)


def test_what_is_no_latent_is_refused():
    for text in ("m0", "m0.e", "m0.l"):
        with pytest.raises(AddressError, match="promotes"):
            latents.promotes(MODEL.params, text)
    for text in ("m0.l3", "m0@3", "m0.e@3"):
        with pytest.raises(AddressError, match="reads"):
            latents.reads(RUN, text)
    with pytest.raises(AddressError, match="tokens that"):
        latents.reads(RUN, "a1.l3@2")
    assert torch.equal(latents.activations(RUN, "m0.l3"), RUN.act("m0.l3")[0])
    assert len(DICTIONARIES) == 6
