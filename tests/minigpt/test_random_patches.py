"""The random patches that the engine is tried with: every kind is drawn, shrinks, and says the same
in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import reduce
from itertools import product
from operator import or_

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, seed, settings

from minigpt import Site
from minigpt.patch import Patch
from minigpt.patch.edit import ZERO
from tests.minigpt.oracle import sources_of, world
from tests.patches import MEETINGS, meetings, patches, reference_of

BATCH, LENGTH = 3, 5
drawn = patches(
    world()[0].config,
    LENGTH,
    BATCH,
    {"clean": world()[1], "corrupt": world()[2]},
    positions={"S": [0, 4, 2]},
)
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@given(patch=drawn)
@few
def test_a_random_patch_runs_and_its_order_and_its_text_say_the_same(patch):
    model, clean, _ = world()
    trace = model.run(replace(clean.batch, positions={"S": torch.tensor([0, 4, 2])}))
    assert np.isfinite(reference_of(model, trace, patch).logits).all()
    again = Patch.parse(str(patch), sources_of(patch))
    other_way = reduce(
        or_, [Patch(patch.edits[i:][:1], patch.holds[i:][:1]) for i in reversed(range(4))]
    )
    assert patch == again == other_way
    assert hash(patch) == hash(again) == hash(other_way)
    assert str(again) == str(patch) == str(other_way)
    assert Patch.parse(str(patch), patch.sources) == patch


KINDS = {
    "a head": lambda e: (
        e.kind == "write"
        and e.target.sites[0].kind == "attn"
        and e.target.sites[0].part is not None
    ),
    "a layer": lambda e: (
        e.kind == "write" and e.target.sites[0].kind == "attn" and e.target.sites[0].part is None
    ),
    "a neuron": lambda e: e.kind == "write" and ".n" in str(e.target),
    "a bias": lambda e: ".b" in str(e.target),
    "a stream": lambda e: "resid" in str(e.target),
    "a z": lambda e: ".z" in str(e.target),
    "a pair": lambda e: e.target.sites[0].kind == "pair",
    "a pattern": lambda e: ".pattern" in str(e.target),
    "an edge": lambda e: e.kind == "read",
    "an input": lambda e: e.kind == "input",
    "a layer's port": lambda e: str(e.target)[-4:] in ("a1.q", "a1.v"),
    "a name": lambda e: e.target.at == "S",
    "a last": lambda e: e.target.at == -1,
    "a number": lambda e: e.target.at == 2,
    "everywhere": lambda e: e.target.at is None,
    "zero": lambda e: e.source == ZERO,
    "a run": lambda e: e.source.run and not e.source.mean,
    "a mean": lambda e: e.source.mean and e.source.by is None,
    "a mean by groups": lambda e: e.source.by is not None,
    "a tensor": lambda e: e.source.value is not None,
}


@pytest.mark.slow
def test_every_kind_of_edit_is_drawn_one_and_many_and_shrinks():
    seen, sizes = set(), set()

    @given(patch=drawn)
    @settings(max_examples=400, derandomize=True, database=None)
    def look(patch):
        seen.update(kind for kind, holds in KINDS.items() if any(map(holds, patch.edits)))
        seen.update("hold " + hold.nodes for hold in patch.holds)
        sizes.add(len(patch.edits) + len(patch.holds))

    look()
    assert seen >= KINDS.keys() | {"hold heads", "hold mlps", "hold heads mlps"}
    assert sizes == {1, 2, 3, 4}
    strict = settings(
        max_examples=1000, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
    )
    assert str(
        find(drawn, lambda patch: any(map(KINDS["a bias"], patch.edits)), settings=strict)
    ) in ("a0.b = 0", "a0.b>out = 0")


def sites_of(patch: Patch) -> list[tuple[str, Site]]:
    """What each line writes, holds, reads from and shows to; a z or a pattern is its head's."""
    edited = [(edit.kind, site) for edit in patch.edits for site in edit.target.sites]
    held = [("hold", site) for hold in patch.holds for site in hold.sites(world()[0].config)]
    return [
        (kind, Site("attn", site.layer, site.part) if site.role == "inside" else site)
        for kind, site in edited + held
    ]


def ways(patch: Patch) -> set[tuple[str, str, str]]:
    """How lines of a whole and of its part meet in this patch, as MEETINGS has it."""
    pairs = product(sites_of(patch), repeat=2)
    return {(a, b, whole.kind) for (a, whole), (b, part) in pairs if whole.contains(part)}


@pytest.mark.parametrize("meeting", MEETINGS, ids=" ".join)
def test_two_lines_drawn_to_meet_at_a_whole_and_its_part_do_so_each_time_in_another_patch(meeting):
    """Ten cases of each way for the engine, none of them lost to a conflict."""
    patches_seen = []
    runs = {"clean": world()[1], "corrupt": world()[2]}

    @given(patch=meetings(world()[0].config, meeting, [LENGTH] * BATCH, runs, {}))
    @settings(max_examples=10, derandomize=True, database=None)
    def look(patch):
        patches_seen.append(patch)

    look()
    assert all(meeting in ways(patch) for patch in patches_seen)
    assert len(set(patches_seen)) == len(patches_seen) == 10


@pytest.mark.slow
def test_a_whole_and_its_part_meet_in_every_way_about_as_often():
    """A hundred draws of ten: in one long draw hypothesis repeats what it had."""
    counts = Counter()
    for number in range(100):

        @seed(number)
        @given(patch=drawn)
        @settings(max_examples=10, database=None)
        def look(patch):
            counts.update(ways(patch))

        look()
    assert min(counts[meeting] for meeting in MEETINGS) >= 3
    assert counts.total() > 400
    assert max(counts.values()) < counts.total() / 8, "one crowds out the others"


def test_prompts_of_other_lengths_have_means_by_groups_and_last_positions_of_their_own():
    lengths = [5, 2, 3]

    @given(patch=patches(world()[0].config, lengths, 3, {"clean": world()[1]}))
    @settings(max_examples=60, derandomize=True, database=None)
    def look(patch):
        means = [line.source for line in (*patch.edits, *patch.holds) if line.source.mean]
        assert all(
            source.by is not None
            and len({*zip(source.by.tolist(), lengths, strict=True)})
            == len(set(source.by.tolist()))
            for source in means
        )
        assert all(e.target.at in (None, 0, 1, -1, -2) for e in patch.edits)

    look()
