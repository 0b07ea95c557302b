"""The two ways to run again: one patch, giving a whole trace; many patches, giving one value of
each, chunk by chunk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from minigpt import ops
from minigpt.address import Address, Site, parse
from minigpt.errors import AddressError, NoEffectWarning, problem
from minigpt.patch import Patch
from minigpt.receipt import Receipt
from minigpt.recompute.forward import Changed, Recalculation
from minigpt.recompute.lower import plan
from minigpt.recompute.plan import Plan
from minigpt.recompute.rows import Rows
from minigpt.trace import Cells, Override, Trace

BUDGET = 2 * 2**30
# Rows that one product should have: enough to run at full speed, few enough to stay in the caches.
GOOD_ROWS = 2048


@torch.no_grad()
def rerun(trace: Trace, patch: Patch) -> Trace:
    """The run after one patch: every value recomputed that it reaches, all others shared with the
    run that was patched."""
    made = plan(trace, [patch])
    calc = Recalculation(made)
    cells = tuple(_cells(old, new) for old, new in zip(trace.cells, calc.layers, strict=True))
    shape = trace.cells[0].resid.shape
    cells = (
        *cells[:-1],
        replace(
            cells[-1], out=_scatter(cells[-1].out, calc.found[Site("resid", trace.config.n_layer)])
        ),
    )
    calc.receipt.full_flops = full_flops(trace)
    if patch and not calc.receipt.changed:
        _warn(str(patch))
    ports = {
        site: _scatter(trace_stream(trace, cells, site), rows)
        for site, many in calc.edits.ports.items()
        for rows in many
    }
    return Trace(
        trace.params,
        trace.batch,
        cells,
        calc.receipt,
        {**trace.overrides, **_overrides(calc, shape)},
        {**trace.ports, **ports},
    )


def trace_stream(trace: Trace, cells: tuple[Cells, ...], site: Site) -> Tensor:
    """The stream that a port reads in these cells."""
    return Trace(trace.params, trace.batch, cells).stream(site)


def _cells(old: Cells, new: Changed) -> Cells:
    return Cells(**{name: _scatter(x, getattr(new, name)) for name, x in vars(old).items()})


def _scatter(old: Tensor, rows: Rows) -> Tensor:
    """The tensor with some rows replaced; itself where there are none."""
    if not len(rows.ids):
        return old
    new = old.clone()
    new.view(-1, *old.shape[2:])[rows.ids] = rows.x
    return new


def _overrides(calc: Recalculation, shape: torch.Size) -> dict[Site, Override]:
    found = {}
    for site, many in calc.edits.overrides.items():
        where = torch.zeros(shape[0] * shape[1], dtype=torch.bool, device=many[0].x.device)
        values = many[0].x.new_zeros(shape[0] * shape[1], *many[0].x.shape[1:])
        for rows in many:
            where[rows.ids], values[rows.ids] = True, rows.x
        found[site] = Override(where.view(shape[:2]), values.view(*shape[:2], *values.shape[1:]))
    return found


def _warn(what: str) -> None:
    warnings.warn(
        NoEffectWarning(
            f"the patch changed nothing: {what}: at every row that it names, the run already had "
            "these values"
        ),
        stacklevel=4,
    )


@dataclass(eq=False)
class Sweep:
    """One value for each of many patches: sweep.values [variant, batch, ...], or sweep.map(f) of
    each chunk's values.

    Of several wanted addresses, [variant, address, batch, ...].

    Nothing is computed before it is asked for. What was computed when a sweep is interrupted is
    kept: asking again goes on there.
    """

    trace: Trace
    patches: Sequence[Patch]
    want: tuple[Address, ...]
    budget: int = BUDGET
    progress: bool = False
    receipt: Receipt = field(default_factory=Receipt)
    _kept: dict[object, list[Tensor]] = field(default_factory=dict)
    _writes: dict[Site, Tensor] = field(default_factory=dict)

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
        with tqdm(
            total=len(self), initial=done, unit="patch", disable=not self.progress, delay=1.0
        ) as bar:
            for values in self._from(done):
                kept.append(read(values))
                bar.update(len(values))
        if self.patches and not self.receipt.changed:
            _warn(
                f"none of {len(self)} patches changed anything, the first being {self.patches[0]}"
            )
        return torch.cat(kept) if kept else read(self._empty())

    def _empty(self) -> Tensor:
        return self.trace[self.want[0]][None][:0]

    @torch.no_grad()
    def _from(self, start: int) -> Iterator[Tensor]:
        rows = int(self.trace.batch.lengths.sum())
        size = max(1, GOOD_ROWS // rows)
        while start < len(self):
            made = plan(self.trace, self.patches[start : start + size], self._writes)
            values, most, receipt = _chunk(made, self.want)
            receipt.full_flops = made.variants * full_flops(self.trace)
            self.receipt += receipt
            start += made.variants
            yield values
            size = self._next_size(size, made.variants, most)

    def _next_size(self, size: int, variants: int, most: int) -> int:
        """As many variants as make products of a good size, within the budget; never many times
        more than were seen to fit."""
        each = max(1.0, most / variants)
        config = self.trace.config
        fit = self.budget / (
            each * self.trace.params.wte.element_size() * (8 * config.d_model + 3 * config.d_mlp)
        )
        return max(1, int(min(GOOD_ROWS / each, fit, 8 * size)))


def _same(x: Tensor) -> Tensor:
    return x


def sweep(
    trace: Trace,
    patches: Sequence[Patch],
    want: str | Sequence[str],
    budget: int = BUDGET,
    progress: bool = False,
) -> Sweep:
    """A Sweep of what is at `want` after each patch: a stream point or "out", with a position or at
    all; or several of these."""
    found = tuple(parse(text, trace.config) for text in ([want] if isinstance(want, str) else want))
    for each in found:
        if each.site.role != "stream" and each.site.kind != "out":
            raise AddressError(
                problem(
                    f"want='{each}' of many patches",
                    "a stream point such as resid9@END, or out@-1",
                    f"model.rerun(trace, patch)['{each}'] for one patch",
                )
            )
    return Sweep(trace, list(patches), found, budget, progress)


def _chunk(made: Plan, want: Sequence[Address]) -> tuple[Tensor, int, Receipt]:
    """The wanted values of every variant of a plan; the most rows that a product had; the bill."""
    rows = [_rows(made, address) for address in want]
    calc = Recalculation(
        made,
        [
            (address.site, each[_inside(made, each)])
            for address, each in zip(want, rows, strict=True)
        ],
    )
    values = [_wanted(calc, address, each) for address, each in zip(want, rows, strict=True)]
    return values[0] if len(want) == 1 else torch.stack(values, 1), calc.most, calc.receipt


def _rows(made: Plan, address: Address) -> Tensor:
    """The rows of one run at a position of each prompt, or all."""
    tokens = made.trace.tokens
    each = torch.arange(len(tokens), device=tokens.device) * made.width
    if address.at is None:
        return (each[:, None] + torch.arange(tokens.shape[1], device=each.device)).flatten()
    return each + made.trace.batch.index(address.at)


def _inside(made: Plan, rows: Tensor) -> Tensor:
    return rows % made.width < made.trace.batch.lengths[rows // made.width]


def _wanted(calc: Recalculation, address: Address, rows: Tensor) -> Tensor:
    """A stream point, or what the unembedding reads, of every variant at these rows."""
    made, trace = calc.plan, calc.trace
    ids = (torch.arange(made.variants, device=rows.device)[:, None] * made.n + rows).flatten()
    x = calc.found[address.site].over(trace.stream(address.site).flatten(0, 1), ids).clone()
    if address.site.kind == "out":
        x = ops.layer_norm(x, trace.params.ln_w, trace.params.ln_b, trace.config.eps)
        for override in calc.edits.overrides.get(Site("out.b"), []):
            hit = torch.isin(ids, override.ids)
            x[hit] += override.at(ids[hit]) - trace.params.ln_b
    if trace.batch.ragged and address.at is None:
        x = x.masked_fill(~_inside(made, ids % made.n)[:, None], torch.nan)
    places = () if address.at is not None else (trace.tokens.shape[1],)
    return x.view(made.variants, len(trace.tokens), *places, x.shape[-1])


def full_flops(trace: Trace) -> int:
    """Arithmetic of the products of one full run over all prompts, without the unembedding."""
    c = trace.config
    rows, squares = int(trace.batch.lengths.sum()), int((trace.batch.lengths**2).sum())
    return c.n_layer * (
        2 * rows * (4 * c.d_model**2 + 2 * c.d_model * c.d_mlp) + 4 * squares * c.d_model
    )
