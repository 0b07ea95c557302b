"""Tokens by a component's weights alone: which it would read, and which its write would promote.
LayerNorm's scale is left out, and what the layers before and behind would make of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp import latents
from interp.corpus.groups import Group, groups
from minigpt import GPT2, Params, Site, parse
from minigpt.errors import AddressError
from minigpt.params import Block
from minigpt.shown import Shown
from minigpt.tokenizer import Tokenizer

Tokens = tuple[tuple[str, float], ...]
STATED = (
    "By the weights alone: LayerNorm's scale is left out, and what other layers would make of it."
)


@dataclass(frozen=True, repr=False)
class Says(Shown):
    """Lists of tokens by what they say, the strongest first; stated: what is left out."""

    lists: dict[str, Tokens]
    stated: str = STATED


def says(params: Params, words: Tokenizer, address: str, k: int = 10) -> Says:
    """What the weights of a head, a neuron or a latent say of tokens. AddressError for another."""
    site = parse(address, params.config).site
    if site.is_latent and site.part is not None:
        found = {"promotes": latents.promotes(params, address)}
    elif site.kind == "mlp" and site.part is not None:
        found = _neuron(params, site)
    elif site.is_head:
        return Says(_head(params, words, site, k))
    else:
        raise AddressError(f"what '{address}' says of tokens", "a head, a neuron or a latent")
    ends = {"promotes": "suppresses", "is switched on by": "is switched off by"}
    lists = {}
    for name, scores in found.items():
        lists[name] = _top(words, scores, k)
        lists[ends[name]] = _top(words, -scores, k, -1)
    return Says(lists)


def neighbours(model: GPT2, address: str, k: int = 8) -> Tokens:
    """The neurons and latents that write most nearly in the direction of a neuron or a latent, by
    the cosine; of a head, which writes in many directions, none."""
    every = [group for group in groups(model) if not group.is_heads]
    home = next((group for group in every if address in group.addresses), None)
    if home is None:
        return ()
    own = F.normalize(_written(model.params, home)[home.addresses.index(address)], dim=0)
    found: list[tuple[str, float]] = []
    for group in every:
        near = F.normalize(_written(model.params, group), dim=1) @ own
        best = near.topk(min(k + 1, group.n))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        found += [(group.addresses[i], cosine) for i, cosine in pairs]
    nearest = sorted(found, key=lambda pair: -pair[1])
    return tuple(pair for pair in nearest if pair[0] != address)[:k]


def _written(params: Params, group: Group) -> Float[Tensor, "n d_model"]:
    """The direction that each of a group writes in."""
    if group.is_neurons:
        return params.blocks[group.layer].w_out
    known = params.dictionaries[group.name.removesuffix(".l")]
    act = known.reads.endswith(".act")
    return known.decoder @ params.blocks[group.layer].w_out if act else known.decoder


def _neuron(params: Params, site: Site) -> dict[str, Float[Tensor, "vocab"]]:
    block = params.blocks[site.depth]
    toward = (block.ln2_w * block.w_in[:, site.part]).double()
    out = block.w_out[site.part].double()
    return {
        "is switched on by": params.wte.double() @ (toward - toward.mean()),
        "promotes": _promoted(params, out),
    }


def _promoted(params: Params, write: Float[Tensor, "d_model"]) -> Float[Tensor, "vocab"]:
    """What a write adds to each logit over the mean one."""
    centred = (write - write.mean()) * params.ln_w.double()
    logits = F.linear(centred, params.unembed.double())
    return logits - logits.mean()


def _head(params: Params, words: Tokenizer, site: Site, k: int) -> dict[str, Tokens]:
    """The tokens that a head, all its attention at one of them, promotes most itself, over what it
    does to the mean token (the diagonal of Elhage et al. 2021's OV circuit)."""
    block, part = params.blocks[site.depth], site.part or 0
    ov = _value(block, params.config.n_head, part)
    read = params.wte.double() * block.ln1_w.double()
    out = ((read - read.mean(-1, keepdim=True)) @ ov) * params.ln_w.double()
    toward = params.unembed.double()
    own = (out * toward).sum(-1) - out @ toward.mean(0)
    return {
        "copies": _top(words, own, k),
        "writes against": _top(words, -own, k, -1),
    }


def _value(block: Block, heads: int, part: int) -> Float[Tensor, "d_model d_model"]:
    """From what a head reads to what it writes."""
    d = block.w_o.shape[1]
    value = block.w_qkv[:, 2 * d :].unflatten(1, (heads, -1))[:, part].double()
    whole: Tensor = value @ block.w_o.unflatten(0, (heads, -1))[part].double()
    return whole


def _top(words: Tokenizer, x: Float[Tensor, "vocab"], k: int, sign: int = 1) -> Tokens:
    named = x.index_fill(0, torch.tensor(words.lacking(len(x)), dtype=torch.long), -torch.inf)
    best = named.topk(min(k, len(x)))
    return tuple(
        (words.text(i), sign * value)
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
