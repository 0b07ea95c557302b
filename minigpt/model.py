"""GPT-2, top to bottom. Every write to the residual stream is one line of `layer`; everything it
makes is kept by name.

`forward` is Hugging Face's pass: the same operations on the same shapes, hence the same bits. `run`
is the pass that everything else stands on: the same lines with products in blocks, so that a
prompt's numbers do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from minigpt import ops
from minigpt.batch import Batch, as_batch
from minigpt.config import Config
from minigpt.device import sent
from minigpt.dictionary import Dictionary
from minigpt.errors import PatchError
from minigpt.params import Block, Params, tensors
from minigpt.patch import Patch
from minigpt.recompute.rerun import rerun
from minigpt.recompute.sweep import Sweep, sweep
from minigpt.shown import Row, Shown
from minigpt.tokenizer import Tokenizer
from minigpt.trace import Cells, Trace
from minigpt.vocabulary import Ids

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Linear = Callable[[Tensor, Tensor, Tensor], Tensor]
# Prompts that are attended to alike: how many keys they have, and which rows of the batch they are.
Group = tuple[int, Tensor | slice]


def embed(params: Params, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
    """resid0: token plus position."""
    return params.wte[tokens] + params.wpe[: tokens.shape[1]]


def layer(
    block: Block,
    config: Config,
    x: Float[Tensor, "batch pos d_model"],
    groups: Sequence[Group],
    attend: Attend,
    linear: Linear,
) -> Cells:
    """One block: attention reads the stream and writes to it, then the MLP reads it and writes to
    it."""
    qkv = linear(ops.layer_norm(x, block.ln1_w, block.ln1_b, config.eps), block.w_qkv, block.b_qkv)
    z = attention(qkv, config.n_head, groups, attend)
    mid = linear(z, block.w_o, block.b_o).add_(x)
    normed = ops.layer_norm(mid, block.ln2_w, block.ln2_b, config.eps)
    act = ops.gelu(linear(normed, block.w_in, block.b_in))
    out = linear(act, block.w_out, block.b_out).add_(mid)
    return Cells(resid=x, qkv=qkv, z=z, mid=mid, act=act, out=out)


def attention(
    qkv: Float[Tensor, "batch pos d_qkv"], n_head: int, groups: Sequence[Group], attend: Attend
) -> Float[Tensor, "batch pos d_qkv//3"]:
    """The weighted values of all heads; each prompt attends as it would alone, over exactly its own
    positions."""
    q, k, v = (ops.split_heads(x, n_head) for x in qkv.chunk(3, dim=-1))
    if len(groups) == 1 and groups[0][0] == q.shape[2]:
        return ops.merge_heads(attend(q, k, v))
    z = torch.zeros_like(q)
    for n, mine in groups:
        rows = mine if isinstance(mine, slice) else sent(mine, q)
        z[rows, :, :n] = attend(q[rows, :, :n], k[rows, :, :n], v[rows, :, :n])
    return ops.merge_heads(z)


def grouped(lengths: Int[Tensor, "batch"]) -> list[Group]:
    """The rows of each length."""
    if len(sizes := torch.unique(lengths).tolist()) == 1:
        return [(sizes[0], slice(None))]
    return [(n, (lengths == n).nonzero().flatten()) for n in sizes]


@dataclass(frozen=True, eq=False)
class GPT2(Shown):
    """A model: its parameters and its tokenizer. Never changed by anything; every intervention is a
    value given to it."""

    params: Params
    tokenizer: Tokenizer | None = None
    name: str = "a GPT-2"
    attend: Attend = ops.eager

    @property
    def config(self) -> Config:
        """The model's shape."""
        return self.params.config

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.params.wte.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters and of everything computed from them."""
        return self.params.wte.dtype

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> GPT2:
        """The same model on another device or in another type."""
        return replace(self, params=self.params.to(device, dtype))

    def with_dictionaries(self, *dictionaries: Dictionary) -> GPT2:
        """The same model, every bit of its logits, whose runs can also be read and edited by
        latents: "m3.l127", "m3.l.b", "m3.e" of a dictionary that explains m3.

        ParamsError where a dictionary does not fit this model, or two explain one write.
        """
        return replace(self, params=self.params.with_dictionaries(dictionaries))

    @property
    def words(self) -> Tokenizer:
        """Its tokenizer; of a model without a vocabulary, one whose words are the token ids."""
        return self.tokenizer or Tokenizer(Ids(self.config.n_vocab))

    def batch(self, prompts: object) -> Batch:
        """The token ids that a text, a list of texts, ids (a tensor, an array, lists) or Prompts
        stand for; PromptError where they cannot be read."""
        return as_batch(prompts, self.words, self.config, self.params.wte)

    @torch.inference_mode()
    def run(self, prompts: object) -> Trace:
        """Run on a text, a list of texts or token ids (of one prompt or of several, in a tensor, an
        array or lists of any lengths), and keep everything.

        What is read from it is the reader's own: changing it changes no trace. On a CPU a prompt's
        numbers are the same bits alone and in any batch, with any number of threads, where
        there are 3 heads or more, each a multiple of 4 wide (in float64 with eager attention).
        """
        batch = self.batch(prompts)
        x, groups = embed(self.params, batch.tokens), grouped(batch.lengths)
        cells: list[Cells] = []
        for block in self.params.blocks:
            cells.append(layer(block, self.config, x, groups, self.attend, ops.settled))
            x = cells[-1].out
        return Trace(self.params, batch, tuple(cells))

    @overload
    def rerun(self, trace: Trace, patch: Patch | str) -> Trace: ...
    @overload
    def rerun(
        self,
        trace: Trace,
        patch: Sequence[Patch | str],
        want: str | Sequence[str],
        *,
        budget: int | None = None,
        progress: bool = False,
    ) -> Sweep: ...
    def rerun(
        self,
        trace: Trace,
        patch: Patch | str | Sequence[Patch | str],
        want: str | Sequence[str] = "out",
        *,
        budget: int | None = None,
        progress: bool = False,
    ) -> Trace | Sweep:
        """The run after a patch, as a Trace with a receipt; or, of many patches at once, what each
        makes of `want`, as a Sweep. A text is the patch that it spells.

        budget: bytes that the working values of a sweep may take, what suits the device unless one
        is given. Warns with NoEffectWarning where nothing changed.
        """
        if self.attend is not ops.eager:
            raise PatchError(
                "a rerun with fused attention, which never forms the pattern",
                "attention='eager'",
                "weights.load(..., attention='eager')",
            )
        if isinstance(patch, str):
            patch = Patch.parse(patch, {})
        if isinstance(patch, Patch):
            return rerun(trace, patch)
        patches = [Patch.parse(one, {}) if isinstance(one, str) else one for one in patch]
        return sweep(trace, patches, want, budget, progress)

    @torch.no_grad()
    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """Logits, and nothing kept: bit for bit those of Hugging Face's GPT2LMHeadModel called
        plainly, in every shape.

        On one thread the same bits as run(tokens).logits from 16 tokens on in all (in float64: a
        multiple of 4); with fewer, Hugging Face's own numbers depend on the size of the batch, and
        are the same but for the last digits.
        """
        batch = self.batch(tokens)
        x, groups = embed(self.params, batch.tokens), [(batch.tokens.shape[1], slice(None))]
        for block in self.params.blocks:
            x = layer(block, self.config, x, groups, self.attend, ops.linear).out
        x = ops.layer_norm(x, self.params.ln_w, self.params.ln_b, self.config.eps)
        return F.linear(x, self.params.unembed)

    def __repr__(self) -> str:
        c, size = self.config, sum(x.numel() for x in tensors(self.params).values())
        return (
            f"GPT2({self.name}: {c.n_layer} layers x {c.n_head} heads, {size / 1e6:.1f}M "
            f"parameters, {str(self.dtype)[6:]} on {self.device})"
        )

    def _table(self) -> Iterator[Row]:
        yield "", ""
        yield "tokenizer", self.tokenizer
        yield from vars(self.config).items()
