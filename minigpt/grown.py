"""A run of one prompt, one token longer: only the new position is computed, what went before is
what it was, edits and all."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.address import Site
from minigpt.batch import Batch
from minigpt.params import Block
from minigpt.trace import Cells, Override, Trace


@torch.inference_mode()
def grown(trace: Trace, token: int) -> Trace:
    """The run of the same prompt and this token. The new position is computed without edits, on
    keys and values as the run has them."""
    place, params = trace.tokens.shape[1], trace.params
    x = (params.wte[token] + params.wpe[place])[None, None]
    cells = []
    for layer, block in enumerate(params.blocks):
        new = _row(trace, layer, block, x)
        cells.append(
            Cells(**{name: _and(old, new[name]) for name, old in vars(trace.cells[layer]).items()})
        )
        x = new["out"]
    tokens = _and(trace.tokens, trace.tokens.new_tensor([[token]]))
    batch = Batch(tokens, trace.batch.lengths + 1, trace.batch.positions)
    overrides = {site: _unwritten(site, old) for site, old in trace.overrides.items()}
    bare = Trace(params, batch, tuple(cells))
    ports = {site: _and(x, bare.stream(site)[:, -1:]) for site, x in trace.ports.items()}
    return Trace(params, batch, tuple(cells), trace.receipt, overrides, ports)


def _row(
    trace: Trace, layer: int, block: Block, x: Float[Tensor, "1 1 d_model"]
) -> dict[str, Tensor]:
    """One layer's cells at the new position."""
    c = trace.config
    qkv = ops.settled(ops.layer_norm(x, block.ln1_w, block.ln1_b, c.eps), block.w_qkv, block.b_qkv)
    q, k, v = (ops.split_heads(third, c.n_head) for third in qkv.chunk(3, -1))
    keys, values = (
        torch.cat([trace.heads(layer, which), new], 2) for which, new in (("k", k), ("v", v))
    )
    weights = torch.softmax(q @ keys.transpose(-1, -2) * c.d_head**-0.5, -1)
    z = ops.merge_heads(weights @ values)
    mid = ops.settled(z, block.w_o, block.b_o).add_(x)
    read = ops.layer_norm(mid, block.ln2_w, block.ln2_b, c.eps)
    act = ops.gelu(ops.settled(read, block.w_in, block.b_in))
    out = ops.settled(act, block.w_out, block.b_out).add_(mid)
    return {"resid": x, "qkv": qkv, "z": z, "mid": mid, "act": act, "out": out}


def _and(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new], 1)


def _unwritten(site: Site, old: Override) -> Override:
    """With a position that no edit has written; a pattern has a key more, too."""
    keys = (0, 1) if site.kind == "pattern" else (0, 0)
    return Override(F.pad(old.rows, (0, 1)), F.pad(old.values, (*keys, 0, 1)))
