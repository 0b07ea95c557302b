"""The bill of a rerun: what edits wrote and changed, and its share of full runs."""

from __future__ import annotations

import pytest

from minigpt import Patch
from minigpt.receipt import Receipt
from tests.conftest import tiny
from tests.minigpt.pairs import CLEAN, CORRUPT, LAYERS, MODEL, WIDTH, pair


@pytest.mark.parametrize("lengths", [(WIDTH,), (WIDTH, WIDTH), (5, 1, 12)])
@pytest.mark.parametrize("model", [MODEL, tiny(2, 4, 16, 24)], ids=["three layers", "four heads"])
def test_a_run_of_which_nothing_stays_costs_a_full_run(model, lengths):
    clean, corrupt = pair(model, lengths)
    patch = Patch.write("input", corrupt)
    one, three = model.rerun(clean, patch).receipt, model.rerun(clean, [patch] * 3, "out")
    assert one.needed_flops == one.full_flops > 0
    assert three.values.shape[0] == 3
    assert three.receipt.needed_flops == three.receipt.full_flops == 3 * one.full_flops
    some = model.rerun(clean, Patch.write("resid1@0", corrupt)).receipt
    assert some.needed_flops < some.full_flops == one.full_flops


def test_a_full_run_costs_what_its_products_are():
    """Two operations for each weight and row; for each pair of positions two for each number of a
    query, two for each of a value."""
    c = MODEL.config
    weights = 4 * c.d_model**2 + 2 * c.d_model * c.d_mlp
    positions = [5, 1, 12]
    products = sum(2 * n * weights + 4 * n * n * c.d_model for n in positions)
    clean, corrupt = pair(MODEL, tuple(positions))
    receipt = MODEL.rerun(clean, Patch.write("a0.0@0", corrupt)).receipt
    assert receipt.full_flops == LAYERS * products


def test_what_is_printed_is_the_share_of_full_runs():
    assert str(Receipt(1000, 20, 3, 5 * 10**9, 0, 4 * 10**10)) == (
        "1,000 cells written, 20 changed, 3 rows recomputed, 5.000 GFLOP (12.50% of full runs)"
    )
    assert str(Receipt(flops=10**9)).endswith("1.000 GFLOP")
    receipt = MODEL.rerun(CLEAN, Patch.write("a1.0@3", CORRUPT)).receipt
    assert f"({receipt.flops / receipt.full_flops:.2%} of full runs)" in str(receipt)
    assert 0 < receipt.needed_flops <= receipt.flops
    # Rows are filled up as the processor needs: more may be spent than by a run of so few.
    assert receipt.needed_flops < receipt.full_flops


def test_receipts_add_up_entry_by_entry():
    a, b = Receipt(1, 2, 3, 4, 5, 6), Receipt(10, 20, 30, 40, 50, 60)
    assert vars(a + b) == vars(Receipt(11, 22, 33, 44, 55, 66))


def test_what_an_edit_writes_and_what_of_it_is_new():
    head = MODEL.rerun(CLEAN, Patch.write("a1.0@3", CORRUPT)).receipt
    assert (head.written, head.changed) == (MODEL.config.d_head, MODEL.config.d_head)
    value = CLEAN["resid1@3"].clone()
    value[0, 5] += 1
    point = MODEL.rerun(CLEAN, Patch.write("resid1@3", value)).receipt
    assert (point.written, point.changed) == (MODEL.config.d_model, 1)
