"""What a source has for a node, a stream, a pattern or a z, read at rows of the run that is
patched; and whether the two fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt.address import Address, Site
from minigpt.device import sent
from minigpt.errors import PatchError
from minigpt.patch.edit import Edit, Source, own_value
from minigpt.recompute.rows import taken
from minigpt.trace import Trace

At = int | str | None
# Values at rows of one run, by their numbers in it: [rows] -> [rows, ...].
Values = Callable[[Int[Tensor, "rows"]], Tensor]


class Reader:
    """Reads the sources of patches on one trace. Means, and writes that are products, are computed
    once."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._kept: dict[tuple[Source, str], Tensor] = {}

    def cell(
        self, source: Source, name: str, layer: int, columns: slice, at: At = None
    ) -> Float[Tensor, "n columns"]:
        """Columns of a layer's z or activations in a run, or its mean (at a position), at every
        row; or a number."""
        own = getattr(self.trace.cells[layer], name)
        if source.run is None:
            number: Tensor = own.new_full((), source.number or 0.0)
            return number.expand(own.shape).flatten(0, 1)[:, columns]
        cell: Tensor = getattr(source.run.cells[layer], name)
        if source.mean:
            cell = self._once(source, f"{name} {layer} {at}", lambda: self._mean(source, cell, at))
        return cell.flatten(0, 1)[:, columns]

    def pair(self, source: Source, site: Site, at: At) -> Values:
        """What the head of a pair takes in a run, or its mean (at a position), before W_O; or a
        number."""
        run, width = source.run, self.trace.config.d_head
        if run is None:
            number = self.trace.params.wte.new_full((), source.number or 0.0)
            return lambda rows: number.expand(len(rows), width)
        what = f"taken {site} {at}"
        read = partial(self._taken, source, run, site, at)
        return lambda rows: taken(self._once(source, what, read), rows)

    def _taken(self, source: Source, run: Trace, site: Site, at: At) -> Float[Tensor, "n d_head"]:
        x = run.taken(site, run.keys(site))
        return (self._mean(source, x, at) if source.mean else x).flatten(0, 1)

    def values(self, edit: Edit, site: Site) -> Values:
        """What the edit's source has for a site, whatever its cells say: vectors of the stream's
        width, rows of a pattern, or z."""
        source, like = edit.source, self.trace.params.wte
        if source.value is not None:
            return self._tensor(source.value, site, edit.target)
        if source.run is None:
            return lambda rows: like.new_zeros(len(rows), *self._shape(site))
        at = None if site.kind == "pattern" else edit.target.at
        return lambda rows: taken(self._of_run(source, site, at), rows)

    def _of_run(self, source: Source, site: Site, at: At) -> Float[Tensor, "n *rest"]:
        run = source.run
        assert run is not None
        if site.role == "port" and site not in run.ports:  # all heads read the same stream
            site = Site(site.kind, site.layer)
        at = at if source.mean else None
        return self._once(source, f"{site} {at}", lambda: self._rows_of(source, run, site, at))

    def _rows_of(self, source: Source, run: Trace, site: Site, at: At) -> Float[Tensor, "n *rest"]:
        if site.kind == "pattern":
            x = run.weights(site)
        else:
            x = run.write(site) if site.role == "node" else run.stream(site)
        return (self._mean(source, x, at) if source.mean else x).flatten(0, 1)

    def _once(self, source: Source, what: str, read: Callable[[], Tensor]) -> Tensor:
        if (source, what) not in self._kept:
            self._kept[source, what] = read()
        return self._kept[source, what]

    def _mean(
        self, source: Source, x: Float[Tensor, "prompts pos *rest"], at: At
    ) -> Float[Tensor, "batch pos *rest"]:
        """Over the run's prompts, or for each prompt over those of its own group; at one position,
        where each of the prompts has it."""
        batch, width = self.trace.tokens.shape
        if at is not None:
            assert source.run is not None
            places = torch.arange(len(x)) * x.shape[1] + source.run.batch.places(at)
            x = taken(x.flatten(0, 1), places)[:, None]
            x = x.expand(len(x), width, *x.shape[2:])
        if source.by is None:
            return x.mean(0, keepdim=True).expand(batch, *x.shape[1:])
        groups, which = torch.unique(source.by.cpu(), return_inverse=True)
        members = ((which == i).nonzero().flatten() for i in range(len(groups)))
        return taken(torch.stack([taken(x, mine).mean(0) for mine in members]), which[:batch])

    def _shape(self, site: Site) -> tuple[int, ...]:
        """Of what a site has at one row."""
        c, keys = self.trace.config, self.trace.tokens.shape[1]
        heads = (c.n_head,) if site.part is None else ()
        inside = {"pattern": (*heads, keys), "z": (*heads, c.d_head)}
        return inside.get(site.kind, (c.d_model,))

    def _tensor(self, value: Tensor, site: Site, target: Address) -> Values:
        """A user's tensor, which broadcasts to what trace[target] has: [batch, ...] at a position,
        else [batch, pos, ...], a layer's patterns [batch, head, pos, key]."""
        (batch, width), shape = self.trace.tokens.shape, self._shape(site)
        like = self.trace.params.wte.new_empty(())
        if target.at is not None:
            here = own_value(value, like.expand(batch, *shape), target)
            x = here[:, None].expand(batch, width, *shape)
        elif site.kind == "pattern" and site.part is None:
            whole = like.expand(batch, shape[0], width, shape[1])
            x = own_value(value, whole, target).transpose(1, 2)
        else:
            x = own_value(value, like.expand(batch, width, *shape), target)
        flat = site.kind == "z"  # its heads stand side by side in the cell
        return lambda rows: _flat(x[sent(rows // width, x), sent(rows % width, x)], flat)

    # ---- whether a source fits

    def check(self, source: Source, target: Address) -> None:
        """PatchError where a source is of another model, or lacks a row that it is asked for."""
        run = source.run
        if run is None:
            return
        if run.params is not self.trace.params:
            raise PatchError(
                f"'{target} = {source}': the run is of another model",
                "runs of the model that is patched",
            )
        if source.mean:
            self._check_mean(source, run, target)
        else:
            self._check_side_by_side(source, run, target)

    def _check_side_by_side(self, source: Source, run: Trace, target: Address) -> None:
        mine, theirs = self.trace.batch, run.batch
        if mine.tokens.shape != theirs.tokens.shape or bool((mine.lengths != theirs.lengths).any()):
            raise PatchError(
                f"'{target} = {source}': the runs do not match: {list(mine.tokens.shape)} "
                f"tokens and {list(theirs.tokens.shape)}, "
                f"lengths {mine.lengths.tolist()[:8]} and {theirs.lengths.tolist()[:8]}",
                "prompts of the same number and the same lengths, side by side",
            )

    def _check_mean(self, source: Source, run: Trace, target: Address) -> None:
        mine, theirs, by = self.trace.batch, run.batch, source.by
        theirs.check(target)
        if target.at is not None and target.sites[-1].kind != "pattern":
            theirs.places(target.at)
        else:
            self._check_one_length(source, run, target)
        if by is not None and (len(by) != len(theirs.tokens) or len(mine.tokens) > len(by)):
            raise PatchError(
                f"'{target} = {source}': {len(by)} groups for {len(theirs.tokens)} and "
                f"{len(mine.tokens)} prompts",
                "a group for every prompt of the run that is averaged, the patched prompts in "
                "the same order",
            )

    def _check_one_length(self, source: Source, run: Trace, target: Address) -> None:
        mine, theirs, by = self.trace.batch, run.batch, source.by
        grouped = by is not None and _of_one_length(by, theirs.lengths, mine.lengths)
        ragged = theirs.ragged or mine.ragged
        if theirs.tokens.shape[1] != mine.tokens.shape[1] or (ragged and not grouped):
            raise PatchError(
                f"'{target} = {source}': a mean over prompts of lengths "
                f"{sorted(set(theirs.lengths.tolist()))} for prompts of "
                f"{mine.tokens.shape[1]} tokens",
                "prompts (of a group) of one length, or a position, so that it means one thing",
                f"'{Address(target.sites, 'END')}'; or a mean by groups: Patch.mean(..., by=...), "
                "source='group'",
            )


def has_cells(source: Source, site: Site) -> bool:
    """Whether a source's cells tell what a node wrote: it is no tensor or number, and no edit put a
    vector in the node's place there (in that of any pair of the head, for one of them)."""
    if source.value is not None:
        return False
    overrides = () if source.run is None else source.run.overrides
    return not any(
        site == replace(other, key=site.key) or site.contains(other) for other in overrides
    )


def _of_one_length(by: Int[Tensor, "prompts"], *lengths: Int[Tensor, "_"]) -> bool:
    """Whether the prompts of a group are equally long, in all of these batches."""
    pairs = torch.cat(
        [torch.stack([by[: len(some)].cpu(), some[: len(by)]], 1) for some in lengths]
    )
    return len(torch.unique(pairs, dim=0)) == len(torch.unique(pairs[:, 0]))


def _flat(x: Float[Tensor, "rows *rest"], flat: bool) -> Tensor:
    return x.flatten(1) if flat else x
