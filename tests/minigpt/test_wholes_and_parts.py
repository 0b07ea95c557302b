"""A whole and its part in one patch: whatever is written, read or held of either, the engine has
the reference's numbers, and nothing counts twice."""

from __future__ import annotations

from itertools import combinations, permutations, product

import pytest
import torch

from minigpt import Patch
from minigpt.errors import PatchError
from tests.conftest import some, tiny
from tests.patches import assert_agrees, disagreements, reference_of

MODEL = tiny(2, 2, 8, 6, dtype=torch.float64)
CLEAN, OTHER = (
    MODEL.run(torch.randint(50, (2, 7), generator=torch.Generator().manual_seed(seed)))
    for seed in (0, 1)
)
SOURCES = {"clean": CLEAN, "other": OTHER}
FAMILIES = (
    ("input", "emb", "pos"),
    ("a1", "a1.0", "a1.1", "a1.b"),
    ("m1", "m1.n3", "m1.b"),
)
INSIDE = ("a1.z", "a1.0.z", "a1.pattern", "a1.0.pattern")
PLACES = ("logits", "resid1", "resid2", "a1", "a1.0", "a1.b", "m1", "m1.n3", "a1.pattern")
PORTS = {"input": "a0.1.v", "a1": "m1.in", "m1": "out"}


def agrees(text: str) -> None:
    patch = Patch.parse(text, SOURCES)
    assert_agrees(MODEL.rerun(CLEAN, patch), reference_of(MODEL, CLEAN, patch), among=PLACES)


def holds() -> list[str]:
    """Sets of nodes of one family, as one hold and as two, in any order; all heads too."""
    sets = [
        nodes
        for family in FAMILIES
        for n in (1, 2, len(family))
        for nodes in combinations(family, n)
    ]
    one = [f"hold {' '.join(nodes)}" for nodes in sets]
    one += [f"hold heads {node}" for node in FAMILIES[1]]
    one += ["hold mlps m1.n3", "hold mlps m1.b", "hold heads mlps emb input a1 m0.b"]
    two = [f"hold {a} = {{}}; hold {b}" for family in FAMILIES for a, b in permutations(family, 2)]
    return [f"{text} = {{}}" for text in (*one, *two)]


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
@pytest.mark.parametrize("value", ["0", "mean(other)"])
@pytest.mark.parametrize("text", holds())
def test_what_is_held_as_a_whole_and_as_its_part_counts_once(text: str, value: str) -> None:
    agrees(text.replace("{}", value))


def written_beside_held() -> list[tuple[str, str]]:
    """An edit of one of a family, or of what is inside its heads, beside a hold of others."""
    pairs = [
        (f"{written}{at}", held)
        for family in FAMILIES
        for held in (*family, " ".join(family))
        for written, at in product(family, ("", "@2"))
    ]
    inside = [
        (f"{written}@2", held)
        for written in INSIDE
        for held in (*FAMILIES[1], "heads", "heads a1.b", "a1 heads")
    ]
    return pairs + inside


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
@pytest.mark.parametrize("value", ["0", "clean"])
@pytest.mark.parametrize(("written", "held"), some(written_beside_held()))
def test_a_hold_gives_way_to_a_write_of_its_whole_or_part(
    written: str, held: str, value: str
) -> None:
    agrees(f"{written} = other; hold {held} = {value}")
    agrees(f"{written} = 0; hold {held} = {value}")


@pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")
@pytest.mark.parametrize(
    ("sender", "written"), some(p for f in FAMILIES for p in permutations(f, 2))
)
def test_an_edge_takes_out_what_its_sender_wrote_after_all_writes(
    sender: str, written: str
) -> None:
    family = next(family for family in FAMILIES if sender in family)
    edge = f"{sender}>{PORTS[family[0]]}"
    agrees(f"hold {written} = other; {edge} = 0")
    agrees(f"{written}@3 = other; hold {' '.join(family)} = clean; {edge}@5 = other")
    if sender == family[0] or written != family[0]:
        agrees(f"{written} = 0; {edge} = other")
        agrees(f"{written} = other; {edge} = 0")
    else:
        with pytest.raises(PatchError, match="reads a part"):
            Patch.parse(f"{written} = 0; {edge} = other", SOURCES)


@pytest.mark.parametrize("nodes", [(a, b) for f in FAMILIES for a, b in permutations(f, 2)])
def test_a_free_vector_for_one_of_a_family_beside_a_hold_of_another(
    nodes: tuple[str, str],
) -> None:
    written, held = nodes
    patch = Patch.write(f"{written}@2", OTHER["resid1@3"]) | Patch.hold(held, OTHER)
    run, twin = MODEL.rerun(CLEAN, patch), reference_of(MODEL, CLEAN, patch)
    assert_agrees(run, twin, among=("resid1", "resid2", "logits"))


@pytest.mark.parametrize("written", [*INSIDE, "a1.1", "a1.b", "a1"])
def test_what_is_held_at_an_edited_run_is_its_vector_and_gives_way_all_the_same(
    written: str,
) -> None:
    edit = Patch.write("a1.0", OTHER["resid1"] / 4)
    source, twin = MODEL.rerun(CLEAN, edit), reference_of(MODEL, CLEAN, edit)
    patch = Patch.parse(f"hold heads = source; {written}@4 = 0", {"source": source})
    run = MODEL.rerun(CLEAN, patch)
    expected = reference_of(MODEL, CLEAN, patch, {"source": twin})
    assert_agrees(run, expected, among=("resid1", "resid2", "logits"))


def test_a_node_counted_twice_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: did `emb` not give way to `input`, it would be taken out once more."""
    from minigpt.recompute import lower

    monkeypatch.setattr(lower, "_among", lambda nodes, node: ())
    patch = Patch.hold("emb input", 0.0)
    assert disagreements(MODEL.rerun(CLEAN, patch), reference_of(MODEL, CLEAN, patch), among=PLACES)


@pytest.mark.parametrize(("a", "b"), [p for f in FAMILIES for p in combinations(f, 2)])
def test_a_whole_and_its_part_are_not_held_at_two_values(a: str, b: str) -> None:
    whole = FAMILIES[[b in family for family in FAMILIES].index(True)][0]
    text = f"hold {a} = other; hold {b} = clean"
    if a == whole:
        with pytest.raises(PatchError, match="hold one node at two values"):
            Patch.parse(text, SOURCES)
    else:
        agrees(text)
