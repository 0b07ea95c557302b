"""The figures on a model's card: how well it does indirect objects, and the heads known to
do the work; how well its dictionaries fit, and which concepts have a latent of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from interp import attribution, concepts, dictionaries, heads, metrics
from interp.tasks import Prompts
from minigpt import GPT2, Batch
from minigpt.dictionary import Dictionary
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


def measure_tasks(model: GPT2, tasks: Mapping[str, Prompts]) -> dict[str, Any]:
    """Of each task how often the answer's logit is above the distractor's, and by how much; on
    indirect objects, what heads and MLPs add to the difference as shares of it, and the heads that
    copy names, look at the subject's second time, or are known by their scores on random words."""
    objects, among = tasks["indirect objects"], heads.words(model.words)
    trace, metric = model.run(objects), metrics.logit_diff(objects)
    effects = attribution.direct(trace, metric)
    whole = float(metric(trace).mean())
    by_mlps = sum(effect for name, effect in effects if name.startswith("m"))
    shares = {"heads": float(effects.heads().values.sum()) / whole, "mlps": by_mlps / whole}
    looks = {to: heads.attention(trace, "END", to).mean(-1) for to in ("IO", "S2")}
    return {
        "tasks": {name: _answered(model, pairs) for name, pairs in tasks.items()},
        "direct_effect": shares,
        "name_movers": _best(looks["IO"] * heads.copying(trace, "IO")),
        "look_at_the_subject_again": _best(looks["S2"]),
        "duplicate_token": _best(heads.duplicate(model, among=among)),
        "induction": _best(heads.induction(model, among=among)),
        "previous_token": _best(heads.previous(model, among=among)),
    }


def _answered(model: GPT2, pairs: Prompts) -> dict[str, Any]:
    margins = metrics.logit_diff(pairs)(model.run(pairs))
    return {
        "prompts": len(pairs),
        "accuracy": float((margins > 0).double().mean()),
        "logit_difference": float(margins.mean()),
    }


def measure_dictionaries(
    model: GPT2,
    known: Sequence[Dictionary],
    lines: Sequence[Mapping[str, Any]],
    progress: bool = False,
) -> dict[str, Any]:
    """lines: {"text", "concepts": positions by concept}. Each dictionary's fit on these texts, one
    behind the other in rows as long as the context, as they were trained; and which concepts a
    latent of any of them tells with an F1 of 0.9 or more, on half of the texts, chosen on the other
    half, with the best F1 where labels are shuffled."""
    found: list[concepts.Concept] = []
    texts, fits = [line["text"] for line in lines], {}
    trace, rows = model.with_dictionaries(*known).run(texts), _rows(model, texts)
    truth = concepts.labels(trace, [line["concepts"] for line in lines])
    for each in (bar := tqdm(known, desc="dictionaries", disable=not progress, leave=False)):
        bar.set_postfix_str(each.explains)
        fits[each.explains] = _fitted(dictionaries.fit(model, each, rows), each)
        found += concepts.told(trace, each.explains, truth)
    own = concepts.known(found)
    return {
        "dictionaries": fits,
        "concepts": len(truth),
        "concepts_with_a_latent": {
            name: {"latent": one.latent, "f1": round(one.f1, 4)} for name, one in own.items()
        },
        "best_shuffled_f1": round(max(one.shuffled for one in found), 4),
    }


def _rows(model: GPT2, texts: Sequence[str]) -> Int[Tensor, "rows n_ctx"]:
    """The texts with the end sign between them, cut into rows; what is left over is left out."""
    end, length = model.words.end, model.config.n_ctx
    between = [] if end is None else [end]
    ids = [i for text in texts for i in (*model.words.encode(text), *between)]
    return torch.tensor(ids[: len(ids) // length * length]).view(-1, length)


def _fitted(fit: dictionaries.Fit, known: Dictionary) -> dict[str, Any]:
    return {
        "latents": known.n_latents,
        "explained": round(fit.explained, 4),
        "l0": round(fit.l0, 2),
        "dead": round(fit.dead / known.n_latents, 4),
        "recovered": round(fit.recovered, 4),
        "tokens": fit.tokens,
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
