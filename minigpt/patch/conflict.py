"""Which edits exclude one another: two that decide one thing, or a whole and its part, or a part
that nobody can tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, product

from minigpt.address import Site
from minigpt.errors import PatchError
from minigpt.patch.edit import Edit, Hold

# In which cut of a whole each site is a part of it: "nodes" or "latents"; "" for the site itself.
Part = tuple[str, ...]
Thing = tuple[Site | None, ...]


def refuse(edits: Sequence[Edit], holds: Sequence[Hold]) -> None:
    """PatchError where these exclude one another; positions by name are compared on a batch."""
    if len(edits) > 1:
        _refuse_conflicts(edits)
        _refuse_lost_parts(edits)
    _refuse_double_holds(holds)


def _refuse_conflicts(edits: Iterable[Edit]) -> None:
    """Refuse two edits that would both decide one thing. Only those are compared that meet at a
    thing, so that thousands of edits are no trouble."""
    met: dict[object, dict[Part, list[Edit]]] = {}
    for edit in edits:
        for thing, part in _decided(edit):
            here = met.setdefault(thing, {})
            for other in _rivals(part, here):
                if may_meet(other.target.at, edit.target.at):
                    raise conflict(other, edit)
            here.setdefault(part, []).append(edit)


def _rivals(part: Part, here: Mapping[Part, list[Edit]]) -> Iterator[Edit]:
    """The edits at a thing that decide more than other parts of it."""
    for theirs, edits in here.items():
        if _both_decide(part, theirs):
            yield from edits


def _refuse_lost_parts(edits: Iterable[Edit]) -> None:
    """Refuse an edge from a part of what is written as a whole: nobody can tell what that part
    wrote."""
    writes: dict[Site | None, list[Edit]] = {}
    for edit in edits:
        if edit.kind == "write" and edit.target.site.role == "node":
            writes.setdefault(edit.target.site, []).append(edit)
    for edit in (edit for edit in edits if edit.kind == "read"):
        for whole, _ in _things(edit.target.sites[0])[1:]:
            for write in writes.get(whole, ()):
                if may_meet(write.target.at, edit.target.at):
                    raise _lost_part(write, edit)


def _lost_part(write: Edit, read: Edit) -> PatchError:
    whole = write.target.site
    return PatchError(
        f"'{write}' writes a whole, of which '{read}' reads a part",
        f"'{whole}' as the sender too",
        f"writing the parts of '{whole}' one by one",
    )


def clash(a: Edit, b: Edit) -> bool:
    """Whether two edits decide the same thing, or one a whole and the other its part, positions
    aside."""
    mine = dict(_decided(a))
    return any(thing in mine and _both_decide(mine[thing], part) for thing, part in _decided(b))


def _decided(edit: Edit) -> Iterator[tuple[Thing, Part]]:
    """What an edit decides, then the larger things that this is a part of, and in which cut of
    them. A write decides a node, or its like; a read an edge, by its sender and its port; an
    input all edges into a port, its sender None."""
    chains = [_things(site) for site in edit.target.sites]
    if edit.kind == "read":
        chains[0] += ((None, "nodes"),)
    elif edit.kind == "input":
        chains.insert(0, ((None, ""),))
    for things in product(*chains):
        yield tuple(site for site, _ in things), tuple(part for _, part in things)


def _both_decide(a: Part, b: Part) -> bool:
    """Whether two edits that meet at a thing decide more than different parts of one cut of it."""
    return not any(x and x == y for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=65536)
def _things(site: Site) -> tuple[tuple[Site | None, str], ...]:
    """A site (""), then the wholes of which it is a part, and in which cut. A head, its pattern and
    its z are one thing, of which its pairs are parts."""
    layer, part = site.layer, site.part
    if site.kind in ("z", "pattern", "pair") or (site.kind == "attn" and part is not None):
        line = [Site("z", layer, part), Site("z", layer), Site("attn", layer)][part is None :]
        line[:0] = [site] * (site.kind == "pair")
    else:
        wholes = [Site("attn", layer), Site("mlp", layer), Site("input"), Site(site.kind, layer)]
        wholes = [site.whole] if site.is_latent else wholes
        line = [site, *dict.fromkeys(whole for whole in wholes if whole.contains(site))]
    cut = "latents" if site.is_latent else "nodes"
    return tuple((thing, cut * (i > 0)) for i, thing in enumerate(line))


def may_meet(a: int | str | None, b: int | str | None) -> bool:
    """Whether two positions are the same for certain; a number and a name are only compared once a
    batch is known."""
    return a is None or b is None or a == b


def conflict(a: Edit, b: Edit) -> PatchError:
    """The error that names both edits."""
    return PatchError(
        f"'{a}' and '{b}' both decide what '{b.target}' is",
        "each thing decided once",
        "leave one of them out",
    )


def _refuse_double_holds(holds: Iterable[Hold]) -> None:
    for a, b in combinations(holds, 2):
        if (a.source, a.but) != (b.source, b.but) and a.meets(b):
            raise PatchError(
                f"'{a}' and '{b}' hold one node at two values, or one frees what the other holds",
                "each node held once",
                "Patch.write(node, run), to which a hold gives way",
            )
