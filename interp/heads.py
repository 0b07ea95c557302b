"""What a head does, whatever the prompt: scores in [0, 1] for every head, [layer, head]."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from minigpt import GPT2, Config, Tokenizer, Trace, ops


def repeated(config: Config, n: int = 25, batch: int = 32, seed: int = 0, among: Int[Tensor, "ids"] | None = None) -> Int[Tensor, "batch pos"]:
    """n random tokens, then the same once more.

    Drawn from `among`; without it from the tokens that are more than one byte (ids from 256 up), the last (end of text) excluded.
    """
    ids = torch.arange(256 if config.n_vocab > 512 else 0, config.n_vocab - 1) if among is None else among
    half = ids[torch.randint(len(ids), (batch, n), generator=torch.Generator().manual_seed(seed))]
    return torch.cat([half, half], 1)


def words(tokenizer: Tokenizer) -> Int[Tensor, "ids"]:
    """The tokens that begin with a space: words as they stand within a sentence, and numbers."""
    return torch.tensor([i for i in range(256, tokenizer.n_vocab - 1) if tokenizer.text(i).startswith(" ")])


def induction(model: GPT2, n: int = 25, batch: int = 32, seed: int = 0, among: Int[Tensor, "ids"] | None = None) -> Float[Tensor, "layer head"]:
    """Mean attention, in the second half of repeated random tokens, to the token after the same token's first time.

    Wang et al. 2022, App. H; Olsson et al. 2022.
    """
    return _offset(model, repeated(model.config, n, batch, seed, among), ahead=1)


def _offset(model: GPT2, tokens: Int[Tensor, "batch pos"], ahead: int) -> Float[Tensor, "layer head"]:
    """Mean attention from each place of the second half to the place `ahead` of its twin in the first."""
    trace, n = model.run(tokens), tokens.shape[1] // 2
    places = torch.arange(n, 2 * n)
    return torch.stack([trace[f"a{layer}.pattern"][:, :, places, places - n + ahead].mean((0, 2)) for layer in range(model.config.n_layer)])


def copying(trace: Trace, at: int | str, top: int = 5, sign: int = 1) -> Float[Tensor, "layer head"]:
    """How often a head that looks at position `at` would put that very token among its `top` most promoted.

    The stream after layer 0 at that position, through the head's own LayerNorm, W_V and W_O, the final LayerNorm and the
    unembedding (Wang et al. 2022, section 3.1); sign=-1 asks whether it is among the most suppressed.
    """
    x, token = trace[f"resid1@{at}"], trace.tokens.gather(1, trace.batch.index(at)[:, None])
    found = [_promoted(trace, layer, x) for layer in range(trace.config.n_layer)]
    ranks = [(sign * logits > sign * logits.gather(-1, token[:, None].expand(-1, logits.shape[1], 1))).sum(-1) for logits in found]
    return torch.stack([(rank < top).double().mean(0) for rank in ranks])


def _promoted(trace: Trace, layer: int, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch head vocab"]:
    """The logits of each head's write, were it all that the final LayerNorm reads and x all that the head looks at."""
    block, params, d = trace.params.blocks[layer], trace.params, trace.config.d_model
    seen = ops.layer_norm(x, block.ln1_w, block.ln1_b, trace.config.eps)
    values = (seen @ block.w_qkv[:, 2 * d:] + block.b_qkv[2 * d:]).unflatten(-1, (trace.config.n_head, -1))
    writes = torch.einsum("bhk,hkd->bhd", values, block.w_o.unflatten(0, (trace.config.n_head, -1)))
    return F.linear(ops.layer_norm(writes, params.ln_w, params.ln_b, trace.config.eps), params.unembed)
