"""Stores made one are what one pass over all their text gives; a store that was changed is found
out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from interp.corpus import reading, writing
from interp.corpus.check import check
from interp.corpus.documents import CorpusError
from interp.corpus.make import make
from interp.corpus.measure import Settings
from interp.corpus.merge import merge
from interp.corpus.store import Store
from interp.executor import Where
from tests.interp.corpus.test_collate import MODEL, SETTINGS, same, texts

DENSE = Settings(size=40, top=4, bottom=3, sample=12, shard=32, dense=("resid1", "m0", "a1.0"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two stores, and the store of both texts."""
    folder, all_ = tmp_path_factory.mktemp("parts"), texts()
    given = {"one": all_[:40], "other": all_[40:], "both": all_}
    return {
        name: make(MODEL, some, folder / name, SETTINGS, progress=False)
        for name, some in given.items()
    }


@pytest.fixture(scope="module")
def merged(parts, tmp_path_factory):
    return merge([parts["one"], parts["other"]], tmp_path_factory.mktemp("merged") / "m")


def test_two_stores_are_one_pass_over_both_texts(parts, merged):
    both = parts["both"]
    records = [pd.read_parquet(store.folder / "records.parquet") for store in (merged, both)]
    pd.testing.assert_frame_equal(*records)
    pd.testing.assert_frame_equal(merged.windows.table, both.windows.table)
    assert merged.windows.names == both.windows.names
    ours, theirs = (reading.moments(store) for store in (merged, both))
    assert ours.count == theirs.count
    assert torch.equal(ours.counts, theirs.counts)
    for name in ("mean", "variance", "skewness", "kurtosis", "least", "most"):
        x, y = getattr(ours, name), getattr(theirs, name)
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12), name
    assert torch.allclose(
        reading.attends(merged).means, reading.attends(both).means, rtol=1e-12, equal_nan=True
    )


def test_what_is_read_back_is_what_was_written(parts):
    from interp.corpus.collate import Found

    store = parts["one"]
    known = Found(
        reading.moments(store), reading.best(store, range(len(store))), reading.attends(store)
    )
    again = Found(
        reading.moments(store), reading.best(store, range(len(store))), reading.attends(store)
    )
    assert same(known, again)
    for kind, best in known.best.items():
        ordered = best.ordered
        assert torch.equal(ordered.rank, best.rank), kind


@pytest.mark.slow
def test_a_window_of_both_keeps_its_records_once(parts, tmp_path):
    some = texts()[:45]
    overlap = make(MODEL, some[30:], tmp_path / "overlap", SETTINGS, progress=False)
    twice = merge([parts["one"], overlap], tmp_path / "m")
    whole = make(MODEL, some, tmp_path / "whole", SETTINGS, progress=False)
    assert twice.manifest["windows twice"] == len(twice.windows) - len(whole.windows) > 0
    for address in ("a0.1", "m0.n7", "m1.l5"):
        ours, theirs = (store.component(address).examples for store in (twice, whole))
        assert [(e.kind, e.value, e.tokens) for e in ours] == [
            (e.kind, e.value, e.tokens) for e in theirs
        ]


def test_what_cannot_be_made_one_is_refused(parts, tmp_path):
    model = replace(MODEL, name="another")
    other = make(model, texts(5), tmp_path / "other", SETTINGS, progress=False)
    with pytest.raises(CorpusError, match="another model"):
        merge([parts["one"], other], tmp_path / "m")
    with pytest.raises(CorpusError, match="not empty"):
        merge([parts["one"], parts["other"]], parts["both"].folder)
    with pytest.raises(CorpusError, match="1 stores"):
        merge([parts["one"]], tmp_path / "m")


def test_a_store_is_as_it_was_written(parts, merged):
    for store in (parts["both"], merged):
        found = check(store, MODEL)
        assert all(each.holds for each in found)
        assert len(found) == 5 + 24


@pytest.mark.parametrize("name", ["tokens.uint16", "components.parquet", "windows.parquet"])
def test_twin_a_file_that_was_changed_is_found(tmp_path, name):
    store = make(MODEL, texts(8), tmp_path / "s", SETTINGS, progress=False)
    path = store.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [each.what for each in check(store) if not each.holds] == [name]


def test_twin_a_record_of_another_number_is_found(tmp_path):
    store = make(MODEL, texts(8), tmp_path / "s", SETTINGS, progress=False)
    path = store.folder / "records.parquet"
    table = pd.read_parquet(path)
    table["value"] += np.float32(0.001)
    table.to_parquet(path)
    manifest = json.loads((store.folder / "manifest.json").read_text("utf-8"))
    manifest["files"][path.name] = writing.checksum(path)
    (store.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    wrong = [each.what for each in check(Store(store.folder, MODEL.words), MODEL) if not each.holds]
    assert len(wrong) == 24


def test_every_number_of_chosen_nodes_is_kept(tmp_path):
    store = make(MODEL, texts(12), tmp_path / "s", DENSE, progress=False)
    for name in DENSE.dense:
        rows = store.dense(name)
        assert rows.shape == (store.windows.starts[-1], MODEL.config.d_model)
        for window in (0, 5, len(store.windows) - 1):
            start, end = store.windows.starts[window : window + 2]
            found = MODEL.run(store.windows[window][None])[name][0]
            assert np.array_equal(rows[start:end], found.numpy())
    assert all(each.holds for each in check(store, MODEL))
    two = make(MODEL, texts(12), tmp_path / "two", DENSE, where=Where(2), progress=False)
    assert np.array_equal(two.dense("resid1"), store.dense("resid1"))


def test_rows_that_were_not_kept_are_refused(parts, tmp_path):
    with pytest.raises(CorpusError, match="--dense resid1"):
        parts["one"].dense("resid1")
    wrong = Settings(size=40, dense=("a0.0.pattern",))
    with pytest.raises(CorpusError, match="row a token"):
        make(MODEL, texts(3), tmp_path / "s", wrong, progress=False)
