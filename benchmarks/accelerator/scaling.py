"""What more rows at once are worth: products, passes and a sweep, from one prompt to thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.accelerator.bench import Bench, Product
from benchmarks.accelerator.report import Row
from benchmarks.setting import metric, pairs
from interp import patching
from interp.effects import Effects
from minigpt import ops

T = TypeVar("T")
# Senders of the sweep: enough variants that several go into one product.
SENDERS = 12


def scaling(bench: Bench) -> Iterator[Row]:
    """A row for each number of prompts; empty where the device's memory does not hold it."""
    for prompts in bench.sizes.prompts:
        rows = prompts * bench.sizes.length
        yield {
            "prompts": prompts,
            "rows": rows,
            **_products(bench, rows),
            **_passes(bench, prompts),
            **_sweep(bench, prompts),
        }


def _products(bench: Bench, rows: int) -> Row:
    """Speeds of an MLP's two products: the library's own, and ours in settled blocks."""
    kinds: dict[str, Product] = {"plain": torch.mm, "settled": ops.settled}
    return {
        f"{kind} {name}, TFLOP/s": within_memory(
            bench, partial(_teraflops, bench, rows, product, name == "wide")
        )
        for name in ("wide", "back")
        for kind, product in kinds.items()
    }


def _teraflops(bench: Bench, rows: int, product: Product, wide: bool) -> float:
    return bench.product(rows, product, wide) / 1e12


def _passes(bench: Bench, prompts: int) -> Row:
    """Tokens a second: logits and nothing kept; everything kept and no logits."""
    tokens = bench.tokens(prompts, bench.sizes.length)
    calls = {"forward": bench.model.forward, "run": bench.model.run}
    return {
        f"{name}, tokens/s": within_memory(bench, partial(_speed, bench, call, tokens))
        for name, call in calls.items()
    }


def _speed(bench: Bench, call: Callable[[Tensor], object], tokens: Tensor) -> float:
    return tokens.numel() / _median(bench, lambda: call(tokens))


def _sweep(bench: Bench, prompts: int) -> Row:
    """Variants times pairs a second, of paths from a middle layer's heads to the output."""
    config = bench.model.config
    given = pairs(prompts, bench.sizes.length, [bench.sizes.length // 2])
    heads = range(min(SENDERS, config.n_head))
    senders = [f"a{config.n_layer // 2}.{head}" for head in heads]

    def sweep() -> Effects:
        return patching.paths(bench.model, given, metric(given), senders)

    taken = within_memory(bench, lambda: _median(bench, sweep))
    return {"sweep, variants x pairs/s": taken and prompts * len(senders) / taken}


def _median(bench: Bench, call: Callable[[], object]) -> float:
    return bench.race({"": call})[""].median


def within_memory(bench: Bench, measure: Callable[[], T]) -> T | None:
    """What is measured, or None where the device's memory is too small."""
    bench.clear()
    try:
        return measure()
    except torch.OutOfMemoryError:
        return None
