"""The table of sizes by kind of device: what a card's sizes do, tried on a CPU that takes them for
its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from minigpt import GPT2, Patch, Sweep, Trace, ops, settle
from minigpt.address import heads
from minigpt.device import CPU, CUDA, KINDS, limits
from minigpt.settle import BLOCKS, Cut
from tests.conftest import tiny

SHAPE = (2, 4, 64, 1024, 64, 50)
CELLS = ("resid", "qkv", "z", "mid", "act", "out")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU, given what a card is given."""
    monkeypatch.setitem(KINDS, "cpu", CUDA)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every settled product, as they are computed."""
    rows: list[int] = []
    product = ops.product

    def counted(x: torch.Tensor, *rest: object) -> torch.Tensor:
        rows.append(len(x))
        return product(x, *rest)

    monkeypatch.setattr(ops, "product", counted)
    return rows


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cut], None]:
    """This processor, as if it needed another cut; none unless called."""
    return lambda cut: monkeypatch.setattr(settle, "cut", lambda _: cut)


def model() -> GPT2:
    return tiny(*SHAPE)


def run(batch: int = 10, length: int = 30, seed: int = 0) -> Trace:
    drawn = torch.Generator().manual_seed(seed)
    return model().run(torch.randint(0, 50, (batch, length), generator=drawn))


def sweep(clean: Trace, other: Trace) -> Sweep:
    """Every head written from another run, to the output's last position."""
    patches = [Patch.write(str(head), other) for head in heads(clean.config)]
    return model().rerun(clean, patches, "out@-1")


def test_each_kind_has_its_sizes_and_others_those_of_a_cpu():
    assert limits(torch.device("cpu")) is CPU
    assert limits(torch.device("cuda:1")) is CUDA
    assert limits(torch.device("meta")) is CPU


def test_a_cpu_fills_few_rows_up(products, cut):
    cut(Cut())
    clean = run(3, 11)
    assert set(products) == {32, 16}  # 33 = 32 + 1, filled up
    del products[:]
    model().rerun(clean, Patch.zero("a1.0@3"))
    assert set(products) == {16}


def test_where_nothing_settles_a_product_its_blocks_have_one_shape(products, cut):
    cut(BLOCKS)
    run()
    assert set(products) == {128}


def test_a_card_gets_every_product_whole(card, products):
    clean = run()
    assert products == [300] * 8
    del products[:]
    few = model().rerun(clean, Patch.zero("a1.0@3"))
    assert set(products) == {10}
    assert few.receipt.flops == few.receipt.needed_flops > 0


def test_a_cards_sizes_give_the_same_numbers(monkeypatch):
    clean, other = run(), run(seed=1)
    values, patched = sweep(clean, other).values, model().rerun(clean, Patch.zero("a0.1@4"))
    monkeypatch.setitem(KINDS, "cpu", CUDA)
    for layer, cells in enumerate(run().cells):
        for name in CELLS:
            expected = getattr(clean.cells[layer], name)
            torch.testing.assert_close(getattr(cells, name), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sweep(clean, other).values, values, rtol=1e-5, atol=1e-5)
    again = model().rerun(clean, Patch.zero("a0.1@4"))
    torch.testing.assert_close(again.logits, patched.logits, rtol=1e-5, atol=1e-5)


def test_a_cards_sweep_goes_in_one_chunk_of_many_rows(monkeypatch, products):
    clean, other = run(), run(seed=1)
    several = len(chunks(sweep(clean, other)))
    monkeypatch.setitem(KINDS, "cpu", CUDA)
    assert chunks(sweep(clean, other)) == [8]
    assert several > 1


def chunks(swept: Sweep) -> list[int]:
    """How many variants each chunk has."""
    sizes: list[int] = []
    swept.map(lambda values: sizes.append(len(values)) or values)
    return sizes


def test_a_budget_that_is_given_goes_before_the_devices(monkeypatch):
    clean, other = run(), run(seed=1)
    patches = [Patch.write(str(head), other) for head in heads(clean.config)]
    monkeypatch.setitem(KINDS, "cpu", replace(CUDA, sweep_rows=300))
    assert chunks(model().rerun(clean, patches, "out@-1", budget=1)) == [1] * 8
    monkeypatch.setitem(KINDS, "cpu", replace(CUDA, sweep_rows=300, budget=1))
    assert chunks(model().rerun(clean, patches, "out@-1")) == [1] * 8
    assert len(chunks(model().rerun(clean, patches, "out@-1", budget=2**30))) < 8
