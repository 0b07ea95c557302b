"""The arithmetic of GPT-2, each step in the order in which Hugging Face's model takes it, so that
the bits agree.

How a matrix product on a CPU sums a row may depend on how many rows there are, and on how many
threads work. `settled` cuts a product as this processor needs it (minigpt.settle), so that a row's
bits depend on neither.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from minigpt import settle
from minigpt.device import limits
from minigpt.settle import Cut, product


def linear(
    x: Float[Tensor, "... a"], w: Float[Tensor, "a b"], b: Float[Tensor, "b"]
) -> Float[Tensor, "... b"]:
    """x w + b, as one fused product."""
    return torch.addmm(b, x.reshape(-1, x.shape[-1]), w).view(*x.shape[:-1], w.shape[1])


def settled(
    x: Float[Tensor, "... a"], w: Float[Tensor, "a b"], b: Float[Tensor, "b"] | None = None
) -> Float[Tensor, "... b"]:
    """The same in settled sizes: a row's bits do not depend on what else is asked for in the same
    call, nor on the number of threads."""
    flat, cut = x.reshape(-1, x.shape[-1]), cut_of(x)
    if cut.wide:
        return settled(x.float(), w.float(), None if b is None else b.float()).to(x.dtype)
    y, whole = flat.new_empty(len(flat), w.shape[1]), cut.whole(len(flat))
    for some in cut.blocks(whole, len(w)):
        product(flat[some], w, b, cut, y[some])
    if rest := len(flat) - whole:
        few = F.pad(flat[whole:], (0, 0, 0, cut.padded(rest) - rest))
        y[whole:] = product(few, w, b, cut)[:rest]
    return y.view(*x.shape[:-1], w.shape[1])


def cut_of(x: Tensor) -> Cut:
    """How products with these rows are cut, by device and type."""
    return limits(x.device).cut or settle.cut(x.dtype)


def logits(
    x: Float[Tensor, "... d_model"], unembed: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "... vocab"]:
    """The unembedding, settled."""
    return settled(x, unembed.T)


def layer_norm(
    x: Float[Tensor, "... d"], w: Float[Tensor, "d"], b: Float[Tensor, "d"], eps: float
) -> Float[Tensor, "... d"]:
    """Centre, divide by the standard deviation, then scale and shift."""
    return F.layer_norm(x, w.shape, w, b, eps)


def scale(x: Float[Tensor, "... d"], eps: float) -> Float[Tensor, "..."]:
    """LayerNorm's standard deviation, as LayerNorm itself computes it."""
    return torch.native_layer_norm(x, x.shape[-1:], None, None, eps)[2].squeeze(-1).reciprocal()


def gelu(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """GPT-2's tanh form, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in place: x, contiguous,
    is given up.

    Block by block, so that its passes over the numbers find them in the cache.
    """
    flat, size = x.view(-1), limits(x.device).elements
    for start in range(0, len(flat), size):
        _gelu(flat[start : start + size])
    return x


def _gelu(x: Tensor) -> None:
    cubic = torch.pow(x, 3.0).mul_(0.044715).add_(x)
    t = cubic.mul_(math.sqrt(2.0 / math.pi)).tanh_().add_(1.0)
    x.mul_(0.5).mul_(t)


def split_heads(
    x: Float[Tensor, "batch pos d_model"], n_head: int
) -> Float[Tensor, "batch head pos d_head"]:
    """The heads' own parts of the width, side by side."""
    return x.view(*x.shape[:2], n_head, -1).transpose(1, 2)


def merge_heads(z: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch pos d_model"]:
    """The inverse of split_heads."""
    return z.transpose(1, 2).flatten(2)


def pattern(
    q: Float[Tensor, "batch head pos d_head"], k: Float[Tensor, "batch head key d_head"]
) -> Float[Tensor, "batch head pos key"]:
    """Causal attention weights; row t of the queries sees keys 0 to t."""
    scores = torch.matmul(q, k.contiguous().transpose(-1, -2)).mul_(q.shape[-1] ** -0.5)
    hidden = scores.new_full(scores.shape[-2:], torch.finfo(scores.dtype).min)
    return torch.softmax(scores.add_(hidden.triu_(1)), dim=-1)


def eager(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
) -> Float[Tensor, "batch head pos d_head"]:
    """Attention written out: the weighted values z."""
    return torch.matmul(pattern(q, k), v)


def sdpa(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head key d_head"],
    v: Float[Tensor, "batch head key d_head"],
) -> Float[Tensor, "batch head pos d_head"]:
    """The same by torch's fused kernel: other bits, less memory; its pattern is never formed."""
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=q.shape[2] > 1, scale=q.shape[-1] ** -0.5
    )
