"""Induction: random tokens, then the same again, cut off before the last; the answer is how the
first half went on.

Olsson et al. 2022 (In-context Learning and Induction Heads); Wang et al. 2022, App. H. Knows
nothing of sentences and models.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from interp.heads import words
from interp.tasks.prompts import Prompts
from minigpt import Tokenizer
from minigpt.errors import PromptError


def prompts(
    among: Tokenizer | Int[Tensor, "ids"],
    n: int = 100,
    seed: int = 0,
    *,
    length: int = 25,
    bos: int | None = None,
    tokenizer: Tokenizer | None = None,
) -> Prompts:
    """n prompts of `length` random tokens, and all of them but the last once more; in the corrupt
    twin the first half is other tokens.

    among: a tokenizer (its tokens that begin with a space) or the ids to draw from; no token comes
    twice within a half. bos: an id to put in front, which comes nowhere else. Answer: the half's
    last token; distractor: what stands in its place in the corrupt first half. Positions: A1, the
    first time of the token at END; B1, the one after it, which is the answer.
    """
    tokenizer = among if isinstance(among, Tokenizer) else tokenizer
    ids = (words(among) if isinstance(among, Tokenizer) else among).unique()
    half, other = _halves(ids if bos is None else ids[ids != bos], n, seed, length)
    front = torch.full((n, 0 if bos is None else 1), 0 if bos is None else bos)
    clean, corrupt = (torch.cat([front, first, half[:, :-1]], 1) for first in (half, other))
    last = torch.full((n,), front.shape[1] + length - 1)
    places, ends = {"A1": last - 1, "B1": last}, (half[:, -1:], other[:, -1:])
    return Prompts(clean, corrupt, *ends, places, tokenizer=tokenizer)


def _halves(
    ids: Int[Tensor, "ids"], n: int, seed: int, length: int
) -> tuple[Int[Tensor, "n length"], Int[Tensor, "n length"]]:
    """For each prompt two rows of tokens of which no two are the same."""
    if n < 1:
        raise PromptError(f"{n} prompts", "one or more")
    if length < 2 or len(ids) < 2 * length:
        raise PromptError(
            f"halves of {length} tokens, out of {len(ids)}",
            "2 tokens or more, and twice as many to draw from",
            f"length={max(2, len(ids) // 2)}",
        )
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(ids), generator=generator) for _ in range(n)]
    drawn = torch.stack([ids[order[: 2 * length]] for order in orders])
    return drawn[:, :length], drawn[:, length:]
