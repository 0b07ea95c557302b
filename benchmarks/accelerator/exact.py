"""Whether the numbers are right: against transformers, against the patched pass written out in
full, and against themselves in other company.

What must hold has a column "holds". On a card no bits are promised: rows say how far apart two
computations are, and only more than rounding is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.accelerator.bench import Bench
from benchmarks.accelerator.report import Row
from benchmarks.setting import AGREE, metric, pairs
from interp import patching
from interp.audit import dense, patches
from interp.audit.compare import Gap, compare, values
from interp.audit.huggingface import HuggingFace
from interp.audit.parity import ATTENTION
from interp.effects import Effects
from interp.numerics import bounds
from minigpt import GPT2, Batch, Patch, Trace, ops

# Prompts of the checks against the dense pass.
SOME = 4


# ---- transformers


def parity(bench: Bench) -> Iterator[Row]:
    """Logits and every node against transformers' model on the same tensors, for both kinds of
    attention and every shape."""
    for kind, attend in ATTENTION.items():
        ours = replace(bench.model, attend=attend)
        theirs = HuggingFace(ours.params, kind)
        for batch, length in bench.sizes.shapes:
            what = f"{kind}, {batch} x {length}"
            yield from _parity(what, ours, theirs, bench.tokens(batch, length))
            bench.clear()


def _parity(what: str, ours: GPT2, theirs: HuggingFace, tokens: Tensor) -> Iterator[Row]:
    yield apart(
        f"forward's logits, {what}",
        compare({"logits": ours.forward(tokens)}, {"logits": theirs.logits(tokens)}),
    )
    trace, seen = ours.run(tokens), theirs(tokens)
    yield apart(f"run's nodes and streams, {what}", compare(values(trace), seen))
    yield _bounded(f"run's logits, {what}", trace.logits, seen["logits"], _logits(trace, seen))
    yield _products(f"products of their inputs, {what}", ours, seen)
    exact = ours.to(dtype=torch.float64).run(tokens).logits
    yield {
        "what": f"from float64's logits, {what}",
        "max abs": _far(trace.logits, exact),
        "theirs": _far(seen["logits"], exact),
    }


def _logits(trace: Trace, seen: dict[str, Tensor]) -> Tensor:
    """How far apart two unembeddings may be: each by its own rounding, and by what their inputs
    differ."""
    w, mine, other = trace.params.unembed.T, trace["out"], seen["out"]
    moved = (mine.double() - other.double()).abs() @ w.double().abs()
    return bounds.product(mine, w, w.dtype) + bounds.product(other, w, w.dtype) + moved


def _products(what: str, model: GPT2, seen: dict[str, Tensor]) -> Row:
    """Our products of transformers' own inputs against its products: the worst of all layers."""
    rows = [
        _bounded(what, ops.settled(x, w, b), seen[name], 2 * bounds.product(x, w, x.dtype, b))
        for layer, block in enumerate(model.params.blocks)
        for name, x, w, b in (
            (f"a{layer}", seen[f"a{layer}.z"], block.w_o, block.b_o),
            (f"m{layer}", seen[f"act(m{layer})"], block.w_out, block.b_out),
        )
    ]
    return max(rows, key=lambda row: row["of the bound"])


def _bounded(what: str, mine: Tensor, theirs: Tensor, bound: Tensor) -> Row:
    """A difference held to an a-priori bound, number by number: Higham's, of the products that
    made both."""
    used = float(((mine.double() - theirs.double()).abs() / bound).max())
    return {
        **apart(what, compare({"": mine}, {"": theirs})),
        "bound": float(bound.max()),
        "of the bound": used,
        "holds": used <= 1,
    }


def _far(x: Tensor, exact: Tensor) -> float:
    return float((x.double() - exact).abs().max())


# ---- the dense pass


def dense_pass(bench: Bench) -> Iterator[Row]:
    """A rerun of each kind of patch against the pass with that patch written out in full; then a
    sweep of all against each alone."""
    model = bench.model
    clean, corrupt = (model.run(bench.tokens(SOME, bench.sizes.length, seed)) for seed in (1, 2))
    cases = patches.kinds(model.config, clean, corrupt)
    for name, patch in cases.items():
        full = dense.patched(model, clean, patch)
        mine = patches.rerun_points(model, clean, patch)
        yield _agreeing(bench, name, mine, patches.points(model.config, full, clean.batch))
    many = model.rerun(clean, list(cases.values()), "out@-1").values
    alone = torch.stack([model.rerun(clean, patch)["out@-1"] for patch in cases.values()])
    yield _agreeing(bench, "all of them in one sweep, against each alone", {"": many}, {"": alone})


def _agreeing(bench: Bench, what: str, mine: dict[str, Tensor], other: dict[str, Tensor]) -> Row:
    """Two computations that must give the same: the same bits on a CPU, the same but for rounding
    on a card."""
    gap = compare(mine, other)
    relative = gap.absolute / max(float(x.abs().max()) for x in other.values())
    return {
        **apart(what, gap),
        "relative": relative,
        "holds": gap.differ == 0 if bench.device.type == "cpu" else relative <= AGREE,
    }


# ---- themselves


def determinism(bench: Bench) -> Iterator[Row]:
    """The same twice, and the same prompt in batches of other sizes. Nothing is promised."""
    sizes, model = bench.sizes, bench.model
    tokens = bench.tokens(max(sizes.company), sizes.length)
    some = tokens[: sizes.pairs]
    yield apart("run again", _same(model, some, some))
    yield from _again(bench)
    for batch in sizes.company:
        yield apart(f"alone, and in a batch of {batch}", _same(model, tokens[:1], tokens[:batch]))
        bench.clear()
    yield apart("alone, and beside a longer prompt", _same(model, tokens[:1], _ragged(some)))


def _ragged(tokens: Tensor) -> Batch:
    """The prompts, and beside them one of twice their length."""
    batch, length = tokens.shape
    rows = torch.cat([F.pad(tokens, (0, length)), tokens[:1].repeat(1, 2)])
    lengths = torch.tensor([length] * batch + [2 * length], device=tokens.device)
    return Batch(rows, lengths)


def _same(model: GPT2, one: Tensor, other: Tensor | Batch) -> Gap:
    """What differs between the prompts of one batch and the first as many of another."""
    rows = torch.arange(len(one), device=one.device)
    return compare(values(model.run(one)), values(model.run(other), rows))


def _again(bench: Bench) -> Iterator[Row]:
    """A rerun and a sweep, twice each."""
    model, given = bench.model, pairs(bench.sizes.pairs, bench.sizes.length, [3, 8, 11])
    clean, corrupt = model.run(given), model.run(given.corrupted)
    patch = Patch.write("a0.0", corrupt)

    def rerun() -> Tensor:
        return model.rerun(clean, patch).logits

    def sweep() -> Effects:
        return patching.paths(model, given, metric(given))

    yield apart("rerun again", _twice(rerun))
    yield apart("sweep of paths to the output again", _twice(lambda: sweep().per_prompt))


def _twice(call: Callable[[], Tensor]) -> Gap:
    return compare({"": call()}, {"": call()})


def apart(what: str, gap: Gap) -> dict[str, Any]:
    """A comparison as a row."""
    return {
        "what": what,
        "numbers": gap.size,
        "differ": gap.differ,
        "max abs": gap.absolute,
        "max ULP": gap.ulps,
        "first": gap.first,
    }
