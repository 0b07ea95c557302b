"""Patches as values and as text: equal however they were made, and read back as they are
written."""

from __future__ import annotations

import torch

from minigpt.patch import Patch
from tests.minigpt.oracle import joined, sources_of, world, write


def test_two_runs_of_one_name_are_told_apart_in_the_text():
    _, clean, corrupt = world()
    patch = (
        Patch.write("a0.0", clean)
        | Patch.write("a0.1", corrupt)
        | Patch.write("m0", clean)
        | Patch.mean("m1", corrupt, torch.tensor([0, 1, 0]))
    )
    assert str(patch) == "a0.0 = run; a0.1 = run.2; m0 = run; m1 = mean(run.2 by groups)"
    again = Patch.parse(str(patch), patch.sources)
    assert [edit.source.run for edit in again.edits] == [clean, corrupt, clean, corrupt]


def test_equal_patches_are_equal_however_they_were_made():
    _, clean, corrupt = world()
    a, b = write("a0.1@-1", corrupt), Patch.read("a0.0>a1.1.v", clean, name="clean")
    h = Patch.hold("mlps heads", clean, name="clean")
    assert (
        a | b | h
        == h | b | a
        == Patch.parse(
            "hold heads  mlps = clean\na0.0>a1.1.v=clean ; a0.1@-1 = corrupt;",
            {"clean": clean, "corrupt": corrupt},
        )
    )
    assert len({a | b, b | a, a | b | a, b}) == 2
    assert a | Patch() == a
    assert a
    assert not Patch()
    assert str(Patch()) == ""
    assert a != write("a0.1@-1", clean), "another run of the same name"
    assert a != write("a0.1@-1", corrupt, "other"), "another name"
    assert (
        Patch.zero("m0")
        == Patch.write("m0", 0.0)
        == Patch.write("m0", 0)
        == Patch.parse("m0 = 0", {})
    )


def test_the_text_of_each_kind():
    _, clean, corrupt = world()
    groups = torch.tensor([0, 1, 0])
    patch = joined(
        [
            write("a0.1@S2", corrupt),
            Patch.read("a0.0>a1.1.v@-1", corrupt, name="corrupt"),
            Patch.input("a1.0.q", clean, name="clean"),
            Patch.write("resid1@2", torch.ones(8), name="one"),
            Patch.mean("m0.n3", corrupt, name="corrupt"),
            Patch.zero("m1"),
            Patch.mean("a1.1", clean, groups, name="clean", by_name="templates"),
            Patch.hold("mlps", clean, name="clean"),
        ]
    )
    assert str(patch) == (
        "a0.0>a1.1.v@-1 = corrupt; a0.1@S2 = corrupt; a1.0.q = clean; a1.1 = mean(clean by "
        "templates); "
        "m0.n3 = mean(corrupt); m1 = 0; resid1@2 = one; hold mlps = clean"
    )
    assert Patch.parse(str(patch), sources_of(patch)) == patch
    assert Patch.parse(str(patch), sources_of(patch) | {"templates": groups.clone()}) != patch


def test_groups_are_named_where_there_are_some():
    _, clean, _ = world()
    groups = torch.tensor([0, 1, 0])
    assert Patch.mean("a0.1", clean, by_name="templates") == Patch.mean("a0.1", clean)
    assert str(Patch.mean("a0.1", clean, by_name="templates")) == "a0.1 = mean(run)"
    by = [Patch.mean("a0.1", clean, groups, by_name=name) for name in ("templates", "groups")]
    assert by[0] != by[1]
    assert str(by[0]) == "a0.1 = mean(run by templates)"


def test_a_line_is_equal_only_to_a_line():
    _, clean, _ = world()
    patch = Patch.write("a0.0", clean) | Patch.hold("mlps", clean)
    for value in (patch, *patch.edits, *patch.holds, patch.edits[0].source, Patch.zero("m0")):
        for other in (str(value), clean, 0, None):
            assert value != other
            assert other != value
