"""collate, component, explain and store as a person types them, and what beginners get wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import weights
from interp.cli import stores
from interp.corpus import exchange
from tests.conftest import tiny
from tests.interp.explain.test_told import send, serving
from tests.interp.test_cli import interp
from weights.catalog import CONCEPTS, EXPLAINED

__all__ = ["interp"]
ROOT = Path(__file__).parents[3]
LINES = CONCEPTS.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "some.jsonl"
    path.write_text("".join(LINES[:40]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(text: Path) -> Path:
    """A store of forty sentences, made by the command."""
    folder = text.parent / "store"
    command = ["collate", str(text), "--out", str(folder), "--sample", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "interp.cli", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "interp component a0.0" in done.stdout
    assert "100%" in done.stderr
    return folder


def test_a_component_has_a_page_in_the_terminal_in_a_file_and_as_json(interp, made, tmp_path):
    page = tmp_path / "page.html"
    status, out, _ = interp("component", "a2.6", "--store", str(made), "--html", str(page))
    assert status == 0
    for part in ("a2.6 of ioi-mini on some.jsonl", "Where it is largest", "By tenths", "induction"):
        assert part in out
    html = page.read_text(encoding="utf-8")
    assert "a2.6 of ioi-mini" in html
    assert len(html) < 500_000  # no script for figures that it has not
    for name in ("record.json", "rows.jsonl.gz"):
        given = ("component", "m3.n5", "--store", str(made), "--out", str(tmp_path / name))
        assert interp(*given)[0] == 0
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["neuron_id"]["neuron_index"] == 5
    rows = exchange.read(tmp_path / "rows.jsonl.gz")
    assert rows[0]["layer"] == "3-mlp"
    status, out, _ = interp("component", "m3.l279", "--store", str(made), "--json")
    found = json.loads(out)
    assert (found["address"], found["count"]) == ("m3.l279", found["count"])
    assert {"promotes", "suppresses"} == set(found["says"])


def test_an_explanation_stands_beside_its_baselines(interp, made):
    status, out, _ = interp("explain", "m0.l189", "--store", str(made))
    assert status == 0
    for part in ("m0.l189 of ioi-mini", "this explanation", "nothing", "its top tokens"):
        assert part in out
    _, out, _ = interp("explain", "m0.l189", "--store", str(made), "--json")
    found = json.loads(out)
    assert found["scores"]["simulation"] > found["baselines"]["nothing"]["simulation"]


def test_a_language_model_explains_where_one_is(interp, made, tmp_path):
    answers = tmp_path / "answers.jsonl"
    with serving(lambda handler, _: send(handler, "[1, 2]")) as url:
        given = ("explain", "m0.l189", "--store", str(made), "--explainer", url)
        status, out, _ = interp(*given, "--explainer-model", "m", "--answers", str(answers))
        assert status == 0
        assert "by language model: it responds to [1, 2]" in out
        assert re.search(r"asked \d+, known \d+, read \d+, written \d+, not understood \d+", out)
        assert answers.exists()
    status, _, err = interp(*given, "--explainer-model", "other")
    assert status == 2
    assert "gave no answer" in err


def test_a_store_says_what_it_is_of_and_is_searched(interp, made):
    _, out, _ = interp("store", str(made))
    assert "ioi-mini" in out
    assert "windows" in out
    _, out, _ = interp("store", str(made), "--find", " to", "--json")
    assert json.loads(out)["found"][0]["by"] > 0.5
    _, out, _ = interp("store", str(made), "--where", "kurtosis > 20 and mean > 0")
    assert len(out.splitlines()) > 3


@pytest.mark.slow
def test_explanations_of_a_whole_store_are_searched_by_words(interp, made, tmp_path):
    shutil.copytree(made, tmp_path / "s")
    where = str(tmp_path / "s")
    shutil.copy(EXPLAINED, tmp_path / "s" / "explanations.parquet")
    status, out, _ = interp("explain", "--all", "--store", where)
    assert status == 0
    assert "regression" in out
    _, out, _ = interp("store", where, "--words", "number", "--json")
    found = json.loads(out)["found"]
    assert all("number" in row["explanation"] for row in found)
    status, out, _ = interp("store", where, "--words", "number", "--html", str(tmp_path / "pages"))
    assert status == 0
    assert (tmp_path / "pages" / "component" / f"{found[0]['address']}.html").is_file()
    assert "index.html" in out


@pytest.mark.slow
def test_stores_are_listed_checked_and_made_one(interp, text, made, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(LINES[40:60]), encoding="utf-8")
    given = ("collate", str(more), "--out", str(tmp_path / "more"), "--sample", "10")
    assert interp(*given, "--dense", "resid2")[0] == 0
    status, _, err = interp(
        "store", str(made), str(tmp_path / "more"), "--out", str(tmp_path / "b")
    )
    assert status == 2
    assert "another settings" in err
    given = ("collate", str(more), "--out", str(tmp_path / "plain"), "--sample", "10")
    assert interp(*given)[0] == 0
    both = (str(made), str(tmp_path / "plain"), "--out", str(tmp_path / "both"))
    status, out, _ = interp("store", *both)
    assert status == 0
    assert "60" in out
    status, out, _ = interp("store", str(tmp_path))
    assert all(name in out for name in ("both", "more", "plain"))
    status, out, _ = interp("store", str(tmp_path / "both"), "--check")
    assert status == 0
    assert "NO" not in out
    content = (tmp_path / "both" / "tokens.uint16").read_bytes()
    (tmp_path / "both" / "tokens.uint16").write_bytes(content[::-1])
    status, out, _ = interp("store", str(tmp_path / "both"), "--check", "--json")
    assert status == 1
    wrong = [row["what"] for row in json.loads(out)["checked"] if not row["holds"]]
    assert wrong[0] == "tokens.uint16"


def test_what_beginners_get_wrong_is_said(interp, made, tmp_path):
    weights.save(tiny(n_vocab=60), tmp_path / "tiny")
    other = ("--model", str(tmp_path / "tiny"))
    for command, said in (
        (("component", "a2.6", "--store", str(made), "--out", str(tmp_path / "x")), ".jsonl.gz"),
        (("component", "a9.9", "--store", str(made)), "no component of"),
        (("component", "a2.6", "--store", str(tmp_path)), "no finished store"),
        (("store", str(made), "--words", "name"), "interp explain --all"),
        (("store", str(made), str(made)), "--out BOTH"),
        (("store", str(made), "--out", str(tmp_path / "b")), "makes one"),
        (("explain",), "interp explain a2.6"),
        (("explain", "a2.6", "--all"), "interp explain a2.6"),
        (("component", "a0.1", *other), "--store FOLDER"),
        (("component", "a0.1", "--store", str(made), *other), "is a store of ioi-mini"),
        (("store", str(made), "--where", "beauty > 3"), "comparisons of"),
        (("collate", str(tmp_path / "none"), "--out", str(tmp_path / "s")), "no such file"),
        (("collate", str(made.parent), "--out", str(tmp_path / "tiny")), "no store"),
    ):
        status, _, err = interp(*command)
        assert status == 2, command
        assert said in " ".join(err.split()), command


def test_without_its_libraries_the_extra_is_named(made):
    code = "import sys; sys.modules['duckdb'] = None; from interp.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "store", str(made)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "minigpt-interp[corpus]" in done.stderr


@pytest.mark.slow
def test_without_a_store_the_embedded_model_has_its_own_text(interp, text, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "CONCEPTS", text)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = weights.load("ioi-mini")
    assert stores.stores([model], []) == {}
    status, out, _ = interp("explain", "a2.6")
    assert status == 0
    assert "a2.6 of ioi-mini" in out
    assert set(stores.stores([model], [])) == {"ioi-mini"}
    assert stores.own().is_relative_to(tmp_path)


@pytest.mark.slow
def test_interrupted_it_says_130_and_the_same_command_goes_on(text, tmp_path):
    long = tmp_path / "long.txt"
    long.write_text("".join(json.loads(line)["text"] + " " for line in LINES) * 3)
    command = [sys.executable, "-m", "interp.cli", "collate", str(long)]
    command += ["--out", str(tmp_path / "s"), "--window", "16"]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    state = tmp_path / "s" / "state.safetensors"
    end = time.monotonic() + 120
    while not state.exists() and running.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert state.exists()
