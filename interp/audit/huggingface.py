"""Hugging Face's GPT2LMHeadModel around our tensors, and every value that it computes on the way.
Needs transformers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minigpt import Config, Params
from minigpt.params import tensors

MISSING = "transformers is not installed: pip install 'transformers>=4.50' (the extra [audit])"


def at_hand() -> bool:
    """Whether transformers is installed."""
    return importlib.util.find_spec("transformers") is not None


class Watched(nn.Module):
    """A module in whose place it stands, and a note of what goes in and what comes out."""

    def __init__(self, inner: nn.Module, note: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.inner, self.note = inner, note

    def forward(self, x: Tensor) -> Tensor:
        """What the module makes of x."""
        y: Tensor = self.inner(x)
        self.note(x, y)
        return y


class HuggingFace:
    """Hugging Face's model with the very same tensors; calling it gives its values by our names,
    logits among them."""

    def __init__(self, params: Params, attention: str) -> None:
        self.values: dict[str, Tensor] = {}
        self.model = build(params, attention)
        self._plain = build(params, attention)
        self._watch(self.model.transformer, params.config)

    @torch.no_grad()
    def logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """Its answer when called plainly, nothing watched."""
        found: Tensor = self._plain(tokens).logits
        return found

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, "batch pos"]) -> dict[str, Tensor]:
        """Every value [batch, pos, ...] by the names of compare.values."""
        self.values.clear()
        logits: Tensor = self.model(tokens).logits
        return {**self.values, "logits": logits}

    def _watch(self, inner: Any, config: Config) -> None:
        for layer, block in enumerate(inner.h):
            attn, mlp = block.attn, block.mlp
            block.ln_1, block.ln_2 = (
                self._in(block.ln_1, f"resid{layer}"),
                self._in(block.ln_2, f"resid{layer}.mid"),
            )
            attn.c_attn = Watched(attn.c_attn, self._qkv(layer))
            attn.c_proj = self._both(attn.c_proj, f"a{layer}.z", f"a{layer}")
            mlp.c_proj = self._both(mlp.c_proj, f"act(m{layer})", f"m{layer}")
        inner.ln_f = self._both(inner.ln_f, f"resid{config.n_layer}", "out")

    def _in(self, module: nn.Module, name: str) -> Watched:
        return Watched(module, lambda x, _: self.values.update({name: x}))

    def _both(self, module: nn.Module, before: str, after: str) -> Watched:
        return Watched(module, lambda x, y: self.values.update({before: x, after: y}))

    def _qkv(self, layer: int) -> Callable[[Tensor, Tensor], None]:
        return lambda _, y: self.values.update(
            {f"a{layer}.{port}": x for port, x in zip("qkv", y.chunk(3, dim=-1), strict=True)}
        )


def build(params: Params, attention: str) -> Any:
    """GPT2LMHeadModel around these very tensors, with "eager" or "sdpa" attention; nothing is
    copied."""
    import transformers

    c = params.config
    settings: dict[str, Any] = dict(attn_implementation=attention)
    config = transformers.GPT2Config(
        vocab_size=c.n_vocab,
        n_positions=c.n_ctx,
        n_embd=c.d_model,
        n_layer=c.n_layer,
        n_head=c.n_head,
        n_inner=c.d_mlp,
        layer_norm_epsilon=c.eps,
        tie_word_embeddings=params.tied,
        bos_token_id=0,
        eos_token_id=0,
        **settings,
    )
    with torch.device("meta"):
        found = transformers.GPT2LMHeadModel(config)
    state = {f"transformer.{name}": x for name, x in tensors(params).items()} | {
        "lm_head.weight": params.unembed
    }
    found.load_state_dict({name: state[name] for name in found.state_dict()}, assign=True)
    return found.eval()
