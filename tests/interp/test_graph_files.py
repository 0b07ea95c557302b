"""Graphs of EAP-IG and MIB in files, both ways; MIB's rows as pairs; the first look at all edges;
the commands on edges as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import weights
from interp import tasks
from interp.circuit import Circuit, CircuitError, files
from interp.circuit.matrix import matrix, places, ports, senders
from interp.circuit.screen import screen
from interp.circuit.search import every_edges, exact
from interp.circuit.turns import Turns
from interp.tasks import mib
from minigpt.address import edges as every_edge
from minigpt.config import SIZES
from minigpt.errors import MiniGPTError, PromptError
from tests.conftest import tiny
from tests.interp.test_cli import interp as interp
from tests.interp.test_curve import EVERY, MODEL, on

REAL = Path(__file__).parents[3] / "shared" / "real" / "mib_ioi_eap_ig.json"
CONFIG = MODEL.config
SCORES = {edge: float(i) - 9 for i, edge in enumerate(EVERY)}
GRAPH = Circuit({}, ["a0.1>a1.0.q", "m1>out"], SCORES)


def test_the_matrix_is_that_of_all_edges():
    config = SIZES["gpt2"]
    at = places(config)
    assert list(at) == list(every_edge(config))
    assert len(set(at.values())) == 32_491
    assert (len(senders(config)), len(ports(config))) == (157, 445)
    assert ports(config)[12:14] == ("a0.0.k", "a0.1.k")
    assert ports(config)[36:38] == ("m0.in", "a1.0.q")
    assert matrix(config, ["m11>out"]).nonzero().tolist() == [[156, 444]]


@pytest.mark.parametrize("ending", [".json", ".pt"])
def test_a_graph_goes_both_ways_with_the_scores_of_all_edges(tmp_path, ending):
    path = tmp_path / f"graph{ending}"
    files.write(GRAPH, CONFIG, path)
    back = files.read(path)
    assert sorted(back.edges) == sorted(GRAPH.edges)
    assert back.scores == SCORES
    assert back.shape == (2, 2)
    assert set(back.nodes) == {"a0.1", "a1.0", "m1"}


def test_a_pt_file_is_laid_out_as_eap_ig_has_it(tmp_path):
    data = files.to_pt(GRAPH, CONFIG)
    assert data["src_nodes"] == ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1"]
    own = ["h0<q>", "h1<q>", "h0<k>", "h1<k>", "h0<v>", "h1<v>"]
    assert data["dst_nodes"] == [
        *(f"a0.{x}" for x in own),
        "m0",
        *(f"a1.{x}" for x in own),
        "m1",
        "logits",
    ]
    assert data["edges_in_graph"].nonzero().tolist() == [[2, 7], [6, 14]]
    assert data["edges_scores"][2, 7] == SCORES["a0.1>a1.0.q"]
    assert data["nodes_in_graph"].tolist() == [True, False, True, False, True, False, True]


@pytest.mark.skipif(not REAL.is_file(), reason="MIB's own graph is not beside the repository")
def test_mibs_own_graph_goes_through_a_pt_file_unchanged(tmp_path):
    given, path = files.read(REAL), tmp_path / "graph.pt"
    files.write(given, SIZES["gpt2"], path)
    back = files.read(path)
    assert len(back.scores) == 32_491
    assert set(back.edges) == set(given.edges)
    singles = torch.tensor([given.scores[edge] for edge in back.scores]).tolist()
    assert list(back.scores.values()) == singles


def test_what_is_no_graph_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CircuitError, match=r"a \.pt file with weights"):
        files.read(tmp_path / "other.pt")
    (tmp_path / "bytes.pt").write_bytes(b"no archive")
    with pytest.raises(CircuitError, match="holds no tensors"):
        files.read(tmp_path / "bytes.pt")
    with pytest.raises(CircuitError, match="No such file"):
        files.read(tmp_path / "none.json")
    data = files.to_pt(GRAPH, CONFIG)
    torch.save({**data, "edges_scores": data["edges_scores"][:-1]}, tmp_path / "short.pt")
    with pytest.raises(CircuitError, match=r"scores of shape \[6, 15\]"):
        files.read(tmp_path / "short.pt")
    with pytest.raises(CircuitError, match=r"ends in .json or .pt"):
        files.write(GRAPH, CONFIG, tmp_path / "graph.txt")


# ---- MIB's rows


def row(io: str, s: str, c: str) -> dict:
    text = "Then, {} and {} went to the store. {} gave a drink to"
    return {
        "prompt": text.format(io, s, s),
        "metadata": {"indirect_object": io, "subject": s, "random_c": c},
        "s2_io_flip_counterfactual": {"prompt": text.format(io, s, io)},
        "abc_counterfactual": {"prompt": text.format(c, c, c)},
    }


@pytest.fixture
def rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "ioi.parquet"
    given = [
        row("Mary", "John", "Paul"),
        row("Mary", "Bartholomew", "Paul"),
        row("John", "Paul", "Mary"),
    ]
    pandas.DataFrame(given).to_parquet(path)
    return path


def test_mibs_rows_are_pairs_of_as_many_tokens_that_begin_as_its_own_code_does(rows):
    words = weights.load("ioi-mini").words
    pairs = mib.prompts(rows, words)
    assert len(pairs) == 2  # Bartholomew is several tokens
    assert pairs.clean[0, 0] == words.end
    assert words.decode(pairs.clean[0].tolist()[1:]) == row("Mary", "John", "Paul")["prompt"]
    differ = (pairs.clean[0] != pairs.corrupt[0]).nonzero().flatten().tolist()
    assert len(differ) == 1
    assert words.text(int(pairs.answers[0, 0])) == " Mary"
    assert words.text(int(pairs.distractors[1, 0])) == " Paul"
    assert len(mib.prompts(rows, words, n=1, start=False)) == 1


def test_of_other_rows_it_is_said_what_they_lack(rows, tmp_path):
    pandas, words = pytest.importorskip("pandas"), weights.load("ioi-mini").words
    with pytest.raises(PromptError, match=r"no counterfactual other(.|\n)*abc_counterfactual"):
        mib.prompts(rows, words, counterfactual="other")
    pandas.DataFrame([{"text": "Mary"}]).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(PromptError, match="a row with the columns text"):
        mib.prompts(tmp_path / "text.parquet", words)
    (tmp_path / "none.parquet").write_text("no")
    with pytest.raises(PromptError, match=r"none\.parquet"):
        mib.prompts(tmp_path / "none.parquet", words)


def test_some_prompts_of_several():
    words = weights.load("ioi-mini").words
    pairs = tasks.ioi.prompts(words, 6, 0)
    some = pairs.rows([4, 1])
    for name in ("clean", "corrupt"):
        for mine, theirs in zip((0, 1), (4, 1), strict=True):
            assert some._ids(name, mine) == pairs._ids(name, theirs)
    assert torch.equal(some.positions["S2"], pairs.positions["S2"][[4, 1]])
    assert torch.equal(some.answers, pairs.answers[[4, 1]])
    assert some.groups.tolist() == pairs.groups[[4, 1]].tolist()


# ---- the first look


def test_what_a_first_look_misses_is_measured():
    every, few = on(), on("zero")  # another question altogether: it misses much
    with Turns(every) as turns, Turns(few) as first:
        found = screen(first, turns, 30, sample=len(EVERY) - 30)
        values = exact(turns).mean(1).abs()
        same = screen(turns, turns, 30, sample=50)
        names = every_edges(turns)
    least = sorted((float(values[names.index(e)]) for e in found.edges), reverse=True)[9]
    larger = [e for e, x in zip(names, values, strict=True) if e not in found.edges and x > least]
    assert found.missed == len(larger) > 0
    assert found.wanted == 10
    assert same.missed == 0
    assert torch.equal(same.lost.mean(1).abs(), values.sort(descending=True).values[:30])
    with Turns(every) as turns, pytest.raises(MiniGPTError, match="0 edges to keep"):
        screen(turns, turns, 0)


# ---- commands


@pytest.mark.slow
def test_all_edges_in_a_table_and_in_a_file_for_others(interp, tmp_path):
    out = tmp_path / "graph.json"
    status, said, _ = interp("edges", "-n", "2", "--out", str(out), "-k", "3")
    assert status == 0
    assert "edges cut one at a time" in said
    assert "0 corrupt, 1 clean" in said
    assert "each head" not in said  # a sum of edges is no effect
    graph = files.read(out)
    assert len(graph.scores) == 1519
    best = max(graph.scores, key=graph.scores.get)
    assert best in said
    status, said, _ = interp("curve", str(out), "-n", "2", "--json")
    assert status == 0
    curves = json.loads(said)["curves"]
    assert curves["signed"]["recovered"][-1] == 1
    assert curves["by size"]["cpr"] > curves["chance 0"]["cpr"]


@pytest.mark.slow
def test_edges_from_neurons_and_latents(interp):
    given = ("edges", "-n", "2", "--receivers", "out", "--json")
    status, said, _ = interp(*given, "--senders", "neurons:m3")
    rows = {row["address"]: row for row in json.loads(said)["rows"]}
    assert status == 0
    assert len(rows) == 512
    status, said, _ = interp(*given, "--senders", "m3 m3.n7 m3.b")
    whole = {row["address"]: row for row in json.loads(said)["rows"]}
    assert set(whole) == {"m3>out", "m3.n7>out", "m3.b>out"}
    assert whole["m3.n7>out"]["value"] == pytest.approx(rows["m3.n7>out"]["value"], abs=1e-5)
    status, said, _ = interp(*given, "--senders", "latents:m3", "--latents", "ioi-mini:m3")
    assert status == 0
    assert any(row["address"].startswith("m3.l") for row in json.loads(said)["rows"])
    status, _, said = interp(*given, "--senders", "m3.n9999")
    assert status == 2
    assert "m3.n9999" in said
    status, _, said = interp("edges", "--receivers", "out")
    assert status == 2
    assert "--receivers alone" in said


def test_a_first_look_says_what_it_misses(interp):
    status, said, _ = interp("edges", "-n", "3", "--screen", "2", "--most", "60")
    assert status == 0
    assert "60 of 1,519 edges were found on all pairs" in " ".join(said.split())


@pytest.mark.slow
def test_a_search_is_judged_on_other_prompts_beside_chance(interp, tmp_path):
    out, page = tmp_path / "graph.pt", tmp_path / "page.html"
    given = ("--by", "blocks", "-n", "2", "--edges", "40", "--out", str(out))
    status, said, _ = interp("search", *given, "--html", str(page))
    assert status == 0
    for part in ("Circuits by blocks", "single effects", "chance", "CPR"):
        assert part in said
    assert len(files.read(out).edges) == 40
    assert "<svg" in page.read_text()


@pytest.mark.slow
def test_circuits_of_neurons_and_latents_are_searched_by_name(interp):
    given = ("search", "--by", "exact", "-n", "2", "--edges", "5", "--json")
    for units in (("neurons:m3",), ("latents:m3", "--latents", "ioi-mini:m3")):
        status, said, _ = interp(*given, "--units", *units)
        assert status == 0
        found = json.loads(said)
        assert len(found["circuit"]) == 5
        assert set(found["curves"]) == {"exact", "chance"}
        assert found["curves"]["exact"]["cpr"] > found["curves"]["chance"]["cpr"]
    status, _, said = interp("search", "--units", "neurons:m3", "--by", "acdc")
    assert status == 2
    assert "--by greedy, blocks or exact" in said


def test_what_beginners_get_wrong(interp, tmp_path):
    status, _, said = interp("edges", "--out", str(tmp_path / "graph.txt"))
    assert status == 2
    assert "ends in .json or .pt" in said  # before the work
    status, _, said = interp("curve", str(tmp_path / "none.json"))
    assert status == 2
    assert "No such file" in said
    own = tmp_path / "own.txt"
    own.write_text("name mover: a2.6@END")
    status, _, said = interp("curve", str(own))
    assert status == 2
    assert "no scores of edges" in said
    other = tmp_path / "other.pt"
    files.write(Circuit({}, ["m1>out"], {"m1>out": 1.0}), tiny(2, 2, 8, 16).config, other)
    status, _, said = interp("curve", str(other))
    assert status == 2
    assert "a graph of 2 layers and 2 heads for a model of 4 and 8" in said
