"""What rounding may do at most to the numbers of a run, before anything is computed: to a write, to
the stream that writes sum to, to what a LayerNorm makes of it.

A write is a product, the stream after it an addition (interp.numerics.bounds.product and added,
each with its source).
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from interp.numerics import bounds
from minigpt import Site, Trace, ops

# Takes some rows out of [batch, pos, ...].
Pick = Callable[[Tensor], Tensor]


def write(trace: Trace, layer: Site, pick: Pick) -> Float[Tensor, "*rows d_model"]:
    """Of what an attention layer or an MLP writes. float64."""
    block, cells = trace.params.blocks[layer.depth], trace.cells[layer.depth]
    if layer.kind == "attn":
        return bounds.product(pick(cells.z), block.w_o, cells.z.dtype, block.b_o)
    return bounds.product(pick(cells.act), block.w_out, cells.act.dtype, block.b_out)


def stream(trace: Trace, point: Site, pick: Pick) -> Float[Tensor, "*rows d_model"]:
    """Of the stream at a point, or as a port reads it, against the sum of all writes before it:
    every product, every addition. float64."""
    dtype = trace.params.wte.dtype
    error = bounds.added(pick(trace.cells[0].resid), dtype)
    for layer, cells in enumerate(trace.cells):
        for site, after in ((Site("attn", layer), cells.mid), (Site("mlp", layer), cells.out)):
            if site.stage < point.stage:
                error = error + write(trace, site, pick) + bounds.added(pick(after), dtype)
    return error


def normed(
    x: Float[Tensor, "*rows d_model"],
    w: Float[Tensor, "d_model"],
    b: Float[Tensor, "d_model"],
    eps: float,
) -> Float[Tensor, "*rows d_model"]:
    """Of LayerNorm: gamma(d + 8) in its mean, its centred values and its scale, to first order;
    then its weight and bias. The arithmetic is of the type of w. float64."""
    x, small = x.double(), bounds.gamma(x.shape[-1] + 8, w.dtype)
    centred = (x - x.mean(-1, keepdim=True)).abs()
    sizes = x.abs().mean(-1, keepdim=True) + 2 * centred
    scale = ops.scale(x, eps)[..., None]
    return small * sizes / scale * w.double().abs() + 2 * bounds.added(b, w.dtype)
