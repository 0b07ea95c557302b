"""A row of a product has its own bits, whatever rows stand beside it and however many threads work;
what a processor needs for that is measured once."""

from __future__ import annotations

import json
import subprocess
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from interp.audit.determinism import threads
from minigpt import ops, settle
from minigpt.settle import BLOCKS, CUTS, WHOLE, WIDE, Cut

WIDTHS = [1, 3, 4, 8, 16, 48, 64, 128, 512, 768, 1024, 1600, 3072]


def numbers(rows: int, columns: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=draws, dtype=torch.float64).to(dtype)


@given(
    terms=st.sampled_from(WIDTHS[4:]),
    columns=st.sampled_from([4, 16, 48, 64, 128, 768]),
    rows=st.integers(1, 300),
    first=st.integers(0, 40),
    n_threads=st.sampled_from([1, 2, 3, 4]),
    dtype=st.sampled_from([*settle.TYPES, torch.float16]),
    seed=st.integers(0, 99),
)
@example(3072, 768, 1, 0, 2, torch.float32, 0)
@example(512, 128, 20, 0, 3, torch.float32, 0)
@example(4096, 64, 300, 0, 2, torch.float32, 0)
def test_a_rows_bits_are_its_own(terms, columns, rows, first, n_threads, dtype, seed):
    x, w = numbers(first + rows + 7, terms, dtype, seed), numbers(terms, columns, dtype, seed + 1)
    b = numbers(1, columns, dtype, seed + 2)[0]
    with threads(1):
        every = ops.settled(x, w, b)
    with threads(n_threads):
        some = ops.settled(x[first : first + rows], w, b)
    assert torch.equal(some, every[first : first + rows])


def test_half_precision_may_go_in_float32_and_is_rounded_once(monkeypatch):
    own = settle.cut
    monkeypatch.setattr(settle, "cut", lambda dtype: WIDE if dtype.itemsize == 2 else own(dtype))
    for dtype in (torch.bfloat16, torch.float16):
        x, w, b = (numbers(n, m, dtype, n) for n, m in ((20, 800), (800, 3), (1, 3)))
        expected = ops.settled(x.float(), w.float(), b[0].float()).to(dtype)
        assert torch.equal(ops.settled(x, w, b[0]), expected)
        assert torch.equal(ops.settled(x, w), ops.settled(x.float(), w.float()).to(dtype))


@pytest.mark.parametrize("cut", [*CUTS, BLOCKS, Cut(terms=5, grain=3, least=7, rows=6)], ids=str)
def test_whatever_the_cut_it_is_the_product(cut, monkeypatch):
    monkeypatch.setattr(settle, "cut", lambda _: cut)
    for rows in (0, 1, 5, 16, 17, 131, 2500):
        x, w, b = (numbers(n, m, torch.float64, n) for n, m in ((rows, 800), (800, 3), (1, 3)))
        torch.testing.assert_close(ops.settled(x, w, b[0]), x @ w + b[0])
        torch.testing.assert_close(ops.settled(x, w), x @ w)


@given(
    n=st.integers(0, 9000),
    terms=st.sampled_from([700, 800]),
    cut=st.sampled_from([*CUTS, BLOCKS]),
)
def test_blocks_cover_the_rows_in_sizes_that_may_be(n, terms, cut):
    whole = cut.whole(n)
    covered = [row for block in cut.blocks(whole, terms) for row in range(whole)[block]]
    assert covered == list(range(whole))
    sizes = [len(range(whole)[block]) for block in cut.blocks(whole, terms)]
    assert all(size % cut.grain == 0 and size >= cut.least for size in sizes)
    assert cut.padded(n) >= n
    assert cut.padded(n) - n < cut.least + cut.grain


