"""Text from a model, token by token, with the keys and values of what was read kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.errors import PromptError
from minigpt.model import GPT2

# For each layer the keys and values so far, [1, head, pos, d_head] each.
Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Choice:
    """How the next token is drawn: temperature 0 takes the most probable; top_k first drops all but
    k (0: none)."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0:
            raise PromptError(
                f"temperature={self.temperature}, top_k={self.top_k}", "numbers from 0 up"
            )

    def draw(self, logits: Float[Tensor, "vocab"], generator: torch.Generator) -> int:
        """One token id."""
        if self.temperature == 0:
            return int(logits.argmax())
        if self.top_k:
            logits = logits.masked_fill(
                logits < logits.topk(min(self.top_k, len(logits))).values[-1], -torch.inf
            )
        return int(
            torch.multinomial(
                torch.softmax(logits.float() / self.temperature, -1), 1, generator=generator
            )
        )


def generate(
    model: GPT2, prompt: str, n: int = 20, choice: Choice = Choice(), stop: int | None = None
) -> str:
    """The prompt's continuation by up to n tokens, as text; ends before the token `stop`."""
    batch = model.batch(prompt)
    assert model.tokenizer is not None
    found = []
    for token in continuation(model, batch.tokens[0], n, choice):
        if token == stop:
            break
        found.append(token)
    return model.tokenizer.decode(found)


@torch.no_grad()
def continuation(model: GPT2, tokens: Tensor, n: int, choice: Choice = Choice()) -> Iterator[int]:
    """Up to n token ids that follow tokens [pos]; PromptError if the context has no room for
    them."""
    if len(tokens) + n > model.config.n_ctx:
        raise PromptError(
            f"{len(tokens)} tokens and {n} more",
            f"{model.config.n_ctx} together",
            f"n={model.config.n_ctx - len(tokens)}",
        )
    generator = torch.Generator(model.device).manual_seed(choice.seed)
    trace = model.run(tokens)
    cache = [
        (trace.heads(layer, "k")[:, :, : len(tokens)], trace.heads(layer, "v")[:, :, : len(tokens)])
        for layer in range(model.config.n_layer)
    ]
    logits = trace.logits_at(-1)[0]
    for place in range(len(tokens), len(tokens) + n):
        token = choice.draw(logits, generator)
        yield token
        logits, cache = _next(model, token, place, cache)


def _next(model: GPT2, token: int, place: int, cache: Cache) -> tuple[Tensor, Cache]:
    """The logits after one more token, and the keys and values with its own."""
    params, eps, grown = model.params, model.config.eps, []
    x = (params.wte[token] + params.wpe[place])[None, None]
    for block, (k, v) in zip(params.blocks, cache, strict=True):
        qkv = ops.linear(ops.layer_norm(x, block.ln1_w, block.ln1_b, eps), block.w_qkv, block.b_qkv)
        q, k_new, v_new = (
            ops.split_heads(part, model.config.n_head) for part in qkv.chunk(3, dim=-1)
        )
        grown.append((torch.cat([k, k_new], 2), torch.cat([v, v_new], 2)))
        weights = torch.softmax(q @ grown[-1][0].transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
        x = x + ops.linear(ops.merge_heads(weights @ grown[-1][1]), block.w_o, block.b_o)
        x = x + ops.linear(
            ops.gelu(
                ops.linear(ops.layer_norm(x, block.ln2_w, block.ln2_b, eps), block.w_in, block.b_in)
            ),
            block.w_out,
            block.b_out,
        )
    return F.linear(ops.layer_norm(x, params.ln_w, params.ln_b, eps), params.unembed)[0, 0], grown
