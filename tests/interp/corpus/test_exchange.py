"""Pages go to other tools' formats and come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interp.corpus import exchange
from interp.corpus.documents import CorpusError
from interp.corpus.says import says
from interp.explain.explain import explain
from minigpt.names import parse
from tests.interp.corpus.test_collate import MODEL, store

__all__ = ["store"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("m1.n4", "m{layer}.n{index}"), ("a1.2", "a{layer}.{index}"), ("m1.l5", "m{layer}.l{index}")],
)
def test_a_neuron_record_says_what_the_page_says_and_comes_back(store, name, kind):
    page = store.component(name)
    plain = json.loads(json.dumps(exchange.record(page)))
    assert plain["dataclass_name"] == "NeuronRecord"
    site = parse(name).site
    assert (plain["neuron_id"]["layer_index"], plain["neuron_id"]["neuron_index"]) == (1, site.part)
    tops = plain["most_positive_activation_records"]
    assert [max(row["activations"]) for row in tops] == pytest.approx(
        [example.value for example in page.of("top")], rel=1e-3
    )
    assert all(len(row["tokens"]) == len(row["activations"]) for row in tops)
    assert len(plain["quantile_boundaries"]) == len(plain["random_sample_by_quantile"]) == 10
    assert plain["quantile_boundaries"] == sorted(plain["quantile_boundaries"])
    back = exchange.from_record(plain, kind)
    assert back.address == name
    assert (back.mean, back.kurtosis) == (page.mean, page.kurtosis)
    assert [e.acts for e in back.of("top")] == [e.acts for e in page.of("top")]
    assert sum(back.counts) == back.count
    assert exchange.record(back)["most_positive_activation_records"] == tops


def test_neuronpedias_rows_say_it_too_and_come_back(store, tmp_path: Path):
    page = store.component("m0.n3")
    said = says(MODEL.params, MODEL.words, "m0.n3")
    source = exchange.source_of(parse("m0.n3").site)
    row = exchange.feature(page, said, source)
    assert (row["layer"], row["index"]) == ("0-mlp", "3")
    assert row["pos_str"] == [token for token, _ in said.lists["promotes"]]
    assert row["frac_nonzero"] == page.positive
    assert sum(row["freq_hist_data_bar_heights"]) == page.count
    rows = list(exchange.activations(page, source))
    assert len(rows) == len(page.of("top")) + len(page.of("sample"))
    for each in rows:
        assert each["values"][each["maxValueTokenIndex"]] == each["maxValue"]
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        exchange.write(tmp_path / name, rows)
        again = exchange.read(tmp_path / name)
        assert again == json.loads(json.dumps(rows))
    back = exchange.from_activations(again, "m0.n3")
    assert [e.acts for e in back.of("top")] == [e.acts for e in page.of("top")]
    assert len(back.of("sample")) == len(page.of("sample"))
    assert explain(back).passages > 0


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ([], "no NeuronRecord"),
        ({"dataclass_name": "Other"}, "no NeuronRecord"),
        ({"dataclass_name": "NeuronRecord"}, "KeyError"),
        (
            {
                "dataclass_name": "NeuronRecord",
                "neuron_id": {"layer_index": 0, "neuron_index": 1},
                "most_positive_activation_records": [{"tokens": ["a"], "activations": [1, 2]}],
            },
            "1 tokens and 2 activations",
        ),
    ],
)
def test_what_is_no_record_is_refused(plain, said, tmp_path):
    with pytest.raises(CorpusError, match=said):
        exchange.from_record(plain)
    (tmp_path / "x.jsonl").write_text("{")
    with pytest.raises(CorpusError, match=r"x\.jsonl"):
        exchange.read(tmp_path / "x.jsonl")
    for rows in ([], [{"tokens": ["a"]}]):
        with pytest.raises(CorpusError):
            exchange.from_activations(rows, "m0.n0")
