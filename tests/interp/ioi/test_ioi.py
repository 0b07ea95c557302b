"""The paper as a study: what it finds on the embedded model, its numbers against definitions
written out, its page and its errors."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from typer.testing import CliRunner

import weights
from interp import metrics
from interp.circuit import Circuit
from interp.cli import commands
from interp.discover import discover
from interp.executor import Where
from interp.ioi import behaviour, judged, mechanism, published, study, view
from interp.ioi.lab import Lab
from interp.ioi.part import Claim
from interp.show import page, terminal
from interp.tasks import ioi
from minigpt import GPT2, Config, MiniGPTError, Patch
from minigpt import tokenizer as tokenizers
from tests.conftest import random_params, tiny

CIRCUIT = Circuit(
    {
        published.MOVERS: "a2.6@END a3.4@END",
        published.INHIBITION: "a0.6@END a2.1@END",
        published.PREVIOUS: "a0.6@S1+1",
    },
    ["a0.6>a2.6.q", "a2.6>out"],
)


# Parts of as many draws as the settings above say.
SEARCHED = ("nulls", "completeness", "minimality")


@pytest.fixture(scope="module")
def model() -> GPT2:
    return weights.load("ioi-mini")


@pytest.fixture(scope="module")
def found(model):
    with pytest.MonkeyPatch.context() as patched:
        for name, less in {
            "NULLS": 10,
            "RANDOM": 6,
            "GREEDY": (1, 2, 3),
        }.items():
            patched.setattr(judged, name, less)
        return study(model, "ioi-mini", n=40, seed=4)


def lab(model: GPT2, n: int = 40) -> Lab:
    return Lab(model, CIRCUIT, n)


@pytest.mark.slow
def test_two_processes_measure_the_same(found, model, monkeypatch):
    for name, less in {"NULLS": 10, "RANDOM": 6, "GREEDY": (1, 2, 3)}.items():
        monkeypatch.setattr(judged, name, less)
    here = study(model, "ioi-mini", n=30, circuit=CIRCUIT)
    monkeypatch.undo()  # which other processes do not see
    there = study(model, "ioi-mini", n=30, circuit=CIRCUIT, where=Where(2))
    mine, theirs = (
        {part.name: part.to_dict() for part in each.parts if part.name not in SEARCHED}
        for each in (here, there)
    )
    assert mine == theirs
    assert len(mine) > 12


@pytest.mark.slow
def test_the_circuit_is_what_discover_finds_on_other_prompts_and_is_judged_on_these(found, model):
    circuit = found.circuits["found here"]
    pairs = ioi.prompts(model.tokenizer, 40, 5)
    assert {role: tuple(nodes) for role, nodes in circuit.roles.items()} == discover(
        model, pairs, metrics.logit_diff(pairs)
    ).roles
    own = ioi.prompts(model.tokenizer, 40, 4)
    said, judge = (
        found.part("faithfulness").data,
        circuit.faithfulness(model, own, metrics.logit_diff(own)),
    )
    assert said["circuit"] == pytest.approx(float(judge.circuit.mean()), abs=1e-5)
    assert said["gap"] == pytest.approx(judge.gap, abs=1e-5)
    assert abs(said["empty"]) < 0.1 * said["model"], "without any head there is nothing left"


@pytest.mark.slow
def test_every_part_is_there_and_says_what_it_is(found):
    names = [part.name for part in found.parts]
    assert len(names) == len(set(names)) == 23
    assert all(part.heading and part.where and part.text for part in found.parts)
    assert {part.name for part in found.parts if part.skipped} <= {
        "paths_induction_k",
        "paths_induction_q",
    }
    assert not found.claims, "the paper says nothing of this model"
    assert len(found.short) == 3
    data = json.loads(json.dumps(found.to_dict()))
    assert data["parts"]["task"]["logit_difference"] == pytest.approx(
        found.part("task").data["logit_difference"]
    )


@pytest.mark.slow
def test_the_page_needs_nothing_but_itself_and_every_heading_is_on_it(found):
    html = page.document(view.study(found))
    assert all(part.heading.replace("'", "&#x27;") in html for part in found.parts)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", html)
    assert "nan" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)[:2000]
    assert terminal.document(view.study(found)) is not None


@pytest.mark.slow
def test_signals_are_patches_from_the_six_kinds_of_prompts(model):
    own = lab(model)
    table = {
        (row["token"], row["position"]): row["logit_difference"]
        for row in behaviour.signals(own).data["table"]
    }
    for signal, corrupt in behaviour.SIGNALS.items():
        other = model.run(ioi.prompts(own.tokenizer, own.n, own.seed, corrupt=corrupt).corrupted)
        patch = Patch.write("a0.6@END", other) | Patch.write("a2.1@END", other)
        assert table[signal] == pytest.approx(
            float(own.metric(model.rerun(own.clean, patch)).mean()), abs=1e-5
        )
    assert table[1, 1] == pytest.approx(float(own.metric(own.clean).mean()))


def test_the_fit_finds_what_a_table_was_made_of():
    made = {(t, p): 2.5 * p + 0.5 * t for t in (1, 0, -1) for p in (1, -1)}
    position, token, error = behaviour._fit(made)
    assert (position, token) == (pytest.approx(2.5), pytest.approx(0.5))
    assert error < 1e-9
    assert behaviour._fit({**made, (1, 1): 9.0})[2] > 0.5


@pytest.mark.slow
def test_redirected_attention_is_that_of_the_paths_into_the_movers_queries(model):
    own = lab(model)
    after = mechanism.redirected(own).data["attention"]["IO"][1]
    sent = model.rerun(
        own.clean,
        Patch.write("a0.6@END", own.corrupt)
        | Patch.write("a2.1@END", own.corrupt)
        | Patch.hold("heads", own.clean),
    )
    seen = model.rerun(own.clean, Patch.input("a2.6.q@END", sent) | Patch.input("a3.4.q@END", sent))
    rows, at = torch.arange(own.n), own.pairs.batch
    by_hand = [
        seen[f"{head}.pattern"][rows, at.index("END"), at.index("IO")].mean()
        for head in ("a2.6", "a3.4")
    ]
    assert after == pytest.approx(float(sum(by_hand) / 2), abs=1e-6)
    before = mechanism.redirected(own).data["attention"]["IO"][0]
    assert after < before - 0.1, "the movers look elsewhere"


def test_the_backup_part_knocks_out_the_movers(model):
    own = lab(model)
    data = mechanism.backup(own).data
    gone = own.ablation.without([["a2.6@END", "a3.4@END"]])
    assert data["after"] == pytest.approx(float(gone.mean()), abs=1e-5)
    assert data["before"] == pytest.approx(float(own.metric(own.clean).mean()))


@pytest.mark.slow
def test_a_circuit_that_is_given_is_looked_at_and_missing_roles_are_said(model, monkeypatch):
    monkeypatch.setattr(judged, "NULLS", 5)
    monkeypatch.setattr(judged, "GREEDY", (1, 1, 1))
    short = study(model, "ioi-mini", n=40, circuit=Circuit({published.MOVERS: "a2.6@END"}))
    assert list(short.circuits) == ["given"]
    assert "S-inhibition" in short.part("signals").skipped
    assert short.part("faithfulness").data["circuit"] < short.part("faithfulness").data["model"]


def test_interrupted_it_keeps_what_is_finished(model, monkeypatch):
    monkeypatch.setattr(
        sys.modules["interp.ioi.study"],
        "MECHANISM",
        (mechanism.direct, _interrupt, mechanism.looking),
    )
    stopped = study(model, "ioi-mini", n=40, circuit=CIRCUIT)
    assert stopped.interrupted
    assert [part.name for part in stopped.parts] == ["task", "given", "direct"]
    assert "interrupted" in page.document(view.study(stopped))


def test_parts_that_cost_differently_are_counted_and_no_time_left_is_guessed(
    model, monkeypatch, capsys
):
    monkeypatch.setattr(
        sys.modules["interp.ioi.study"], "MECHANISM", (mechanism.direct, _interrupt)
    )
    study(model, "ioi-mini", n=40, circuit=CIRCUIT, progress=True)
    shown = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"interrupt: \|.*\| 3/8 part \[\d\d:\d\d\]", shown), shown


def _interrupt(_lab):
    raise KeyboardInterrupt


# --- GPT-2's own path, on a narrow model of its shape ---------------------------------------------


@pytest.fixture(scope="module")
def shaped_like_gpt2():
    try:
        words = tokenizers.gpt2()
    except MiniGPTError as error:
        pytest.skip(f"GPT-2's vocabulary is not at hand: {error}")
    return GPT2(random_params(Config(12, 12, 48, 48, 64, 50257)), words)


@pytest.mark.slow
def test_the_published_circuit_is_held_against_the_paper_row_by_row(shaped_like_gpt2, monkeypatch):
    monkeypatch.setattr(judged, "NULLS", 5)
    compared = study(
        shaped_like_gpt2, "a narrow gpt2", n=30, is_gpt2=True, circuit=published.CIRCUIT
    )
    assert len(compared.claims) > 60
    assert not all(claim.agrees for _, claim in compared.claims), (
        "a random model does not do as the paper says"
    )
    assert {part.name for part, _ in compared.claims} >= {
        "task",
        "to_logits",
        "signals",
        "copying",
        "faithfulness",
        "completeness",
        "minimality",
        "adversarial",
    }
    html = page.document(view.study(compared))
    assert "DIFFERS" in html
    assert terminal.document(view.study(compared)) is not None


def test_a_claim_agrees_with_either_of_its_sources_within_its_tolerance():
    assert Claim("", "", 3.4, 3.56).agrees
    assert not Claim("", "", 3.1, 3.56).agrees
    assert Claim("", "", 3.1, 3.56, 2.9).agrees
    assert not Claim("", "", 3.1, 3.56, within=0.1).agrees
    assert not Claim("", "", 3.1).agrees


def test_what_is_published_is_26_heads_each_with_its_k():
    assert len(published.CIRCUIT.nodes) == 26
    assert len(published.NAIVE.nodes) == 13
    assert set(published.OTHERS) == set(published.MINIMALITY) == set(published.CIRCUIT.nodes)
    assert all(node not in others for node, others in published.OTHERS.items())
    assert set(published.NAIVE.nodes) <= set(published.CIRCUIT.nodes)


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_circuit_in_a_file_is_judged(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\nname mover: a2.6@END a3.4@END\nS-inhibition: a0.6@END a0.3@END\n")
    done = CliRunner().invoke(commands.app, ["circuit", str(file), "--prompts", "30", "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert len(data["minimality"]) == 4
    assert data["faithfulness"]["circuit"] < data["faithfulness"]["model"]
    shown = CliRunner().invoke(commands.app, ["circuit", str(file), "--prompts", "30"])
    assert "name mover" in shown.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("name mover a2.6@END", "no line of a circuit"),
        ("name mover: a9.6@END", "layer"),
        ("name mover: a2.6@S9", "S9"),
        ('{"roles": 1}', "no circuit"),
    ],
)
def test_what_a_beginner_gets_wrong_is_said(tmp_path, text, said):
    file = tmp_path / "mine.txt"
    if text is not None:
        file.write_text(text)
    done = CliRunner().invoke(commands.app, ["circuit", str(file), "--prompts", "30"])
    assert isinstance(done.exception, MiniGPTError)
    assert said in str(done.exception)


def test_a_model_without_words_is_refused_with_the_remedy():
    with pytest.raises(MiniGPTError, match="vocabulary"):
        study(tiny(), "tiny", n=30, circuit=CIRCUIT)
