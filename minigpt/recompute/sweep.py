"""Many patches, giving one value of each, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from minigpt import ops
from minigpt.address import Address, Site
from minigpt.device import limits, sent
from minigpt.errors import AddressError
from minigpt.names import parse
from minigpt.patch import Patch
from minigpt.progress import COUNTED
from minigpt.receipt import Receipt
from minigpt.recompute.forward import Recalculation
from minigpt.recompute.plan import plan
from minigpt.recompute.rerun import full_flops, warn_of_no_effect
from minigpt.shown import ROWS, Row, Shown
from minigpt.trace import Trace


@dataclass(eq=False)
class Sweep(Shown):
    """One value for each of many patches: sweep.values [variant, batch, ...], or sweep.map(f) of
    each chunk's values.

    Of several wanted addresses, [variant, address, batch, ...].

    Nothing is computed before it is asked for. What was computed when a sweep is interrupted is
    kept: asking again goes on there.
    """

    trace: Trace
    patches: Sequence[Patch]
    want: tuple[Address, ...]
    budget: int | None = None
    progress: bool = False
    receipt: Receipt = field(default_factory=Receipt)
    _kept: dict[object, list[Tensor]] = field(default_factory=dict)
    writes: dict[Site, Tensor] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        done = max((sum(map(len, kept)) for kept in self._kept.values()), default=0)
        wanted = ", ".join(map(str, self.want))
        return f"Sweep({wanted} after {len(self)} patches, {done} computed)"

    def _table(self) -> Iterator[Row]:
        yield "", "patch"
        yield from enumerate(self.patches[:ROWS])

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def values(self) -> Float[Tensor, "variant batch *rest"]:
        """All of them at once."""
        return self.map(_same)

    def map(self, read: Callable[[Tensor], Tensor]) -> Tensor:
        """read of the values [variants of a chunk, batch, ...], put together; the values themselves
        need not fit into memory."""
        kept = self._kept.setdefault(read, [])
        done = sum(len(x) for x in kept)
        show = {"unit": "patch", "bar_format": COUNTED, "disable": not self.progress, "delay": 1.0}
        with tqdm(total=len(self), initial=done, **show) as bar:
            for values in self._from(done):
                kept.append(read(values))
                bar.update(len(values))
        if self.patches and not self.receipt.changed:
            warn_of_no_effect(
                f"none of {len(self)} patches changed anything, the first being {self.patches[0]}"
            )
        return torch.cat(kept) if kept else read(self._empty())

    def _empty(self) -> Tensor:
        return self.trace[self.want[0]][None][:0]

    @torch.no_grad()
    def _from(self, start: int) -> Iterator[Tensor]:
        rows = int(self.trace.batch.lengths.sum())
        size = max(1, limits(self.trace.tokens.device).sweep_rows // rows)
        while start < len(self):
            chunk = self.patches[start : start + size]
            values, calc = _chunk(self, chunk)
            self.receipt += calc.receipt
            start += len(chunk)
            yield values
            size = self._next_size(size, len(chunk), calc.most)

    def _next_size(self, size: int, variants: int, most: int) -> int:
        """As many variants as make products of a good size, within the budget; never many times
        more than were seen to fit."""
        each = max(1.0, most / variants)
        config, of = self.trace.config, limits(self.trace.tokens.device)
        fit = (of.budget if self.budget is None else self.budget) / (
            each * self.trace.params.wte.element_size() * (8 * config.d_model + 3 * config.d_mlp)
        )
        return max(1, int(min(of.sweep_rows / each, fit, 8 * size)))


def _same(x: Tensor) -> Tensor:
    return x


def sweep(
    trace: Trace,
    patches: Sequence[Patch],
    want: str | Sequence[str],
    budget: int | None = None,
    progress: bool = False,
) -> Sweep:
    """A Sweep of what is at `want` after each patch: a stream point, what an MLP reads, or "out",
    with a position or at all; or several of these."""
    texts = [want] if isinstance(want, str) else want
    addresses = tuple(parse(text, trace.config) for text in texts)
    for address in addresses:
        if address.site.role != "stream" and address.site.kind not in ("in", "out"):
            raise AddressError(
                f"want='{address}' of many patches",
                "a stream point such as resid9@END, m3.in@-1 or out@-1",
                f"model.rerun(trace, patch)['{address}'] for one patch",
            )
    return Sweep(trace, list(patches), addresses, budget, progress)


def _chunk(sweep: Sweep, patches: Sequence[Patch]) -> tuple[Tensor, Recalculation]:
    """The wanted values of some of a sweep's patches, and how they were calculated."""
    trace = sweep.trace
    rows = [_rows(trace, address) for address in sweep.want]
    asked = [
        (address.site, ids[_inside(trace, ids)])
        for address, ids in zip(sweep.want, rows, strict=True)
    ]
    calc = Recalculation(plan(trace, patches, sweep.writes), asked)
    calc.receipt.full_flops = len(patches) * full_flops(trace)
    values = [_read(calc, address, ids) for address, ids in zip(sweep.want, rows, strict=True)]
    return values[0] if len(values) == 1 else torch.stack(values, 1), calc


def _rows(trace: Trace, address: Address) -> Int[Tensor, "rows"]:
    """The rows of one run at a position of each prompt, or all."""
    batch, width = trace.tokens.shape
    if address.at is None:
        return torch.arange(batch * width)
    return torch.arange(batch) * width + trace.batch.places(address.at)


def _inside(trace: Trace, rows: Int[Tensor, "rows"]) -> Bool[Tensor, "rows"]:
    """Which rows belong to prompts, not to what shorter ones are filled up with."""
    width = trace.tokens.shape[1]
    return rows % width < trace.batch.lengths[rows // width]


def _read(calc: Recalculation, address: Address, rows: Int[Tensor, "rows"]) -> Tensor:
    """A stream point, or what an MLP or the unembedding reads, of every variant at these rows."""
    plan, trace = calc.plan, calc.trace
    ids = (torch.arange(plan.variants)[:, None] * plan.n + rows).flatten()
    x = calc.points[address.site].over(trace.stream(address.site).flatten(0, 1), ids).clone()
    if address.site.kind == "in":
        block = trace.params.blocks[address.site.depth]
        x = ops.layer_norm(x, block.ln2_w, block.ln2_b, trace.config.eps)
    if address.site.kind == "out":
        x = ops.layer_norm(x, trace.params.ln_w, trace.params.ln_b, trace.config.eps)
        for override in calc.edits.overrides.get(Site("out.b"), []):
            hit = torch.isin(ids, override.ids)
            x[sent(hit.nonzero().flatten(), x)] += override.at(ids[hit]) - trace.params.ln_b
    if trace.batch.ragged and address.at is None:
        x = x.masked_fill(sent(~_inside(trace, ids % plan.n), x)[:, None], torch.nan)
    places = () if address.at is not None else (trace.tokens.shape[1],)
    return x.view(plan.variants, len(trace.tokens), *places, x.shape[-1])
