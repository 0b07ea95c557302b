"""The command line as a person meets it: answers, JSON, pages, and the mistakes that beginners
make."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import weights
from interp import cli
from interp.cli import output
from tests.conftest import tiny

ROOT = Path(__file__).parents[2]

PROMPT = "When Mary and John went to the store, John gave a drink to"


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    """Call `interp` in this process; its exit status, output and error output."""
    monkeypatch.setattr(sys, "argv", ["interp", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def interp(capsys, monkeypatch):
    monkeypatch.setattr(output.console, "_width", 160)
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def test_why_answers_the_question_and_the_sum_holds(interp):
    status, out, _ = interp("why", PROMPT, "--answer", " Mary", "--over", " John")
    assert status == 0
    for part in (
        "Why does ioi-mini say ' Mary' rather than ' John'?",
        "pushes for ' Mary'",
        "pushes for ' John'",
        "direct effect of each head",
        "holds",
    ):
        assert part in out


def test_why_as_json_is_complete_and_adds_up(interp):
    status, out, _ = interp("why", PROMPT, "--answer", " Mary", "--over", " John", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["tokens"][1] == " Mary"
    assert found["top"][0]["text"] == " Mary"
    assert found["closure"]["holds"]
    assert sum(found["effects"].values()) == pytest.approx(found["difference"], abs=1e-4)
    assert found["toward_answer"][0]["promotes"]
    assert {push["address"] for push in found["toward_answer"]}.isdisjoint(
        push["address"] for push in found["toward_other"]
    )


def test_why_without_an_answer_takes_the_two_best_tokens(interp):
    found = json.loads(interp("why", PROMPT, "--json")[1])
    assert [found["answer"], found["over"]] == [token["text"] for token in found["top"][:2]]


def test_neurons_can_be_rows(interp):
    found = json.loads(interp("why", PROMPT, "--neurons", "--json")[1])
    assert "m3.n0" in found["effects"]
    assert "m3" not in found["effects"]


def test_the_page_is_whole_in_itself_and_escapes_what_it_is_given(interp, tmp_path):
    page = tmp_path / "report.html"
    status, _, err = interp("why", "<script>alert(1)</script> Mary and John", "--html", str(page))
    text = page.read_text()
    assert status == 0, err
    assert "<script>alert(1)" not in text
    assert "&lt;" in text
    assert not re.search(r"<(script|img|link|iframe)[^>]*(src|href)\s*=(?!\s*[\"']?data:)", text), (
        "nothing is loaded from elsewhere"
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("why", PROMPT, "--answer", " Marry"), ["' Marry' is", "tokens", "one token"]),
        (("why", PROMPT, "--answer", ""), ["'' is 0 tokens"]),
        (("why", ""), ["the prompt is empty"]),
        (("why", PROMPT, "--answer", " Mary", "--over", " Mary"), ["the same token"]),
        (("why", "a " * 400), ["401 tokens", "up to 128"]),
        (("why", PROMPT, "--model", "ioi-mni"), ["ioi-mni", "ioi-mini"]),
        (("why", PROMPT, "--html", "no/such/folder/report.html"), ["no/such/folder"]),
        (("why", PROMPT, "--device", "quantum"), ["quantum", "cpu"]),
        (("trace", PROMPT, "--at", "a9.9"), ["layer 9 of 4", "layers 0 to 3"]),
        (("trace", PROMPT, "--at", "a2.3@40"), ["@40", "14 tokens"]),
        (("trace", PROMPT, "--at", "a2,3"), ["'a2,3'", "'a2.3'"]),
        (("trace", PROMPT, "--at", "a2.3@S2"), ["@S2", "no named positions"]),
        (("trace", PROMPT, "--at", "a2.3>m3.in"), ["is a path"]),
        (("generate", PROMPT, "-n", "200"), ["200 more", "128"]),
        (("fetch", "gpt3"), ["gpt3", "gpt2"]),
    ],
)
def test_mistakes_are_met_with_what_to_type(interp, arguments, parts):
    status, _, err = interp(*arguments)
    assert status == 2
    assert "Traceback" not in err
    for part in parts:
        assert part in err.replace("\n", " "), err


def test_a_word_without_its_space_is_pointed_out(interp):
    assert (
        "' Mary'" in json.loads(interp("why", PROMPT, "--answer", "Mary", "--json")[1])["notes"][0]
    )


def test_trace_reads_any_address_and_equals_the_library(interp):
    import weights

    status, out, _ = interp(
        "trace", PROMPT, "--at", "a2.3@-1", "--at", "resid2.mid", "--at", "a1.0.pattern@3", "--json"
    )
    found, trace = json.loads(out), weights.load("ioi-mini").run(PROMPT)
    assert status == 0
    assert found["a2.3@-1"] == trace["a2.3@-1"][0].tolist()
    assert len(found["resid2.mid"]) == 14
    assert sum(found["a1.0.pattern@3"]) == pytest.approx(1)
    assert interp("trace", PROMPT, "--at", "m1.n7", "--act")[0] == 0
    assert interp("trace", PROMPT, "--at", "out@-1", "--scale")[0] == 0


def test_generate_continues_and_repeats_by_seed(interp):
    once, again = (
        interp(
            "generate", "The war lasted from 1741 to", "--temperature", "1", "--seed", "3", "--json"
        )[1]
        for _ in range(2)
    )
    assert once == again
    assert json.loads(once)["continuation"].startswith(" 1")


def test_models_lists_the_embedded_one_as_at_hand(interp):
    found = {m["name"]: m for m in json.loads(interp("models", "--json")[1])}
    assert found["ioi-mini"]["at_hand"]
    assert {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2"} <= set(found)


@pytest.mark.slow
def test_the_card_states_what_is_measured(interp):
    found = json.loads(interp("card", "--prompts", "300", "--json")[1])
    assert found["accuracy"] >= 0.98
    assert found["logit_difference"] >= 3
    assert max(found["induction"].values()) >= 0.5
    assert max(found["copying"].values()) >= 0.9


def test_help_and_a_bare_command_explain_themselves():
    for arguments in ([], ["--help"], ["why", "--help"]):
        made = subprocess.run(
            [sys.executable, "-W", "error", "-m", "interp.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "COLUMNS": "120"},
        )
        assert "interp" in made.stdout + made.stderr or "Usage" in made.stdout
        assert "Traceback" not in made.stderr


@pytest.mark.slow
def test_audit_of_the_embedded_model_holds_and_is_complete_as_json(interp):
    status, out, _ = interp("audit", "--only", "closure", "--only", "patches", "--json")
    found = json.loads(out)
    assert status == 0
    assert [section["name"] for section in found["sections"]] == ["closure", "patches"]
    assert all(row["holds"] for section in found["sections"] for row in section["rows"])
    assert found["hold"] == sum(len(section["rows"]) for section in found["sections"])


@pytest.mark.slow
def test_audit_as_tables_and_as_a_page(interp, tmp_path):
    page = tmp_path / "audit.html"
    status, out, err = interp("audit", "--only", "sources", "--only", "parity", "--html", str(page))
    text = page.read_text()
    assert status == 0, err
    for part in (
        "the error is gone",
        "it alone rounds",
        "promises hold, 0 broken, 0 skipped",
        "cost of each head",
    ):
        assert part in out
    assert "Where the error comes from" in text
    assert not re.search(r"<(script|img|link|iframe)[^>]*(src|href)\s*=(?!\s*[\"']?data:)", text), (
        "nothing is loaded from elsewhere"
    )


def test_audit_of_a_model_that_is_not_what_it_should_be_exits_with_1(interp, tmp_path):
    import torch

    import weights
    from minigpt import build
    from minigpt.params import tensors

    right = weights.load("ioi-mini")
    changed = {name: x.clone() for name, x in tensors(right.params).items()}
    changed["h.2.mlp.c_proj.bias"][3] = torch.nextafter(
        changed["h.2.mlp.c_proj.bias"][3], torch.tensor(9.0)
    )
    weights.save(build(right.config, changed), tmp_path / "other")
    status, out, _ = interp(
        "audit",
        "--only",
        "parity",
        "--against",
        str(tmp_path / "other"),
        "--prompts",
        str(pairs_file(tmp_path)),
    )
    assert status == 1
    assert "BROKEN" in out
    assert "first at m2" in out
    assert interp("audit", "--only", "parity", "--against", "none")[0] == 0


def pairs_file(folder: Path) -> Path:
    other = PROMPT.replace("John gave", "Mary gave")
    pair = json.dumps(
        {"clean": PROMPT, "corrupt": other, "answers": " Mary", "distractors": " John"}
    )
    (folder / "pairs.jsonl").write_text(f"{pair}\n{pair}\n")
    return folder / "pairs.jsonl"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--only", "partiy"), ["partiy", "parity, closure"]),
        (("--prompts", "no/such/file.jsonl"), ["no/such/file.jsonl"]),
        (("--against", "gtp2"), ["gtp2"]),
    ],
)
def test_mistakes_in_an_audit_are_met_with_what_to_type(interp, arguments, parts):
    status, _, err = interp("audit", *arguments)
    assert status == 2
    for part in parts:
        assert part in err.replace("\n", " ")


IDS = " ".join(map(str, weights.load("ioi-mini").tokenizer.encode(PROMPT)))


def test_prompts_and_answers_may_be_token_ids(interp):
    words = json.loads(interp("why", PROMPT, "-a", " Mary", "-o", " John", "--json")[1])
    ids = [str(weights.load("ioi-mini").tokenizer.single(name)) for name in (" Mary", " John")]
    typed = ("why", "--tokens", IDS.replace(" ", ","), "-a", ids[0], "-o", ids[1], "--json")
    found = json.loads(interp(*typed)[1])
    assert found["effects"] == words["effects"]
    assert (found["answer"], found["tokens"]) == (" Mary", words["tokens"])
    assert "Mary" in interp("generate", "--ids", IDS, "-n", "1")[1]
    status, _, err = interp("why", "--ids", "1 2 99999")
    assert (status, "'99999' is no token id" in err, "0 to 1059" in err) == (2, True, True)


def test_a_vocabulary_from_elsewhere(interp, tmp_path):
    names = [f"n{i}" for i in range(50)]
    (tmp_path / "names.json").write_text(json.dumps(names))
    folder = str(weights.save(tiny(), tmp_path / "model"))
    status, out, err = interp(
        "why", "n3 n1 n4", "-m", folder, "--tokenizer", str(tmp_path / "names.json")
    )
    assert (status, "n3 n1 n4" in out) == (0, True), err
    assert "3 1 4" in interp("why", "3 1 4", "-m", folder)[1]
    status, _, err = interp("why", "n3", "-m", folder, "--tokenizer", str(tmp_path / "none"))
    assert (status, "holds no vocabulary" in err) == (2, True)


def test_a_text_is_continued_under_interventions(interp, tmp_path):
    np.save(tmp_path / "v.npy", np.full(128, 3.0))  # which LayerNorm takes out again
    plain = interp("generate", PROMPT, "-n", "2")[1]
    vector = f"v={tmp_path / 'v.npy'}"
    assert (
        interp("generate", PROMPT, "-n", "2", "--patch", "resid2 += v", "--vector", vector)[1]
        == plain
    )
    assert interp("generate", PROMPT, "-n", "2", "--patch", "hold heads = 0")[1] != plain
    status, _, err = interp("generate", PROMPT, "--patch", "resid2 += w", "--vector", vector)
    assert (status, "nothing is called 'w'" in err) == (2, True)


def test_another_tools_name_says_what_it_became(interp):
    out = interp("trace", PROMPT, "--at", "blocks.2.attn.hook_z@-1", "--json")[1]
    assert list(json.loads(out)) == ["blocks.2.attn.hook_z@-1 (a2.z@-1)"]


def test_a_page_that_cannot_be_written_is_refused_before_the_work(interp):
    for place in ("/no/such/folder/a.html", "/"):
        status, out, err = interp("ioi", "--html", place)
        assert (status, out) == (2, "")
        assert f"--html {place}" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is /dev/full here")
def test_an_answer_that_cannot_be_written_is_said_to_be_so():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "interp.cli", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr.strip() == "error: the answer could not be written: No space left on device"


def test_a_terminal_of_few_characters_is_no_obstacle():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "interp.cli", "why", PROMPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "' Mary'" in done.stdout


def test_an_interrupted_study_keeps_what_is_finished_and_says_130():
    begun = subprocess.Popen(
        [sys.executable, "-m", "interp.cli", "ioi"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    seen = ""
    while "discover" not in seen:
        more = begun.stderr.read(1)
        assert more, seen
        seen += more
    begun.send_signal(signal.SIGINT)
    out, _ = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "The task" in out


def test_an_interrupt_while_torch_is_imported_is_130_and_no_stack_of_calls():
    begun = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "interp.cli", "--help"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    seen = next(line for line in begun.stderr if "torch." in line)
    begun.send_signal(signal.SIGINT)
    _, rest = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "interp.cli.verify" not in seen + rest  # it came in time
    assert "Traceback" not in rest


@pytest.mark.slow
def test_features_draws_the_question_in_latents(interp, tmp_path):
    asked = (
        "features",
        PROMPT,
        "-a",
        " Mary",
        "-o",
        " John",
        "-k",
        "4",
        "--heads",
        "2",
        "--among",
        "20",
    )
    status, out, _ = interp(*asked)
    assert status == 0
    for part in (
        "Which latents say ' Mary' rather than ' John'?",
        "the 20 largest",
        "completeness",
    ):
        assert part in out
    assert len(re.findall(r"^m\d\.l\d+@\d+ .* '.+' ", out, re.M)) == 4
    page, file = tmp_path / "page.html", tmp_path / "graph.json"
    status, out, _ = interp(*asked, "--json", "--html", str(page), "--out", str(file))
    graph = json.loads(out)
    assert [node["address"] for node in graph["nodes"]][-1] == "out"
    assert "Where freezing attention misleads" in page.read_text(encoding="utf-8")
    links = json.loads(file.read_text(encoding="utf-8"))["links"]
    assert len(links) == len(graph["edges"])


def test_features_without_a_dictionary_or_a_place_to_write_says_what_to_type(interp, tmp_path):
    weights.save(tiny(n_vocab=60), tmp_path / "tiny")
    model = ("--model", str(tmp_path / "tiny"), "--ids")
    status, _, err = interp("features", "1 2 3", *model)
    assert status == 2
    assert "--latents" in err
    nowhere = str(tmp_path / "none" / "graph.json")
    status, _, err = interp("features", PROMPT, "--out", nowhere)
    assert status == 2
    assert f"--out {nowhere}" in re.sub(r"\n", "", err)
