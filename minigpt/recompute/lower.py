"""From patches to a plan: every edit's rows, form and values, checked against the run that is
patched.

A write from another run is put where the node's own numbers live (a head's z, a neuron's
activation), so that putting a run's own value back changes no bit; a write of a free vector is an
addition of what it differs by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minigpt.address import Address, Site, parse
from minigpt.errors import PatchError, problem
from minigpt.patch import Patch
from minigpt.patch.conflict import clash, conflict
from minigpt.patch.edit import Edit, Hold, Source, own_value
from minigpt.recompute.plan import Plan, Read, Touch, Values, columns
from minigpt.trace import Trace


def plan(trace: Trace, patches: Sequence[Patch], writes: dict[Site, Tensor] | None = None) -> Plan:
    """Resolve patches on a trace; PatchError, AddressError or PositionError where one does not fit
    it.

    writes: what is kept of the trace's own writes from one chunk of a sweep to the next.
    """
    made = Plan(trace, len(patches), writes={} if writes is None else writes)
    resolver = _Resolver(made)
    for variant, patch in enumerate(patches):
        resolver.add(variant, patch)
    for touches in made.at.values():
        touches.sort(key=_order)
    return made


def _order(touch: Touch) -> tuple[object, ...]:
    """A fixed order for what is summed at one row, so that a patch's sums are the same alone and
    among others."""
    sites = (touch.site, touch.sender) if isinstance(touch, Read) else (touch.site,)
    return tuple(
        part
        for site in sites
        for part in (site.kind, site.layer or 0, -1 if site.part is None else site.part)
    )


class _Resolver:
    """Resolves the edits of many patches. What several have in common is resolved once: edits, rows
    of a position, means."""

    def __init__(self, made: Plan) -> None:
        self.plan, self.trace = made, made.trace
        self._known: dict[object, list[Touch]] = {}
        self._sites: dict[Hold, list[tuple[Site, bool]]] = {}
        self._rows: dict[int | str | None, Tensor] = {}
        self._but: dict[tuple[int | str | None, ...], Tensor] = {}
        self._means: dict[tuple[int, str, int], Tensor] = {}

    def add(self, variant: int, patch: Patch) -> None:
        self._refuse_meetings(patch)
        for hold in patch.holds:
            self._hold(variant, hold, patch.edits)
        for edit in patch.edits:
            self._share(edit, variant, lambda edit=edit: self._resolve(edit))  # type: ignore[misc]

    def rows(self, at: int | str | None) -> Int[Tensor, "rows"]:
        """The numbers of the rows at a position of each prompt, or of all rows that belong to
        prompts."""
        if at not in self._rows:
            batch, width = self.trace.batch, self.plan.width
            first = torch.arange(len(batch.tokens), device=batch.tokens.device) * width
            if at is None:
                inside = torch.arange(width, device=first.device) < batch.lengths[:, None]
                self._rows[at] = inside.flatten().nonzero().flatten()
            else:
                self._rows[at] = first + batch.index(at)
        return self._rows[at]

    def _share(
        self, key: object, variant: int, make: Callable[[], list[tuple[str, Touch]]]
    ) -> None:
        """One more variant of what `key` stands for; resolved and placed at its stages where it is
        new."""
        if key not in self._known:
            found = make()
            for stage, touch in found:
                self.plan.at.setdefault((stage, touch.site.layer or 0), []).append(touch)
            self._known[key] = [touch for _, touch in found]
        for touch in self._known[key]:
            touch.variants.append(variant)

    def _resolve(self, edit: Edit) -> list[tuple[str, Touch]]:
        parse(edit.target, self.trace.config)
        self._check(edit.source, edit.target)
        return {"write": self._write, "read": self._read, "input": self._input}[edit.kind](edit)

    def _touch(
        self, site: Site, rows: Tensor, values: Values, edit: Edit | None = None, own: bool = False
    ) -> Touch:
        return Touch(site, rows, values, self.plan.n, edit, own)

    # ---- holds

    def _hold(self, variant: int, hold: Hold, edits: Sequence[Edit]) -> None:
        given = hold.source
        for site, asked in self._held_sites(hold):
            stage = {"attn": "z", "mlp": "act"}.get(site.kind) if _told(given, site) else None
            whole, all_but = asked and site.part is None, self._all_but(hold.places(site))
            if stage:
                rows = self._free(site, edits, all_but) if whole else all_but
                self._hold_cell(variant, stage, site, given, rows)
            else:
                self._hold_vector(variant, site, given, edits, all_but)
            if stage and whole and given.run is None:
                self._hold_vector(
                    variant,
                    Site(f"{site.kind}.b", site.layer),
                    given,
                    edits,
                    self._free(site, edits, all_but),
                )

    def _all_but(self, places: tuple[int | str | None, ...]) -> Int[Tensor, "rows"]:
        """All rows but those at these positions of each prompt; the same tensor for the same
        positions."""
        if not places:
            return self.rows(None)
        if places not in self._but:
            rows = self.rows(None)
            self._but[places] = rows[~torch.isin(rows, torch.cat([self.rows(at) for at in places]))]
        return self._but[places]

    def _held_sites(self, hold: Hold) -> list[tuple[Site, bool]]:
        """The nodes of a hold, a layer's heads taken together where they are all there, and which
        were asked for as such."""
        if hold not in self._sites:
            asked = hold.sites(self.trace.config)
            self._check(hold.source, Address((asked[0],)))
            sites = [
                part
                for site in asked
                for part in ((Site("emb"), Site("pos")) if site.kind == "input" else (site,))
            ]
            chosen = set(asked)
            self._sites[hold] = [
                (site, site in chosen) for site in _layers(sites, hold, self.trace)
            ]
        return self._sites[hold]

    def _hold_cell(self, variant: int, stage: str, site: Site, given: Source, rows: Tensor) -> None:
        key = (stage, site, given, id(rows))
        if key not in self._known:
            values = _part(self._cell(given, stage, site.layer or 0), site, self.trace)
            self._known[key] = [
                self._touch(site, rows, values, own=given.run is self.trace and not given.mean)
            ]
            self.plan.held.setdefault((stage, site.layer or 0), []).extend(self._known[key])
        self._known[key][0].variants.append(variant)

    def _free(
        self, whole: Site, edits: Sequence[Edit], rows: Int[Tensor, "rows"]
    ) -> Int[Tensor, "free"]:
        """Those of the rows at which no edit writes a part of a held whole, its z or its
        pattern."""
        for edit in edits:
            other = edit.target.sites[0]
            inside = whole.kind == "attn" and other.role == "inside" and other.layer == whole.layer
            if edit.kind == "write" and (whole.contains(other) or inside):
                rows = rows[~torch.isin(rows, self.rows(edit.target.at))]
        return rows

    def _hold_vector(
        self, variant: int, site: Site, given: Source, edits: Sequence[Edit], rows: Tensor
    ) -> None:
        """A held node without cells of its own (embeddings, biases): written where no edit writes
        it, its whole or its parts."""
        for edit in edits:
            other = edit.target.sites[0]
            if edit.kind == "write" and (
                other == site or other.contains(site) or site.contains(other)
            ):
                rows = rows[~torch.isin(rows, self.rows(edit.target.at))]
        edit = Edit(Address((site,)), given)
        self._share(
            (site, given, id(rows)),
            variant,
            lambda: [
                (_stage(site), self._touch(site, rows, self._vector(given, site, edit), edit))
            ],
        )

    # ---- edits

    def _write(self, edit: Edit) -> list[tuple[str, Touch]]:
        site, rows, given = edit.target.site, self.rows(edit.target.at), edit.source
        layer = site.layer or 0
        if site.kind == "input" and given.value is None:
            return [
                found
                for part in ("emb", "pos")
                for found in self._write(Edit(Address((Site(part),), edit.target.at), given))
            ]
        if given.value is None and site.kind in ("attn", "mlp", "z") and _told(given, site):
            stage = "act" if site.kind == "mlp" else "z"
            found = [
                (
                    stage,
                    self._touch(
                        site, rows, _part(self._cell(given, stage, layer), site, self.trace), edit
                    ),
                )
            ]
            if site.part is None and site.kind != "z" and given.run is None:
                bias = Site(f"{site.kind}.b", layer)
                found.append(
                    (site.kind, self._touch(bias, rows, self._vector(given, bias, edit), edit))
                )
            return found
        read = (
            self._stream
            if site.role == "stream"
            else {"pattern": self._pattern, "z": self._z}.get(site.kind, self._vector)
        )
        return [(_stage(site), self._touch(site, rows, read(given, site, edit), edit))]

    def _input(self, edit: Edit) -> list[tuple[str, Touch]]:
        site = edit.target.site
        return [
            (
                "port",
                self._touch(
                    site, self.rows(edit.target.at), self._stream(edit.source, site, edit), edit
                ),
            )
        ]

    def _read(self, edit: Edit) -> list[tuple[str, Touch]]:
        sender, port = edit.target.sites
        values = self._vector(edit.source, sender, edit)
        return [
            (
                "port",
                Read(port, self.rows(edit.target.at), values, self.plan.n, edit, sender=sender),
            )
        ]

    def _z(self, given: Source, site: Site, edit: Edit) -> Values:
        """A user's z: [d_head] of a head, [head, d_head] of a layer."""
        c = self.trace.config
        if site.part is not None:
            return self._tensor(given, (c.d_head,), edit)
        values = self._tensor(given, (c.n_head, c.d_head), edit)
        return lambda rows: values(rows).flatten(1)

    def _cell(self, given: Source, name: str, layer: int) -> Float[Tensor, "rows width"]:
        """A source's z or activations of a layer, a row a (prompt, position); zeros, or means over
        prompts."""
        own = getattr(self.trace.cells[layer], name)
        if given.run is None:
            return (
                torch.zeros((), dtype=own.dtype, device=own.device).expand(own.shape).flatten(0, 1)
            )
        cell = getattr(given.run.cells[layer], name)
        return (self._mean(given, name, layer, cell) if given.mean else cell).flatten(0, 1)

    def _mean(
        self, given: Source, name: str, layer: int, x: Float[Tensor, "prompts pos *rest"]
    ) -> Float[Tensor, "batch pos *rest"]:
        key = (id(given), name, layer)
        if key not in self._means:
            batch = len(self.trace.tokens)
            if given.by is None:
                self._means[key] = x.mean(0, keepdim=True).expand(batch, *x.shape[1:])
            else:
                groups, which = torch.unique(given.by.to(x.device), return_inverse=True)
                self._means[key] = torch.stack([x[which == i].mean(0) for i in range(len(groups))])[
                    which[:batch]
                ]
        return self._means[key]

    def _vector(self, given: Source, site: Site, edit: Edit) -> Values:
        """What a source's node wrote, as vectors of the stream's width."""
        if given.value is not None:
            return self._tensor(given, (self.trace.config.d_model,), edit)
        if given.run is None:
            return lambda rows: _zeros(rows, self.trace)
        return lambda rows: self._cached(given, str(site), lambda run: run.write(site))[rows]

    def _stream(self, given: Source, site: Site, edit: Edit) -> Values:
        if given.value is not None:
            return self._tensor(given, (self.trace.config.d_model,), edit)
        if given.run is None:
            return lambda rows: _zeros(rows, self.trace)
        return lambda rows: self._cached(
            given, f"stream {site.kind} {site.layer}", lambda run: run.stream(site)
        )[rows]

    def _pattern(self, given: Source, site: Site, edit: Edit) -> Values:
        keys = self.trace.tokens.shape[1]
        heads = (self.trace.config.n_head,) if site.part is None else ()
        if given.value is not None:
            return (
                self._tensor(given, (keys,), edit)
                if site.part is not None
                else self._layer_pattern(given, edit, self.trace.config.n_head, keys)
            )
        if given.run is None:
            return lambda rows: torch.zeros(
                len(rows), *heads, keys, dtype=self.trace.params.wte.dtype, device=rows.device
            )
        return lambda rows: self._cached(given, str(site), lambda run: run.weights(site))[rows]

    def _layer_pattern(self, given: Source, edit: Edit, heads: int, keys: int) -> Values:
        """A user's patterns of a layer: [batch, head, pos, key], or [batch, head, key] at a
        position."""
        if edit.target.at is not None:
            return self._tensor(given, (heads, keys), edit)
        batch, like = self.trace.tokens.shape[0], self.trace.params.wte
        assert given.value is not None
        value = own_value(
            given.value, like.new_empty(()).expand(batch, heads, keys, keys), edit.target
        )
        return lambda rows: value[rows // self.plan.width, :, rows % self.plan.width]

    def _cached(self, given: Source, what: str, read: Callable[[Trace], Tensor]) -> Tensor:
        """All rows [rows, ...] of something read off a source run, averaged where the source is a
        mean."""
        key = (id(given), what, -1)
        if key not in self._means:
            assert given.run is not None
            x = read(given.run)
            self._means[key] = (self._mean(given, what, -2, x) if given.mean else x).flatten(0, 1)
        return self._means[key]

    def _tensor(self, given: Source, rest: tuple[int, ...], edit: Edit) -> Values:
        """A user's tensor, broadcast to [batch, rest] at a position, else to [batch, pos, rest]."""
        batch, at, like = self.trace.batch, edit.target.at, self.trace.params.wte
        shape = (len(batch.tokens), *rest) if at is not None else (*batch.tokens.shape, *rest)
        assert given.value is not None
        value = own_value(given.value, like.new_empty(()).expand(shape), edit.target)
        if at is not None:
            return lambda rows: value[rows // self.plan.width]
        return lambda rows: value[rows // self.plan.width, rows % self.plan.width]

    def _check(self, given: Source, target: Address) -> None:
        """A source run must be of this model, and have every row that it is asked for."""
        run = given.run
        if run is None:
            return
        if run.params is not self.trace.params:
            raise PatchError(
                problem(
                    f"'{target} = {given}': the run is of another model",
                    "runs of the model that is patched",
                )
            )
        mine, theirs = self.trace.batch, run.batch
        if given.mean:
            self._check_mean(given, target)
        elif mine.tokens.shape != theirs.tokens.shape or bool(
            (mine.lengths != theirs.lengths).any()
        ):
            raise PatchError(
                problem(
                    f"'{target} = {given}': the runs do not match: {list(mine.tokens.shape)} "
                    f"tokens and {list(theirs.tokens.shape)}, "
                    f"lengths {mine.lengths.tolist()[:8]} and {theirs.lengths.tolist()[:8]}",
                    "prompts of the same number and the same lengths, side by side",
                )
            )

    def _check_mean(self, given: Source, target: Address) -> None:
        run = given.run
        assert run is not None
        n, wanted = run.tokens.shape[1], self.trace.tokens.shape[1]
        grouped = given.by is not None and _of_one_length(
            given.by, run.batch.lengths, self.trace.batch.lengths
        )
        if n != wanted or (not grouped and (run.batch.ragged or self.trace.batch.ragged)):
            raise PatchError(
                problem(
                    f"'{target} = {given}': a mean over prompts of lengths "
                    f"{sorted(set(run.batch.lengths.tolist()))} for prompts of "
                    f"{wanted} tokens",
                    "prompts (of a group) of one length, so that a position means one thing",
                )
            )
        if given.by is not None and (
            len(given.by) != len(run.tokens) or len(self.trace.tokens) > len(given.by)
        ):
            raise PatchError(
                problem(
                    f"'{target} = {given}': {len(given.by)} groups for {len(run.tokens)} and "
                    f"{len(self.trace.tokens)} prompts",
                    "a group for every prompt of the run that is averaged, the patched prompts in "
                    "the same order",
                )
            )

    def _refuse_meetings(self, patch: Patch) -> None:
        """Conflicts that only show once names of positions are known."""
        named = [e for e in patch.edits if e.target.at is not None]
        if len(named) < 2 or not any(
            isinstance(e.target.at, str) or (isinstance(e.target.at, int) and e.target.at < 0)
            for e in named
        ):
            return
        for i, a in enumerate(named):
            for b in named[i + 1 :]:
                if (
                    a.kind == b.kind
                    and a.target.sites[-1].layer == b.target.sites[-1].layer
                    and clash(a, b)
                    and bool((self.rows(a.target.at) == self.rows(b.target.at)).any())
                ):
                    raise conflict(a, b)


def _of_one_length(by: Int[Tensor, "prompts"], *lengths: Int[Tensor, "_"]) -> bool:
    """Whether the prompts of a group are equally long, in all of these batches."""
    pairs = torch.cat(
        [torch.stack([by[: len(each)].to(each.device), each[: len(by)]], 1) for each in lengths]
    )
    return len(torch.unique(pairs, dim=0)) == len(torch.unique(pairs[:, 0]))


def _told(given: Source, site: Site) -> bool:
    """Whether cells tell what a node wrote in a source: no edit put a vector in its place there."""
    return given.run is None or not any(
        site == other or site.contains(other) for other in given.run.overrides
    )


def _layers(sites: Sequence[Site], hold: Hold, trace: Trace) -> list[Site]:
    """The sites, a layer's heads taken together where they are all there, none is free anywhere,
    and all are told by cells."""
    heads: dict[int, set[int]] = {}
    for site in sites:
        if site.kind == "attn" and site.layer is not None and site.part is not None:
            heads.setdefault(site.layer, set()).add(site.part)
    some = {
        site
        for site in sites
        if site.kind == "attn" and (hold.places(site) or not _told(hold.source, site))
    }
    full = [
        layer
        for layer, parts in heads.items()
        if len(parts) == trace.config.n_head and layer not in {site.layer for site in some}
    ]
    rest = [s for s in sites if not (s.kind == "attn" and s.part is not None and s.layer in full)]
    return [*(Site("attn", layer) for layer in full), *rest]


def _part(cell: Float[Tensor, "rows width"], site: Site, trace: Trace) -> Values:
    """The part of a z or an activation that belongs to a head or a neuron, or all of it."""
    own = cell[:, columns(site, trace)]
    return lambda rows: own.index_select(0, rows)


def _stage(site: Site) -> str:
    """The stage of a pass at which a write to a site is put in."""
    if site.kind in ("resid", "mid", "pattern", "z", "out.b"):
        return site.kind
    return site.kind.partition(".")[0] if site.layer is not None else "emb"


def _zeros(rows: Int[Tensor, "rows"], trace: Trace) -> Float[Tensor, "rows d_model"]:
    return trace.params.wte.new_zeros(len(rows), trace.config.d_model)
