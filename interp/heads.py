"""What a head does: on any prompt (scores on random tokens), between named positions, by its
weights alone. Always [layer, head, ...]."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from minigpt import GPT2, Config, Params, Tokenizer, Trace, ops
from minigpt.errors import MiniGPTError
from minigpt.params import Block


def repeated(
    config: Config,
    n: int = 25,
    batch: int = 32,
    seed: int = 0,
    among: Int[Tensor, "ids"] | None = None,
) -> Int[Tensor, "batch pos"]:
    """n random tokens, then the same once more.

    Drawn from `among`; without it from the tokens that are more than one byte (ids from 256 up),
    the last (end of text) excluded.
    """
    ids = (
        torch.arange(256 if config.n_vocab > 512 else 0, config.n_vocab - 1)
        if among is None
        else among
    )
    half = ids[torch.randint(len(ids), (batch, n), generator=torch.Generator().manual_seed(seed))]
    return torch.cat([half, half], 1)


def words(tokenizer: Tokenizer) -> Int[Tensor, "ids"]:
    """The tokens that begin with a space: words as they stand within a sentence, and numbers; all,
    where none does."""
    texts = {i: tokenizer.text(i) for i in range(tokenizer.n_vocab)}
    within = [i for i, text in texts.items() if text.startswith(" ") and len(text) > 1]
    return torch.tensor(within or list(texts))


def previous(
    model: GPT2,
    n: int = 25,
    batch: int = 32,
    seed: int = 0,
    among: Int[Tensor, "ids"] | None = None,
) -> Float[Tensor, "layer head"]:
    """Mean attention, on repeated random tokens, to the token before; the first token has none
    (Wang et al. 2022, App. H)."""
    tokens = repeated(model.config, n, batch, seed, among)
    places = torch.arange(1, tokens.shape[1])
    return _attended(model.run(tokens), places, places - 1)


def duplicate(
    model: GPT2,
    n: int = 25,
    batch: int = 32,
    seed: int = 0,
    among: Int[Tensor, "ids"] | None = None,
) -> Float[Tensor, "layer head"]:
    """Mean attention, in the second half of repeated random tokens, to the same token's first time
    (Wang et al. 2022, App. H)."""
    return _offset(model, repeated(model.config, n, batch, seed, among), ahead=0)


def induction(
    model: GPT2,
    n: int = 25,
    batch: int = 32,
    seed: int = 0,
    among: Int[Tensor, "ids"] | None = None,
) -> Float[Tensor, "layer head"]:
    """Mean attention, in the second half of repeated random tokens, to the token after the same
    token's first time.

    Wang et al. 2022, App. H; Olsson et al. 2022.
    """
    return _offset(model, repeated(model.config, n, batch, seed, among), ahead=1)


def attention(trace: Trace, at: int | str, to: int | str) -> Float[Tensor, "layer head batch"]:
    """Each head's weight from position `at` to position `to` of each prompt: attention(trace,
    "END", "IO").mean(-1)."""
    rows = torch.stack([trace[f"a{layer}.pattern@{at}"] for layer in range(trace.config.n_layer)])
    columns = trace.batch.index(to)[None, :, None, None].expand(*rows.shape[:3], 1)
    return rows.gather(-1, columns).squeeze(-1).transpose(1, 2)


def scores(trace: Trace, at: int | str, to: int | str) -> Float[Tensor, "layer head batch"]:
    """What the softmax reads for attention(at, to): query times key over the root of d_head. Only
    differences within a row matter.

    Not causal: a key behind the query is read off as well.
    """
    q, k = (
        torch.stack([trace[f"a{layer}.{which}@{place}"] for layer in range(trace.config.n_layer)])
        for which, place in (("q", at), ("k", to))
    )
    scale: float = trace.config.d_head**-0.5
    return (q * k).sum(-1).transpose(1, 2) * scale


def written(
    trace: Trace, at: int | str, ids: Int[Tensor, "batch"]
) -> Float[Tensor, "layer head batch"]:
    """Each head's write at `at` times the unembedding of one token for each prompt, without the
    final LayerNorm (Wang et al. 2022, figure 3c)."""
    wanted = trace.params.unembed[ids.to(trace.params.unembed.device)]
    layers, heads = range(trace.config.n_layer), range(trace.config.n_head)
    return torch.stack(
        [
            torch.stack([(trace[f"a{layer}.{head}@{at}"] * wanted).sum(-1) for head in heads])
            for layer in layers
        ]
    )


def copying(
    trace: Trace, at: int | str, top: int = 5, sign: int = 1
) -> Float[Tensor, "layer head"]:
    """How often a head that looks at position `at` would put that very token among its `top` most
    promoted.

    The stream after layer 0 at that position, through the head's own LayerNorm, W_V and W_O, the
    final LayerNorm and the unembedding (Wang et al. 2022, section 3.1; the paper pools IO, S1 and
    S2). sign=-1, for negative heads: the same, were the head's write turned round before the final
    LayerNorm, as in the authors' code.
    """
    x, token = trace[f"resid1@{at}"], trace.tokens.gather(1, trace.batch.index(at)[:, None])
    promoted = [_promoted(trace, layer, x, sign) for layer in range(trace.config.n_layer)]
    ranks = [
        (logits > logits.gather(-1, token[:, None].expand(-1, logits.shape[1], 1))).sum(-1)
        for logits in promoted
    ]
    return torch.stack([(rank < top).double().mean(0) for rank in ranks])


def composition(params: Params, kind: str) -> Float[Tensor, "writer_layer writer_head layer head"]:
    """How much of what a head writes another reads for its queries ("q"), keys ("k") or values
    ("v"), by weights alone; NaN where none can.

    Frobenius norm of the product of both heads' matrices over the product of their norms (Elhage et
    al. 2021, "Composition of attention heads"): W_OV W_QK, W_OV W_QK^T, W_OV W_OV for q, k, v, with
    rows as inputs. Each matrix reads the stream as LayerNorm shows it, centred and weighted; its
    scale, one number for each position, is left out. In [0, 1], float64.
    """
    if kind not in ("q", "k", "v"):
        raise MiniGPTError(f"composition {kind!r}", "'q', 'k' or 'v'")
    config = params.config
    scores = torch.full((config.n_layer, config.n_head) * 2, torch.nan, dtype=torch.float64)
    writers = [_factors(block, config, "v") for block in params.blocks]
    for layer in range(1, config.n_layer):
        a, b = (torch.stack(factors) for factors in zip(*writers[:layer], strict=True))
        scores[:layer, :, layer] = _ratio(a, b, *_factors(params.blocks[layer], config, kind)).cpu()
    return scores


def _factors(
    block: Block, config: Config, kind: str
) -> tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head d_model"]]:
    """A head's matrix [d_model, d_model] as a product of two thin ones: W_OV for "v", W_QK for "q",
    its transpose for "k"."""
    read = block.w_qkv.double() * block.ln1_w.double()[:, None]
    q, k, v = (
        (x - x.mean(0)).unflatten(1, (config.n_head, -1)).transpose(0, 1)
        for x in read.chunk(3, dim=1)
    )
    out = block.w_o.double().unflatten(0, (config.n_head, -1))
    return {"q": (q, k.mT), "k": (k, q.mT), "v": (v, out)}[kind]


def _ratio(
    a: Float[Tensor, "layer writer d_model d_head"],
    b: Float[Tensor, "layer writer d_head d_model"],
    c: Float[Tensor, "head d_model d_head"],
    d: Float[Tensor, "head d_head d_model"],
) -> Float[Tensor, "layer writer head"]:
    """Norm of (a b)(c d) over the norms of a b and c d. An orthogonal factor changes no norm, so a
    and d may lose theirs, and be small."""
    left: Tensor = torch.linalg.qr(a).R
    right: Tensor = torch.linalg.qr(d.mT).R.mT
    between = torch.einsum("lwhd,rdk->lwrhk", b, c)
    whole: Tensor = (left[:, :, None] @ between @ right).norm(dim=(-2, -1))
    ab, cd = ((x @ y).norm(dim=(-2, -1)) for x, y in ((left, b), (c, right)))
    share: Tensor = whole / (ab[:, :, None] * cd)
    return share


def _offset(
    model: GPT2, tokens: Int[Tensor, "batch pos"], ahead: int
) -> Float[Tensor, "layer head"]:
    """Mean attention from each place of the second half to the place `ahead` of its twin in the
    first."""
    n = tokens.shape[1] // 2
    places = torch.arange(n, 2 * n)
    return _attended(model.run(tokens), places, places - n + ahead)


def _attended(
    trace: Trace, places: Int[Tensor, "n"], to: Int[Tensor, "n"]
) -> Float[Tensor, "layer head"]:
    """Mean attention, over prompts and pairs of places, from each place to its own target."""
    return torch.stack(
        [
            trace[f"a{layer}.pattern"][:, :, places, to].mean((0, 2))
            for layer in range(trace.config.n_layer)
        ]
    )


def _promoted(
    trace: Trace, layer: int, x: Float[Tensor, "batch d_model"], sign: int
) -> Float[Tensor, "batch head vocab"]:
    """The logits of each head's write, times sign, were it all that the final LayerNorm reads and x
    all that the head looks at."""
    block, params, d = trace.params.blocks[layer], trace.params, trace.config.d_model
    seen = ops.layer_norm(x, block.ln1_w, block.ln1_b, trace.config.eps)
    values = (seen @ block.w_qkv[:, 2 * d :] + block.b_qkv[2 * d :]).unflatten(
        -1, (trace.config.n_head, -1)
    )
    writes = sign * torch.einsum(
        "bhk,hkd->bhd", values, block.w_o.unflatten(0, (trace.config.n_head, -1))
    )
    return F.linear(
        ops.layer_norm(writes, params.ln_w, params.ln_b, trace.config.eps), params.unembed
    )