def test_a_sum_is_cut_where_it_is_longer_than_it_may_be_whole():
    assert [Cut(terms=384).piece(n) for n in (384, 512, 768)] == [384, 384, 384]
    assert [Cut(terms=384, whole_terms=512).piece(n) for n in (384, 512, 768)] == [384, 512, 384]
    assert Cut().piece(9999) == 9999


@pytest.mark.slow
def test_a_cut_that_settles_nothing_is_not_chosen(monkeypatch):
    """Of a library whose bits depend on the number of rows unless it sums few terms at a time."""
    plain = torch.addmm

    def fickle(b, x, w, *, out):
        return plain(b, x, w, out=out).add_(len(x) if len(w) > 400 else 0)

    monkeypatch.setattr(torch, "addmm", fickle)
    with threads(1):
        chosen = settle.measure(torch.float64)
        assert (chosen.terms, chosen.whole_terms) == (384, 0)
        monkeypatch.setattr(torch, "addmm", lambda b, x, w, *, out: out.fill_(len(x)))
        assert settle.measure(torch.float64) == BLOCKS
        monkeypatch.setattr(settle, "cut", lambda _: Cut(terms=384))
        assert settle.measure(torch.bfloat16) == WIDE
        monkeypatch.setattr(settle, "cut", lambda _: BLOCKS)
        assert settle.measure(torch.bfloat16) == BLOCKS


# ---- measured once


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settle.cut.cache_clear()
    yield tmp_path / "minigpt"
    settle.cut.cache_clear()


def told(monkeypatch, cut: Cut, status: int = 0) -> list[object]:
    """As if the measurement said this; a note of each."""
    asked: list[object] = []

    def run(command, **rest):
        asked.append(command)
        if status:
            raise subprocess.CalledProcessError(status, command)
        return subprocess.CompletedProcess(command, 0, json.dumps(asdict(cut)))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_it_is_measured_once_and_kept(folder, monkeypatch):
    asked = told(monkeypatch, Cut(terms=384))
    for _ in range(3):
        settle.cut.cache_clear()
        assert settle.cut(torch.float32) == Cut(terms=384)
    assert len(asked) == 1
    assert settle.cut(torch.float64) == Cut(terms=384)
    assert len(asked) == 2
    assert all("torch" in file.name for file in folder.iterdir())


def test_a_damaged_file_is_measured_again(folder, monkeypatch):
    asked = told(monkeypatch, Cut())
    settle.cut(torch.float32)
    for file in folder.iterdir():
        file.write_text("{")
    settle.cut.cache_clear()
    assert settle.cut(torch.float32) == Cut()
    assert len(asked) == 2


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(folder, monkeypatch):
    folder.parent.joinpath("minigpt").write_text("a file where the folder should be")
    told(monkeypatch, Cut(terms=768))
    assert settle.cut(torch.float32) == Cut(terms=768)


def test_where_it_cannot_be_measured_blocks_are_taken_and_that_is_said(folder, monkeypatch):
    told(monkeypatch, Cut(), status=1)
    with pytest.warns(settle.SettleWarning, match="blocks of 128 rows"):
        assert settle.cut(torch.float32) == BLOCKS


def test_a_type_that_is_not_measured_is_not_cut_or_goes_in_float32(folder, monkeypatch):
    asked = told(monkeypatch, BLOCKS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settle.cut(torch.int32) == Cut()
        assert settle.cut(torch.float16) == WIDE
    assert not asked
    assert Cut().terms == WHOLE


@pytest.mark.slow
def test_the_measurement_itself_says_a_cut(folder):
    """In a process of its own, for a type that takes least."""
    assert settle.cut(torch.float32) in (*CUTS, BLOCKS)
    assert len(list(Path(folder).iterdir())) == 1


def test_a_librarys_own_product_is_plain_where_company_changes_no_bit(monkeypatch):
    w = numbers(48, 16, torch.float64, 0)
    with threads(1):
        assert settle.is_plain(w, 20)
    plain = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda x, w: plain(x, w) + len(x))
    assert not settle.is_plain(w, 20)
