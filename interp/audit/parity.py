"""Section 1: the same numbers as Hugging Face's model, bit for bit, and as the float64 reference,
to ten digits.

The outsiders are built from `against`, the parameters that the model is supposed to have: its own,
unless others are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.audit import measures, oracle
from interp.audit.compare import compare, groups, total, values
from interp.audit.determinism import threads
from interp.audit.huggingface import MISSING, HuggingFace, at_hand
from interp.audit.row import Row, Section
from interp.numerics import ulp
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Params, Trace, ops
from minigpt.settle import Cut, is_plain

ATTENTION = {"eager": ops.eager, "sdpa": ops.sdpa}
# How far float64 numbers may be from the reference's, relative to the largest of their kind.
DIGITS = 1e-10
LEAST = Cut().least


def section(
    model: GPT2, pairs: Prompts, against: Params | None = None, *, outside: bool = True
) -> Section:
    """Rows for both kinds of attention, for the reference, and what float32 costs. outside=False
    leaves Hugging Face out."""
    params, batch = against or model.params, model.batch(pairs)
    rows: list[Row] = []
    for kind in ATTENTION:
        asked = outside and at_hand()
        rows += _theirs(model, params, batch, kind) if asked else _skipped(kind, outside)
    run = oracle.run(params, batch)
    exact = [oracle.values(run, i) for i in range(len(batch.tokens))]
    rows += [_double(model, batch, exact), _kinds(model, batch), _rounding(model, batch, exact)]
    return Section(
        "parity",
        "Parity",
        "The same operations on the same shapes give Hugging Face's very bits; another program, "
        "in NumPy and float64, gives the same numbers.",
        tuple(rows),
        _data(model, batch, exact),
    )


# ---- Hugging Face


def _theirs(model: GPT2, params: Params, batch: Batch, kind: str) -> Iterator[Row]:
    """forward's logits when called plainly, and every value of run where that can be asked."""
    ours, theirs = replace(model, attend=ATTENTION[kind]), HuggingFace(params, kind)
    by_length = list(groups(batch.lengths))
    shapes = [batch.tokens[rows, : int(batch.lengths[rows[0]])] for rows in by_length]
    yield _logits(ours, theirs, shapes, kind)
    yield _values(ours, theirs, batch, list(zip(by_length, shapes, strict=True)), kind)


def _logits(ours: GPT2, theirs: HuggingFace, shapes: Sequence[Tensor], kind: str) -> Row:
    plain = [*shapes, shapes[-1][:1], shapes[-1][:1, :1], shapes[-1][:, :1]]
    gap = total(
        compare({"logits": ours.forward(tokens)}, {"logits": theirs.logits(tokens)})
        for tokens in plain
    )
    promise = f"forward's logits are Hugging Face's, {kind} attention"
    return Row.bitwise(promise, gap, f"{len(plain)} shapes, from one token up")


def _values(
    ours: GPT2,
    theirs: HuggingFace,
    batch: Batch,
    shapes: Sequence[tuple[Tensor, Tensor]],
    kind: str,
) -> Row:
    """Of the prompts of each length that come to enough tokens. On one thread, with which Hugging
    Face's products sum each row as they do in any company."""
    settled = [(rows, tokens) for rows, tokens in shapes if _settled(ours, tokens)]
    trace = ours.run(batch)
    with threads(1):
        gap = total(compare(values(trace, rows), theirs(tokens)) for rows, tokens in settled)
    promise = f"run's every node and stream point is Hugging Face's, {kind} attention"
    how = (
        f"{len(settled)} of {len(shapes)} batches have the {LEAST} tokens from which on Hugging "
        "Face's own products are settled; these are on one thread"
    )
    if not settled:
        why = f"no prompts of one length come to {LEAST} tokens, or this processor's own products"
        return Row.skipped(promise, f"{why} of these widths depend on the number of rows", how)
    return Row.bitwise(promise, gap, how)


