"""Text from a model, token by token, with the keys and values of what was read kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.config import Config
from minigpt.errors import PromptError
from minigpt.model import GPT2
from minigpt.params import Block
from minigpt.trace import Trace

# For each layer the keys and values so far, [1, head, pos, d_head] each.
Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Choice:
    """How the next token is drawn: temperature 0 takes the most probable; top_k first drops all but
    k (0: none). unnamed: also ids for which the model's vocabulary has no text."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0
    unnamed: bool = False

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
            least = logits.topk(min(self.top_k, len(logits))).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        weights = torch.softmax(logits.float() / self.temperature, -1)
        return int(torch.multinomial(weights, 1, generator=generator))


def generate(
    model: GPT2, prompt: str, n: int = 20, choice: Choice = Choice(), stop: int | None = None
) -> str:
    """The prompt's continuation by up to n tokens, as text; ends before the token `stop`."""
    batch = model.batch(prompt)
    assert model.tokenizer is not None
    tokens = continuation(model, batch.tokens[0], n, choice)
    return model.tokenizer.decode(list(takewhile(lambda token: token != stop, tokens)))


@torch.no_grad()
def continuation(model: GPT2, tokens: Tensor, n: int, choice: Choice = Choice()) -> Iterator[int]:
    """Up to n token ids that follow tokens [pos]; PromptError if the context has no room for
    them."""
    _check_room(model.config, len(tokens), n)
    generator = torch.Generator(model.device).manual_seed(choice.seed)
    trace = model.run(tokens)
    cache = [_kept(trace, layer, len(tokens)) for layer in range(model.config.n_layer)]
    logits = trace.logits_at(-1)[0]
    named = None if choice.unnamed or not model.tokenizer else model.tokenizer.n_vocab
    for place in range(len(tokens), len(tokens) + n):
        token = choice.draw(logits[:named], generator)
        yield token
        logits, cache = _next(model, token, place, cache)


def _check_room(config: Config, tokens: int, n: int) -> None:
    if tokens + n > config.n_ctx:
        raise PromptError(
            f"{tokens} tokens and {n} more",
            f"{config.n_ctx} together",
            f"n={config.n_ctx - tokens}",
        )


def _kept(trace: Trace, layer: int, n: int) -> tuple[Tensor, Tensor]:
    """A layer's keys and values of the first n positions."""
    return trace.heads(layer, "k")[:, :, :n], trace.heads(layer, "v")[:, :, :n]


def _next(model: GPT2, token: int, place: int, cache: Cache) -> tuple[Tensor, Cache]:
    """The logits after one more token, and the keys and values with its own."""
    params, config, grown = model.params, model.config, []
    x = (params.wte[token] + params.wpe[place])[None, None]
    for block, (k, v) in zip(params.blocks, cache, strict=True):
        q, own_k, own_v = _qkv(block, x, config)
        k, v = torch.cat([k, own_k], 2), torch.cat([v, own_v], 2)
        grown.append((k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) * config.d_head**-0.5, -1)
        x = x + ops.linear(ops.merge_heads(weights @ v), block.w_o, block.b_o)
        x = x + _mlp(block, x, config)
    x = ops.layer_norm(x, params.ln_w, params.ln_b, config.eps)
    return F.linear(x, params.unembed)[0, 0], grown


def _qkv(block: Block, x: Tensor, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """What the heads of a layer read at the new position, each [1, head, 1, d_head]."""
    normed = ops.layer_norm(x, block.ln1_w, block.ln1_b, config.eps)
    thirds = ops.linear(normed, block.w_qkv, block.b_qkv).chunk(3, dim=-1)
    q, k, v = (ops.split_heads(third, config.n_head) for third in thirds)
    return q, k, v


def _mlp(block: Block, x: Tensor, config: Config) -> Tensor:
    normed = ops.layer_norm(x, block.ln2_w, block.ln2_b, config.eps)
    act = ops.gelu(ops.linear(normed, block.w_in, block.b_in))
    return ops.linear(act, block.w_out, block.b_out)
