"""One patch, giving a whole trace: what it reaches recomputed, everything else shared with the run
that was patched."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from minigpt.address import Site
from minigpt.device import sent
from minigpt.errors import NoEffectWarning
from minigpt.patch import Patch
from minigpt.recompute.forward import Changed, Recalculation
from minigpt.recompute.plan import plan
from minigpt.recompute.rows import Rows
from minigpt.trace import Cells, Override, Trace


@torch.inference_mode()
def rerun(trace: Trace, patch: Patch) -> Trace:
    """The run after one patch: every value recomputed that it reaches, all others shared with the
    run that was patched."""
    calc = Recalculation(plan(trace, [patch]))
    calc.receipt.full_flops = full_flops(trace)
    if patch and not calc.receipt.changed:
        warn_of_no_effect(str(patch))
    cells = _cells(trace, calc)
    pairs = {site: _override(trace, many) for site, many in calc.edits.pairs.items()}
    overrides = {site: _override(trace, many) for site, many in calc.edits.overrides.items()}
    return Trace(
        trace.params,
        trace.batch,
        cells,
        calc.receipt,
        {**_still(trace.overrides, calc), **overrides},
        {site: _saw(trace, site, calc) for site in {**trace.ports, **calc.edits.ports}},
        {**_still(trace.pairs, calc), **pairs},
    )


def full_flops(trace: Trace) -> int:
    """Arithmetic of the products of one full run over all prompts, without the unembedding."""
    c = trace.config
    rows, squares = int(trace.batch.lengths.sum()), int((trace.batch.lengths**2).sum())
    products = 2 * rows * (4 * c.d_model**2 + 2 * c.d_model * c.d_mlp)
    return c.n_layer * (products + 4 * squares * c.d_model)


def warn_of_no_effect(what: str) -> None:
    """NoEffectWarning: whoever writes a patch means to change something."""
    warnings.warn(
        NoEffectWarning(
            f"the patch changed nothing: {what}: at every row that it names, the run already had "
            "these values"
        ),
        stacklevel=4,
    )


def _still(edited: Mapping[Site, Override], calc: Recalculation) -> dict[Site, Override]:
    """What earlier edits wrote, but where it is computed anew."""
    still = {}
    for site, override in edited.items():
        rows = override.rows.clone()
        rows.view(-1)[sent(calc.anew(site), rows)] = False
        still[site] = Override(rows, override.values)
    return still


def _saw(trace: Trace, site: Site, calc: Recalculation) -> Float[Tensor, "batch pos d_model"]:
    """What a port saw, or a dictionary of a stream point: as before, or the stream as it is now, or
    what edits show it."""
    x = trace.stream(site) if site.is_latent else _scatter(trace.stream(site), calc.passes(site))
    for rows in calc.edits.ports.get(site, ()):
        x = _scatter(x, rows)
    return x


def _cells(trace: Trace, calc: Recalculation) -> tuple[Cells, ...]:
    """Each layer's cells with what changed; the last one's end is the stream after its own
    edits."""
    cells = [_laid(old, new) for old, new in zip(trace.cells, calc.layers, strict=True)]
    last = calc.points[Site("resid", trace.config.n_layer)]
    return (*cells[:-1], replace(cells[-1], out=_scatter(trace.cells[-1].out, last)))


def _laid(old: Cells, new: Changed) -> Cells:
    return Cells(**{name: _scatter(x, getattr(new, name)) for name, x in vars(old).items()})


def _scatter(old: Tensor, rows: Rows) -> Tensor:
    """The tensor with some rows replaced; itself where there are none."""
    if not len(rows.ids):
        return old
    new = old.clone()
    new.view(-1, *old.shape[2:])[sent(rows.ids, new)] = rows.x
    return new


def _override(trace: Trace, many: list[Rows]) -> Override:
    """The rows that edits wrote, as a mask and values over all [batch, pos]."""
    shape, like = trace.tokens.shape, many[0].x
    where = torch.zeros(trace.tokens.numel(), dtype=torch.bool)
    values = like.new_zeros(len(where), *like.shape[1:])
    for rows in many:
        where[rows.ids], values[sent(rows.ids, values)] = True, rows.x
    return Override(sent(where, values).view(shape), values.view(*shape, *values.shape[1:]))
