"""The table of a store's explanations: each is what `explain` says of it alone; it is searched by
words, gone on with, and the same from several processes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.cli.inputs import EMBEDDED, load
from interp.concepts import Concept
from interp.corpus.documents import CorpusError
from interp.corpus.make import make
from interp.corpus.store import Store
from interp.executor import Where
from interp.explain import catalogue as tables
from interp.explain.catalogue import catalogue, summary
from interp.explain.explain import explain
from interp.explain.truth import named
from tests.interp.corpus.test_collate import MODEL, SETTINGS, texts
from tests.interp.explain.test_known_neurons import WORDS, known
from tests.interp.explain.test_known_neurons import store as made_by_hand
from weights import catalog

__all__ = ["made_by_hand"]


@pytest.fixture
def store(tmp_path) -> Store:
    return make(MODEL, texts(40), tmp_path / "s", SETTINGS, progress=False)


def table(store: Store) -> pd.DataFrame:
    return pd.read_parquet(store.folder / "explanations.parquet")


def test_each_is_what_is_said_of_it_alone(store, monkeypatch):
    monkeypatch.setattr(tables, "PART", 24)  # several parts, the last of them not full
    catalogue(store, progress=False)
    rows = table(store)
    assert [*rows["address"]] == store.addresses
    for row in rows.iloc[[0, 5, 23, 24, 63]].itertuples():
        alone = explain(store.component(row.address))
        assert (row.kind, row.sentence) == (alone.kind, alone.sentence)
        assert row.simulation == alone.scores.simulation
        assert row.nothing == alone.baselines["nothing"].simulation
        assert row.its_top_tokens == alone.baselines["its top tokens"].simulation
    assert rows["p"].between(1 / 20, 1).all()
    assert sum(n for _, n, _, _ in summary(store)) == 64
    assert not (store.folder / "explanations").exists()


def test_what_was_interrupted_is_gone_on_with(store, monkeypatch):
    monkeypatch.setattr(tables, "PART", 24)
    kept, seen = tables.entries, []

    def entries(store, part):
        seen.append(part)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return kept(store, part)

    monkeypatch.setattr(tables, "entries", entries)
    with pytest.raises(KeyboardInterrupt):
        catalogue(store, progress=False)
    assert not store.is_explained
    catalogue(store, progress=False)
    assert [part.start for part in seen] == [0, 24, 24, 48]
    catalogue(store, progress=False)
    assert len(seen) == 4


@pytest.mark.slow
def test_two_processes_say_the_same(store, tmp_path):
    catalogue(store, progress=False)
    other = make(MODEL, texts(40), tmp_path / "other", SETTINGS, progress=False)
    catalogue(other, where=Where(2), progress=False)
    pd.testing.assert_frame_equal(table(store), table(other))


def test_a_search_by_words(store):
    with pytest.raises(CorpusError, match="interp explain --all"):
        store.find(words="name")
    assert store.sentence("a0.0") == ""
    catalogue(store, progress=False)
    rows = table(store)
    word = rows["sentence"][20].split()[1].strip("',")
    found = store.find(words=word.upper(), k=100)
    expected = rows[rows["sentence"].str.lower().str.contains(word.lower(), regex=False)]
    assert {address for address, _ in found} == {*expected["address"]}
    scores = [by for _, by in found]
    assert scores == sorted(scores, reverse=True)
    peaked = {address for address, _ in store.find(where="kurtosis > 5", k=100)}
    both = {address for address, _ in store.find(words=word, where="kurtosis > 5", k=100)}
    assert both == peaked & {address for address, _ in found}
    assert store.find(words="no such word at all") == []
    assert store.sentence("m0.n3") == rows["sentence"][rows["address"] == "m0.n3"].item()


@pytest.mark.slow
def test_an_explanation_of_a_known_neuron_is_beaten_by_no_other(made_by_hand):
    found = {entry.address: entry for entry in tables.entries(made_by_hand, range(12))}
    assert found["m1.n0"].p == 1 / 12
    assert found["m1.n3"].p == 1 / 12
    assert abs(found["m1.n3"].another) < 0.3


def test_a_concept_is_named_where_the_predicted_tokens_are_its_own(made_by_hand):
    rng = np.random.default_rng(3)
    wanted, lines = {WORDS[i] for i in (3, 8, 20)}, []
    for _ in range(60):
        words = rng.choice(WORDS, 20).tolist()
        places = [i for i, word in enumerate(words) if word in wanted]
        lines.append({"text": "".join(words), "concepts": {"chosen": places, "second": [1]}})
    told = {
        "chosen": Concept("chosen", "m1.n0", 0.0, 1.0, 0.1, 99),
        "second": Concept("second", "m1.n2", 0.0, 0.5, 0.1, 99),
    }
    chosen, second = named(made_by_hand, told, lines)
    assert chosen.is_named
    assert chosen.f1 == 1.0
    assert not second.is_named
    assert known().words.n_vocab == len(WORDS)


@pytest.mark.slow
def test_what_lies_beside_the_embedded_model_is_what_the_code_says(tmp_path):
    model = load("ioi-mini", "cpu", latents=EMBEDDED["ioi-mini"])
    store = make(model, [catalog.CONCEPTS], tmp_path / "s", progress=False)
    kept = pd.read_parquet(catalog.EXPLAINED)
    assert [*kept["address"]] == store.addresses
    for row in kept.iloc[::23].itertuples():
        alone = explain(store.component(row.address))
        assert (row.kind, row.sentence) == (alone.kind, alone.sentence), row.address
        assert row.simulation == pytest.approx(alone.scores.simulation, abs=1e-6), row.address
