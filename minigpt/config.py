"""The six integers (and one small number) that make a GPT-2, and the names of the sizes that were
published.

Axis names used in every shape of this project:
    batch, pos, head, d_head, d_model, d_mlp, vocab; key is a position that is attended to.
"""

from __future__ import annotations

from dataclasses import dataclass

from minigpt.errors import ParamsError
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Config(Shown):
    """The shape of a GPT-2; eps is the constant inside LayerNorm's square root."""

    n_layer: int
    n_head: int
    d_model: int
    d_mlp: int
    n_ctx: int
    n_vocab: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "d_model", "d_mlp", "n_ctx", "n_vocab"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ParamsError(f"Config({name}={value!r})", "whole numbers from 1 up")
        if self.d_model % self.n_head:
            raise ParamsError(
                f"d_model={self.d_model} with n_head={self.n_head}", "a width that the heads divide"
            )

    @property
    def d_head(self) -> int:
        """The width of one head."""
        return self.d_model // self.n_head

    def head_columns(self, head: int) -> slice:
        """Which columns of z, of queries, keys or values, and which rows of W_O belong to a
        head.

        >>> SIZES['gpt2'].head_columns(9)
        slice(576, 640, None)
        """
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def qkv_columns(self, kind: str, head: int | None = None) -> slice:
        """Which columns of queries, keys and values side by side are these ("q", "k" or "v"): of
        one head, or of all.

        >>> SIZES['gpt2'].qkv_columns('v', 9)
        slice(2112, 2176, None)
        """
        own = slice(0, self.d_model) if head is None else self.head_columns(head)
        first = "qkv".index(kind) * self.d_model
        return slice(first + own.start, first + own.stop)


def gpt2(n_layer: int, n_head: int, d_model: int) -> Config:
    """A published GPT-2: 1,024 positions, 50,257 tokens, an MLP of four times the width."""
    return Config(n_layer, n_head, d_model, 4 * d_model, n_ctx=1024, n_vocab=50257)


SIZES = {
    "distilgpt2": gpt2(6, 12, 768),
    "gpt2": gpt2(12, 12, 768),
    "gpt2-medium": gpt2(24, 16, 1024),
    "gpt2-large": gpt2(36, 20, 1280),
    "gpt2-xl": gpt2(48, 25, 1600),
}
