"""What a latent stands for in tokens: those that its decoder promotes and suppresses, and those
that its encoder reads."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp import score
from interp.features import linear
from minigpt import Params, Trace, parse
from minigpt.errors import AddressError


def promotes(params: Params, latent: str) -> Float[Tensor, "vocab"]:
    """What a unit of the activation of "m3.l127" adds to each logit over the mean one, the scales
    of the final LayerNorm, and of a layer-normed dictionary, being 1. What later layers make of it
    is not in it. float64.

    AddressError where it is no latent, or the model has no dictionary of it.
    """
    site = parse(latent, params.config).site
    if not site.is_latent or site.part is None:
        raise AddressError(f"what '{latent}' promotes", "a latent", "'m3.l127'")
    known = params.dictionary(site)
    row = known.decoder[site.part].double() / known.scale
    if known.reads.endswith(".act"):
        row = row @ params.blocks[site.depth].w_out.double()
    logits = F.linear((row - row.mean()) * params.ln_w.double(), params.unembed.double())
    return logits - logits.mean()


def reads(trace: Trace, latent: str) -> Float[Tensor, "vocab"]:
    """What each token's embedding alone would add to the score of "m3.l127@5", if it stood in the
    stream there and all else stayed: LayerNorm's scale this run's, and for a dictionary of what an
    MLP writes its GELU's slope too. float64.

    AddressError for one of an attention layer, which reads other positions.
    """
    return trace.params.wte.double() @ direction(trace, latent)


def direction(trace: Trace, latent: str) -> Float[Tensor, "d_model"]:
    """What a unit of each direction of the stream there adds to the latent's score. float64."""
    address = parse(latent, trace.config)
    site, at = address.site, address.at
    if site.part is None or not site.is_latent or not isinstance(at, int):
        raise AddressError(f"what '{latent}' reads", "a latent at a position", "'m3.l127@5'")
    if site.whole.kind == "attn":
        raise AddressError(
            f"tokens that '{latent}' reads", "a latent of an MLP or of a stream point"
        )
    if site.whole.kind == "mlp":
        return linear.at_stream(trace, latent)
    x = trace.split(site).x[:1, at]
    return score.gradient(trace.params.dictionary(site), site, x)[0][0]


def activations(trace: Trace, latent: str) -> Float[Tensor, "pos"]:
    """A latent's activation at every position of the first prompt."""
    found: Tensor = torch.as_tensor(trace.act(str(parse(latent).site)))[0]
    return found
