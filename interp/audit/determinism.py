"""Section 3: what a number depends on besides the prompt. Each row names the level of determinism
that it checks or reaches.

D0 the same within a tolerance. D1 the same machine and shapes: the same bits. D2 the same machine,
in any company (batch, order, padding, variants of a sweep), with any number of threads: the same
bits. D3 any machine: the same
digits (the float64 reference, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from interp.audit.compare import Gap, compare, groups, total, values
from interp.audit.row import Row, Section
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Patch, Trace, ops, settle
from minigpt.address import heads

# Above some hundred rows, a library's matrix products may sum each row otherwise.
CROWD = 600


def section(model: GPT2, pairs: Prompts) -> Section:
    """The levels, each against the run of all prompts together."""
    batch = lengthened(model.batch(pairs))
    together = model.run(batch)
    rows = [
        Row.bitwise("D1: run again, the same", _same(together, model.run(batch))),
        *_company(model, batch, together),
        *_variants(model, model.run(pairs)),
        *_threads(model, batch, together),
        _fused(model, batch),
    ]
    return Section(
        "determinism",
        "Determinism",
        "A prompt's numbers do not depend on its company, on a CPU. D1: same machine, same "
        "shapes. D2: same machine, any batch, order, padding, number of variants or of threads. "
        "D3: any machine, to ten digits (the float64 row of parity).",
        tuple(rows),
    )


def lengthened(batch: Batch) -> Batch:
    """The prompts, and their own beginnings of 1, 2, 5 and 11 tokens, at which other kernels
    run."""
    tokens = batch.tokens[:1].expand(4, -1)
    lengths = batch.lengths.new_tensor([1, 2, 5, 11]).clamp(max=int(batch.lengths[0]))
    kept = torch.arange(tokens.shape[1]) < lengths[:, None]
    tokens = torch.cat([batch.tokens, tokens * kept.to(tokens)])
    return Batch(tokens, torch.cat([batch.lengths, lengths]))


def picked(batch: Batch, rows: Tensor) -> Batch:
    """Some of the prompts, in this order, no wider than they need."""
    return Batch(batch.tokens[rows, : int(batch.lengths[rows].max())], batch.lengths[rows])


def _company(model: GPT2, batch: Batch, together: Trace) -> Iterator[Row]:
    """The same prompts in other batches."""
    every = torch.arange(len(batch.tokens))
    alone = total(_again(model, batch, together, row[None]) for row in every)
    lengths = f"{len(every)} prompts of {sorted(set(batch.lengths.tolist()))} tokens"
    yield Row.bitwise("D2: alone, the same as in a batch", alone, lengths)
    others = total(_again(model, batch, together, rows) for rows in every.split(3))
    yield Row.bitwise("D2: in a batch of another size, the same", others)
    turned = _again(model, batch, together, every.flip(0))
    yield Row.bitwise("D2: in another order, the same", turned)
    crowd = _crowd(batch)
    gap = _same(model.run(crowd), together, every)
    yield Row.bitwise("D2: in a crowd, the same", gap, f"{int(crowd.lengths.sum())} tokens in all")
    more = min(13, model.config.n_ctx - batch.tokens.shape[1])
    wide = Batch(torch.nn.functional.pad(batch.tokens, (0, more)), batch.lengths)
    gap = _same(together, model.run(wide))
    yield Row.bitwise("D2: padded by more, the same", gap, f"{more} positions more")


def _crowd(batch: Batch) -> Batch:
    """The prompts, again and again, until there are CROWD tokens."""
    times = -(-CROWD // int(batch.lengths.sum()))
    return Batch(batch.tokens.repeat(times, 1), batch.lengths.repeat(times))


def _again(model: GPT2, batch: Batch, together: Trace, rows: Tensor) -> Gap:
    return _same(together, model.run(picked(batch, rows)), rows)


def _same(one: Trace, other: Trace, rows: Tensor | None = None) -> Gap:
    """What differs between prompts `rows` of one run and all prompts of another."""
    rows = torch.arange(len(one.tokens)) if rows is None else rows
    return total(
        compare(values(one, rows[mine]), values(other, mine))
        for mine in groups(other.batch.lengths)
    )


def _variants(model: GPT2, trace: Trace) -> Iterator[Row]:
    """A sweep's values, whatever else is in the sweep."""
    patches = [Patch.zero(str(head)) for head in heads(model.config)][:24]
    many = model.rerun(trace, patches, "out@-1").values
    one = torch.cat([model.rerun(trace, [patch], "out@-1").values for patch in patches])
    back = model.rerun(trace, patches[::-1], "out@-1", budget=1).values.flip(0)
    for what, found in (("one by one", one), ("backwards, in the smallest chunks", back)):
        yield Row.bitwise(
            f"D2: variants of a sweep {what}, the same as all at once",
            compare({"out": many}, {"out": found}),
            f"{len(patches)} variants",
        )


def _threads(model: GPT2, batch: Batch, together: Trace) -> Iterator[Row]:
    """Another number of threads. No promise where products go in blocks because nothing settles
    them."""
    before = torch.get_num_threads()
    for n in (n for n in (1, 2, 4) if n != before):
        with threads(n):
            gap = _same(together, model.run(batch))
        promise = f"D2: with {n} thread{'s' * (n > 1)} instead of {before}, the same"
        if ops.cut_of(model.params.wte) == settle.BLOCKS:
            yield Row.told(promise, f"{'D2' if not gap.differ else 'D0'} reached: {gap}")
        else:
            yield Row.bitwise(promise, gap)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """So many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fused(model: GPT2, batch: Batch) -> Row:
    """sdpa's kernels promise nothing in float64: the level that they reach here is told."""
    fused = replace(model.to(dtype=torch.float64), attend=ops.sdpa)
    together = fused.run(batch)
    gap = total(
        _again(fused, batch, together, row[None]) for row in torch.arange(len(batch.tokens))
    )
    return Row.told(
        "float64 with sdpa attention, alone against in a batch",
        f"{'D2' if not gap.differ else 'D0'} reached: {gap}",
        value=gap.absolute,
    )