def _skipped(kind: str, outside: bool) -> list[Row]:
    why = MISSING if outside else "left out, by --against none"
    return [
        Row.skipped(f"{what}, {kind} attention", why)
        for what in (
            "forward's logits are Hugging Face's",
            "run's every node and stream point is Hugging Face's",
        )
    ]


def _settled(model: GPT2, tokens: Tensor) -> bool:
    """Whether Hugging Face's own products, of so many tokens on one thread, give each the bits that
    it has in any company: what is then to be found in ours."""
    rows, block = tokens.numel(), model.params.blocks[0]
    products = (block.w_qkv, block.w_o, block.w_in, block.w_out, model.params.unembed.T)
    if rows < LEAST or (model.dtype != torch.float32 and rows % 4):
        return False
    with threads(1):
        return all(is_plain(w, rows) for w in products)


# ---- the float64 reference


def _double(model: GPT2, batch: Batch, exact: list[dict[str, Tensor]]) -> Row:
    gaps = _far(model.to(dtype=torch.float64).run(batch), exact)
    worst = max(gaps, key=lambda name: gaps[name])
    return Row.under(
        "in float64 every node and stream point is the reference's (level D3: any machine)",
        gaps[worst],
        DIGITS,
        f"{len(gaps)} points of {len(exact)} prompts; relative to the largest number of each point",
        f"worst at {worst}",
    )


def _far(trace: Trace, exact: list[dict[str, Tensor]]) -> dict[str, float]:
    """The largest difference at each point, relative to its largest number, over prompts; points in
    the order of computing."""
    mine = [values(trace, torch.tensor([i])) for i in range(len(exact))]
    return {
        name: max(oracle.relative(m[name], x[name]) for m, x in zip(mine, exact, strict=True))
        for name in mine[0]
        if name in exact[0]
    }


def _rounding(model: GPT2, batch: Batch, exact: list[dict[str, Tensor]]) -> Row:
    """What the model's own type costs: no promise, since it depends on the model."""
    logits, right = (
        model.run(batch).logits.cpu()[batch.mask.cpu()],
        torch.cat([x["logits"][0] for x in exact]),
    )
    ulps = ulp.error(logits, right)
    return Row.told(
        f"{str(model.dtype)[6:]} logits against the reference",
        f"{_apart(logits, right)}; median {float(ulps.median()):.0f} ULP, worst "
        f"{float(ulps.max()):,.0f} (of a logit near 0)",
        value=float((logits.double() - right).abs().max()),
    )


def _kinds(model: GPT2, batch: Batch) -> Row:
    """How far Hugging Face's two kinds of attention are from each other: what is within its own
    freedom."""
    eager, sdpa = (replace(model, attend=attend).run(batch) for attend in (ops.eager, ops.sdpa))
    gap = total(compare(values(sdpa, rows), values(eager, rows)) for rows in groups(batch.lengths))
    a, b = (trace.logits[batch.mask] for trace in (sdpa, eager))
    return Row.told(
        "sdpa attention against eager", f"{gap}; logits {_apart(a, b)}", value=gap.absolute
    )


def _apart(logits: Tensor, right: Tensor) -> str:
    return (
        f"off by {float((logits.double() - right.double()).abs().max()):.1e}, KL "
        f"{float(measures.kl(logits, right).max()):.1e} nats, "
        f"{measures.flips(logits, right)} of {len(logits)} top tokens flip"
    )


# ---- pictures


def _data(model: GPT2, batch: Batch, exact: list[dict[str, Tensor]]) -> dict[str, Any]:
    trace = model.run(batch)
    ulps = ulp.error(
        trace.logits.cpu()[batch.mask.cpu()], torch.cat([x["logits"][0] for x in exact])
    ).flatten()
    counts = torch.bincount(ulps.clamp(min=1).log2().floor().long().clamp(max=30))
    return {
        "dtype": str(model.dtype)[6:],
        "relative_error": _far(trace, exact),
        "logit_ulps_log2": counts.tolist(),
    }
