"""Effects of any method as a document."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from interp import figures
from interp.effects import Effects
from interp.show.document import Document, HeatMap, Picture, Prompt, Section, Span, Table


def effects(shown: Effects, k: int = 12, prompts: Sequence[Sequence[str]] = ()) -> Document:
    """The largest, each with its bootstrap interval, the heat map where there are heads, and the
    receipt. prompts: the tokens of the pair that is shown."""
    base, count = float(shown.base.mean()), shown.per_prompt.shape[1]
    title = f"{shown.method}: change of the {shown.metric}"
    about = f"{base:+.4f} in the run that is patched, mean over prompts: {count}"
    receipt = shown.receipt
    verdict = (
        [Span(f"{len(shown)} patches: {receipt}", "soft" if receipt.changed else "bad")]
        if (receipt)
        else []
    )
    return Document(title, [*_prompts(prompts), *_heads(shown), *_rows(shown, k)], verdict, about)


def _prompts(prompts: Sequence[Sequence[str]]) -> list[Section]:
    text = "Clean, then corrupt; the first pair, cut into its tokens."
    return [Section("The prompts", text, [*map(Prompt, prompts)])] if prompts else []


def _heads(shown: Effects) -> list[Section]:
    if not len(shown.heads()):
        return []
    text = "Change of the metric; layers from top to bottom."
    return [Section("Every head", text, [HeatMap("each head", shown.grid())])]


def _rows(shown: Effects, k: int) -> list[Section]:
    bars = figures.bars(dict(shown.top(2 * k)), shown.metric, shown.method)
    text = "Mean over prompts, with a bootstrap interval."
    return [Section("The largest", text, [_table(shown.top(k)), Picture(bars)])]


def _table(top: Effects) -> Table:
    rows = [
        (Span(address, "code"), f"{value:+.4f}", _interval(ends))
        for (address, value), ends in zip(top, top.interval(), strict=True)
    ]
    return Table("", ("address", ">effect", "95% interval"), rows)


def _interval(ends: torch.Tensor) -> str:
    low, high = ends.tolist()
    return f"{low:+.4f} to {high:+.4f}" if low == low else "one prompt"
