"""An exported answer says where it comes from, and can be computed again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import weights
from interp.cli.verify import differences, near
from interp.provenance import fingerprint
from minigpt.params import build, tensors
from tests.interp.test_cli import PROMPT, ROOT, run


@pytest.fixture
def interp(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def pairs(folder: Path) -> Path:
    """Two pairs in a file."""
    other = PROMPT.replace("John gave", "Mary gave")
    rows = [{"clean": PROMPT, "corrupt": other, "answers": " Mary", "distractors": " John"}] * 2
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_answer_names_command_parameters_model_files_and_versions(interp, tmp_path):
    path = pairs(tmp_path)
    found = json.loads(interp("patch", "--pairs", str(path), "--json")[1])["provenance"]
    assert found["command"] == ["patch", "--pairs", str(path), "--json"]
    assert found["parameters"]["direction"] == "denoising"
    assert found["files"] == {"pairs": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert found["models"] == {"ioi-mini": fingerprint(weights.load("ioi-mini"))}
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    "command",
    [
        ("why", PROMPT),
        ("generate", PROMPT, "-n", "2"),
        pytest.param(("card", "--prompts", "3"), marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_each_command_says_it(interp, command):
    assert json.loads(interp(*command, "--json")[1])["provenance"]["command"][0] == command[0]


def test_a_page_says_it_too(interp, tmp_path):
    interp("why", PROMPT, "--html", str(tmp_path / "a.html"))
    page = (tmp_path / "a.html").read_text()
    assert "Where this comes from" in page
    assert fingerprint(weights.load("ioi-mini")) in page


def verified(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interp.cli", "verify", str(file)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_what_is_computed_again_is_the_same_and_a_change_is_found(interp, tmp_path):
    answer, page = tmp_path / "answer.json", tmp_path / "page.html"
    answer.write_text(interp("why", PROMPT, "--json", "--html", str(page))[1])
    page.unlink()
    again = verified(answer)
    assert (again.returncode, page.exists()) == (0, False), again.stderr
    assert again.stdout.startswith("The same to the last bit")
    data = json.loads(answer.read_text())
    data["effects"]["a3.4"] += 0.5
    data["provenance"]["versions"]["torch"] = "1.0"
    answer.write_text(json.dumps(data))
    again = verified(answer)
    assert again.returncode == 1
    assert "1 of the answer's values differ" in again.stdout
    assert "effects.a3.4" in again.stdout
    assert "versions.torch" in again.stdout


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"provenance": 3}', '{"provenance": {"command": [1]}}']
)
def test_what_is_no_answer_is_refused(interp, tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    status, _, err = interp("verify", str(tmp_path / "a.json"))
    assert status == 2
    assert "says" in err or "where it comes from" in err or "no JSON" in err


def test_differences_and_what_is_near():
    was = {"a": [1.0, {"b": 2}], "c": "x", "n": float("nan")}
    assert [*differences(was, was)] == []
    now = {"a": [1.0, {"b": 3}], "d": 1, "n": float("nan")}
    assert [*differences(was, now)] == [("a[1].b", 2, 3), ("c", "x", None), ("d", None, 1)]
    assert [*differences([1], [1, 2])] == [("", [1], [1, 2])]
    assert near(("", 1.0, 1.00001))
    assert not near(("", 1.0, 1.001))
    assert not near(("", True, 1))
    assert not near(("", "x", "y"))


def test_a_fingerprint_is_of_the_numbers_and_nothing_else():
    model = weights.load("ioi-mini")
    assert fingerprint(model) == fingerprint(weights.load("ioi-mini"))
    state = tensors(model.params)
    changed = state["ln_f.bias"].clone()
    changed[3] = torch.nextafter(changed[3], torch.tensor(9.0))
    other = build(model.config, {**state, "ln_f.bias": changed})
    assert fingerprint(type(model)(other)) != fingerprint(model)
