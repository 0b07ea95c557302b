"""Which total effects are computed first: those that an estimate by lengths puts first, as many as
are worth it; and the answer says how many of how many are exact."""

from __future__ import annotations

import pytest
import torch

from interp.debugger import nodes, order, totals
from minigpt import Site
from tests.interp.debugger.questions import EXACT, LAST, LETTER, MODEL, OTHER, PROMPT, asked

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")

CLEAN = MODEL.run(PROMPT)


def positions(addresses: tuple[str, ...]) -> list[int]:
    return [int(address.partition("@")[2].partition("<")[0]) for address in addresses]


def test_a_change_comes_to_the_end_by_the_shares_of_the_stream_that_are_read_of_it():
    trace = EXACT.run(LETTER.prompt)
    reach, last = order.reached(trace), len(LETTER.prompt) - 1
    assert reach[Site("resid", 3)].tolist() == [0.0] * last + [1.0]
    mlp, mid = trace["m2"][0].norm(dim=-1), trace["resid2.mid"][0].norm(dim=-1)
    after = 1 + (mlp[last] / mid[last]) ** 2
    assert reach[Site("mid", 2)].tolist() == pytest.approx([0.0] * last + [float(after**0.5)])
    taken = sum(float(trace[f"a2.{head}@{last}<2"].norm()) ** 2 for head in range(2))
    share = taken / float(trace["resid2"][0, 2].norm()) ** 2
    assert float(reach[Site("resid", 2)][2]) == pytest.approx(float(after * share) ** 0.5)


def largest(n: int) -> set[str]:
    """The nodes with the largest total effects, all of which are computed."""
    rows = nodes.table(asked(sort="address", k=1000)).rows
    effects = totals.complete(asked(), [row.address for row in rows]).effects
    return set(sorted(effects, key=lambda name: -abs(effects[name].left or 0.0))[:n])


@pytest.mark.slow
def test_the_largest_effects_are_among_the_first_and_by_the_length_of_a_write_alone_they_are_not(
    monkeypatch,
):
    monkeypatch.setattr(order, "WORK", 8e8)
    wanted, early = largest(20), order.first(asked()).addresses
    assert len(early) < 100
    assert len(wanted & set(early)) >= 15
    everywhere = {point: torch.ones(LAST + 1).double() for point in order.reached(CLEAN)}
    monkeypatch.setattr(order, "reached", lambda _: everywhere)
    by_length = order.first(asked()).addresses
    assert len(by_length) > 100
    assert len(wanted & set(by_length)) <= 6


def test_what_is_left_out_where_all_can_be_computed_has_no_effect():
    rows = nodes.table(asked(sort="address", k=1000)).rows
    found = order.first(asked())
    assert found.of == len(rows)
    rest = {row.address for row in rows} - set(found.addresses)
    effects = totals.complete(asked(), sorted(rest)).effects
    assert len(rest) > 100
    assert {effect.left for effect in effects.values()} == {0.0}


def test_a_page_comes_first_and_each_page_from_the_last_position_back(monkeypatch):
    monkeypatch.setattr(order, "WORK", 0.0)
    page = order.first(asked(k=5)).addresses
    assert len(page) == 10
    monkeypatch.undo()
    every = order.first(asked(k=5)).addresses
    assert every[:10] == page
    for some in (page, every[10:]):
        assert positions(some) == sorted(positions(some), reverse=True)
    assert positions(every) != sorted(positions(every), reverse=True)


def test_only_what_find_keeps_and_split_as_the_table_is():
    found = order.first(asked(find="a1 @13"))
    assert found.of == 9
    assert {address.partition(".")[0] for address in found.addresses} == {"a1"}
    assert set(positions(found.addresses)) == {13}
    pairs = order.first(asked(find="pair", split=("keys",)))
    assert pairs.of == nodes.table(asked(find="pair", split=("keys",))).matching
    assert all("<" in address for address in pairs.addresses)


def test_where_another_write_is_put_in_the_place_only_what_differs_is_computed():
    runs = asked(other=OTHER, instead="other")
    differ = (runs.left.base.tokens != runs.sides[1].base.tokens)[0].nonzero()
    assert min(positions(order.first(runs).addresses)) == int(differ[0]) > 0


def test_the_answer_says_how_many_are_exact():
    found = order.First(("a",) * 200, 28_800)
    assert found.words(200).startswith("Exact for 200 of 28,800 nodes, the others estimated")
    assert found.words(150) == "Exact for 150 of 28,800 nodes; 200 are to be."
    assert found.words(28_800) == "Exact for all 28,800 nodes."


def test_the_table_says_of_how_many_nodes_the_effects_are_computed():
    runs = asked(sort="total", find="a1 @13")
    names = order.first(runs).addresses
    some, every = (totals.complete(runs, some).effects for some in (names[:3], names))
    said = "Total effects are computed of 3 of 9 nodes; only these have rows."
    assert nodes.table(runs, some).notes == (said,)
    assert len(nodes.table(runs, some).rows) == 3
    assert nodes.table(runs, every).notes == ()
