"""A run of one prompt, one token longer: only the new position is computed, what went before is
what it was, edits and all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.address import Site
from minigpt.batch import Batch
from minigpt.model import Attend, Group, layer
from minigpt.trace import Cells, Override, Trace

# A layer's keys and values so far, [1, head, pos, d_head] each.
Kept = tuple[Tensor, Tensor]
# One prompt, of which one position is computed.
ONE: list[Group] = [(1, slice(None))]


@torch.inference_mode()
def grown(trace: Trace, token: int) -> Trace:
    """The run of the same prompt and this token. The new position is computed without edits, on
    keys and values as the run has them."""
    place, params = trace.tokens.shape[1], trace.params
    x = (params.wte[token] + params.wpe[place])[None, None]
    cells = []
    for i, (block, olds) in enumerate(zip(params.blocks, trace.cells, strict=True)):
        attend = joining((trace.heads(i, "k"), trace.heads(i, "v")), [])
        news = layer(block, trace.config, x, ONE, attend, ops.settled)
        x = news.out
        cells.append(
            Cells(**{name: _and(old, getattr(news, name)) for name, old in vars(olds).items()})
        )
    tokens = _and(trace.tokens, trace.tokens.new_tensor([[token]]))
    batch = Batch(tokens, trace.batch.lengths + 1, trace.batch.positions)
    overrides, pairs = (
        {site: _unwritten(site, old) for site, old in edited.items()}
        for edited in (trace.overrides, trace.pairs)
    )
    bare = Trace(params, batch, tuple(cells))
    ports = {site: _and(x, bare.stream(site)[:, -1:]) for site, x in trace.ports.items()}
    return Trace(params, batch, tuple(cells), trace.receipt, overrides, ports, pairs)


def joining(kept: Kept, after: list[Kept]) -> Attend:
    """How a new position attends: to the keys and values that were kept and to its own, which are
    joined, and appended to `after`."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)
        after.append((keys, values))
        return torch.softmax(q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ values

    return attend


def _and(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new], 1)


def _unwritten(site: Site, old: Override) -> Override:
    """With a position that no edit has written; a pattern has a key more, too."""
    keys = (0, 1) if site.kind == "pattern" else (0, 0)
    return Override(F.pad(old.rows, (0, 1)), F.pad(old.values, (*keys, 0, 1)))
