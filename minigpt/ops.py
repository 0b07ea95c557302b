"""The arithmetic of GPT-2, each step in the order in which Hugging Face's model takes it, so that the bits agree.

Rows: matrix products on a CPU give a row the same bits whatever stands beside it, provided that the number of rows is a
multiple of 4, or in float32 at least 12 (measured; for other numbers other kernels run). Hence GRAIN, MIN_ROWS and `settled`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

GRAIN = 4
MIN_ROWS = 12
# torch computes a batch of products of fewer operations each by a loop of its own, with other bits than its library's.
SMALL = 400
# Numbers that an elementwise operation takes at a time: they fit into a core's cache.
BLOCK = 2**18


def padded(n: int) -> int:
    """The next number of rows from n at which products have settled bits: a multiple of 4, at least 12."""
    return max(MIN_ROWS, -(-n // GRAIN) * GRAIN)


def linear(x: Float[Tensor, "... a"], w: Float[Tensor, "a b"], b: Float[Tensor, "b"]) -> Float[Tensor, "... b"]:
    """x w + b, as one fused product."""
    return torch.addmm(b, x.reshape(-1, x.shape[-1]), w).view(*x.shape[:-1], w.shape[1])


def settled(op: Callable[[Tensor], Tensor], x: Float[Tensor, "... a"]) -> Float[Tensor, "... b"]:
    """op of x's rows, padded to a settled number: a row's bits do not depend on what else is asked for in the same call."""
    flat = x.reshape(-1, x.shape[-1])
    more = padded(len(flat)) - len(flat)
    y = op(F.pad(flat, (0, 0, 0, more)) if more else flat)
    return y[: len(flat)].view(*x.shape[:-1], y.shape[-1])


def layer_norm(x: Float[Tensor, "... d"], w: Float[Tensor, "d"], b: Float[Tensor, "d"], eps: float) -> Float[Tensor, "... d"]:
    """Centre, divide by the standard deviation, then scale and shift."""
    return F.layer_norm(x, w.shape, w, b, eps)


def scale(x: Float[Tensor, "... d"], eps: float) -> Float[Tensor, "..."]:
    """LayerNorm's standard deviation, as LayerNorm itself computes it."""
    return torch.native_layer_norm(x, x.shape[-1:], None, None, eps)[2].squeeze(-1).reciprocal()


def gelu(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """GPT-2's tanh form, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in place: x, contiguous, is given up.

    Block by block, so that its passes over the numbers find them in the cache.
    """
    flat = x.view(-1)
    for start in range(0, len(flat), BLOCK):
        part = flat[start : start + BLOCK]
        t = torch.pow(part, 3.0).mul_(0.044715).add_(part).mul_(math.sqrt(2.0 / math.pi)).tanh_().add_(1.0)
        part.mul_(0.5).mul_(t)
    return x


def split_heads(x: Float[Tensor, "batch pos d_model"], n_head: int) -> Float[Tensor, "batch head pos d_head"]:
    """The heads' own parts of the width, side by side."""
    return x.view(*x.shape[:2], n_head, -1).transpose(1, 2)


def merge_heads(z: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch pos d_model"]:
    """The inverse of split_heads."""
    return z.transpose(1, 2).flatten(2)


def pattern(q: Float[Tensor, "batch head pos d_head"], k: Float[Tensor, "batch head key d_head"]) -> Float[Tensor, "batch head pos key"]:
    """Causal attention weights; row t of the queries sees keys 0 to t."""
    scores = torch.matmul(q, k.contiguous().transpose(-1, -2)).mul_(q.shape[-1] ** -0.5)
    hidden = torch.full(scores.shape[-2:], torch.finfo(scores.dtype).min, dtype=scores.dtype, device=scores.device)
    return torch.softmax(scores.add_(hidden.triu_(1)), dim=-1)


def eager(q: Float[Tensor, "batch head pos d_head"], k: Float[Tensor, "batch head key d_head"],
          v: Float[Tensor, "batch head key d_head"]) -> Float[Tensor, "batch head pos d_head"]:
    """Attention written out: the weighted values z."""
    return torch.matmul(pattern(q, k), v)


def sdpa(q: Float[Tensor, "batch head pos d_head"], k: Float[Tensor, "batch head key d_head"],
         v: Float[Tensor, "batch head key d_head"]) -> Float[Tensor, "batch head pos d_head"]:
    """The same by torch's fused kernel: other bits, less memory; its pattern is never formed."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, scale=q.shape[-1] ** -0.5)
