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
    about = f"{base:+.4f} in the run that is patched{_ends(shown)}, mean over prompts: {count}"
    receipt = shown.receipt
    verdict = (
        [Span(f"{len(shown)} patches: {receipt}", "soft" if receipt.changed else "bad")]
        if (receipt)
        else []
    )
    maps = [*_heads(shown), *_map(shown, prompts)]
    return Document(title, [*_prompts(prompts), *maps, *_rows(shown, k)], verdict, about)


def _prompts(prompts: Sequence[Sequence[str]]) -> list[Section]:
    text = "Clean, then corrupt; the first pair, cut into its tokens."
    return [Section("The prompts", text, [*map(Prompt, prompts)])] if prompts else []


def _heads(shown: Effects) -> list[Section]:
    own = shown.heads()
    if not len(own) or len({address.partition(">")[2] for address in own.addresses}) > 1:
        return []  # the sum of a head's edges would be no effect of anything
    text = "Change of the metric; layers from top to bottom."
    return [Section("Every head", text, [HeatMap("each head", shown.grid())])]


def _map(shown: Effects, prompts: Sequence[Sequence[str]]) -> list[Section]:
    """Positions, by the tokens of the first prompt that is shown, where all are of one length."""
    if (found := shown.map()) is None:
        return []
    rows, columns, values = found
    tokens = prompts[0] if prompts and len(prompts[0]) == len(columns) else [""] * len(columns)
    names = [f"{column} {token}" for column, token in zip(columns, tokens, strict=True)]
    text = "Change of the metric; from the embedding down, positions across."
    return [
        Section("Every position", text, [HeatMap("each position", values, 2, False, rows, names)])
    ]


def _rows(shown: Effects, k: int) -> list[Section]:
    if not len(shown):
        return [Section("No effects", "No address was asked for, so there is nothing to show.")]
    bars = figures.bars(dict(shown.top(2 * k)), shown.metric, shown.method)
    text = (
        "Mean over prompts, with a bootstrap interval. p by flipping signs; FDR is its false "
        f"discovery rate among all {len(shown)} rows."
        if shown.per_prompt.shape[1] > 1
        else "One prompt: there is no mean, and nothing tells what is chance."
    )
    return [Section("The largest", text, [_table(shown, k), Picture(bars)])]


def _ends(shown: Effects) -> str:
    """What the metric is on both sides."""
    if shown.ends is None:
        return ""
    clean, corrupt = (float(end.mean()) for end in shown.ends)
    return f" (clean {clean:+.4f}, corrupt {corrupt:+.4f})"


def _table(shown: Effects, k: int) -> Table:
    """The largest; the columns that this kind of effects has."""
    columns: dict[str, Sequence[str]] = {">effect": [f"{x:+.4f}" for x in shown.values.tolist()]}
    if shown.ends is not None and len({float(end.mean()) for end in shown.ends}) > 1:
        between = shown.normalised().mean(1).tolist()
        columns[">0 corrupt, 1 clean"] = [f"{x:.3f}" for x in between]
    columns["95% interval"] = [_interval(ends) for ends in shown.interval()]
    if shown.per_prompt.shape[1] > 1:
        for name, x in zip((">p", ">FDR"), shown.p_values(), strict=True):
            columns[name] = [f"{value:.4f}" for value in x.tolist()]
    places = {address: i for i, address in enumerate(shown.addresses)}
    order = [(address, places[address]) for address in shown.top(k).addresses]
    rows = [(Span(name, "code"), *(column[i] for column in columns.values())) for name, i in order]
    return Table("", ("address", *columns), rows)


def _interval(ends: torch.Tensor) -> str:
    low, high = ends.tolist()
    return f"{low:+.4f} to {high:+.4f}" if low == low else "one prompt"
