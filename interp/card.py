"""The figures on a model's card: how well it does indirect objects, and the heads that are known to
do the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp import heads, metrics
from minigpt import GPT2, Batch
from minigpt.errors import PromptError


def measure(model: GPT2, prompts: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """prompts: (text that ends before the answer, indirect object, subject). Accuracy, mean logit
    difference, and the top heads."""
    if model.tokenizer is None:
        raise PromptError(
            "prompts in words, but this model has no tokenizer", "a model with a vocabulary"
        )
    texts, answers, others = zip(*prompts, strict=True)
    right, wrong = (
        [model.tokenizer.single(" " + name) for name in names] for names in (answers, others)
    )
    trace = model.run(list(texts))
    margins = metrics.logit_diff(answers=right, distractors=wrong)(trace)
    named = Batch(trace.tokens, trace.batch.lengths, {"IO": _first(trace.tokens, right)})
    copied = heads.copying(model.run(named), "IO")
    return {
        "prompts": len(texts),
        "accuracy": float((margins > 0).double().mean()),
        "logit_difference": float(margins.mean()),
        "induction": _best(heads.induction(model, among=heads.words(model.tokenizer))),
        "copying": _best(copied),
    }


def _first(tokens: Tensor, wanted: Sequence[int]) -> Tensor:
    """Where each prompt's own wanted token stands first; a sentence may also begin with it, without
    its space."""
    hits = tokens == torch.tensor(wanted, device=tokens.device)[:, None]
    return torch.where(hits.any(1), hits.int().argmax(1), 0)


def _best(scores: Float[Tensor, "layer head"], n: int = 4) -> dict[str, float]:
    flat = scores.flatten()
    return {
        f"a{int(i) // scores.shape[1]}.{int(i) % scores.shape[1]}": round(float(flat[i]), 4)
        for i in flat.topk(min(n, len(flat))).indices
    }
