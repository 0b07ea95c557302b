"""Results go anywhere, with the same numbers: JSON, CSV, Python, the terminal; none of them asks
another machine."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer

from interp.cli.verify import verify
from interp.debugger import export, nodes, totals
from interp.debugger.both import both
from interp.debugger.nodes import table
from interp.debugger.session import runs
from interp.provenance import fingerprint
from minigpt import MiniGPTError
from tests.interp.debugger.questions import MODEL, OTHER, PROMPT, asked, everything

pytestmark = pytest.mark.filterwarnings("ignore::minigpt.errors.NoEffectWarning")


def test_nothing_asks_another_machine(monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refused)
    found = asked(other=OTHER, node="a3.4@13", trail=("a3.4.q@13<1",), graph=("a3.4@13",))
    assert all(export.as_json(export.result(found, name)) for name in export.RESULTS)


@pytest.mark.parametrize("name", export.RESULTS)
def test_results_as_json_and_csv_hold_the_same_numbers(name):
    found = export.result(runs(MODEL, everything()), name)
    data, rows = (
        json.loads(export.as_json(found)),
        list(csv.DictReader(io.StringIO(export.as_csv(found)))),
    )
    assert data == json.loads(json.dumps(asdict(found)))
    numbers = {x for x in flat(data) if isinstance(x, float)}
    listed = {
        float(x)
        for row in rows
        for x in row.values()
        if x and x.replace(".", "").replace("-", "").replace("e", "").isdigit() and "." in x
    }
    assert listed
    assert listed <= numbers


def flat(data):
    for item in data.values() if isinstance(data, dict) else data:
        if isinstance(item, (dict, list)):
            yield from flat(item)
        else:
            yield item


def test_the_exported_python_gives_equal_numbers_in_a_fresh_process():
    question = replace(
        everything(), patches=("a2.6@13 = x0.5", "m1 = mean(reference)"), split=("keys",)
    )
    for name in ("nodes", "upstream"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", export.as_python(question, name)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        assert json.loads(done.stdout) == json.loads(
            export.as_json(export.result(runs(MODEL, question), name))
        )


def test_the_terminal_gives_the_same_answers(capsys, monkeypatch):
    from interp import cli

    monkeypatch.setattr(
        sys,
        "argv",
        [
            "interp",
            "debug",
            "--ask",
            PROMPT,
            "-a",
            " Mary",
            "-o",
            " John",
            "--patch",
            "a3.4 = 0",
            "-r",
            "nodes",
            "--json",
        ],
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["nodes"] == json.loads(
        export.as_json(table(asked(patches=("a3.4 = 0",))))
    )
    monkeypatch.setattr(
        sys,
        "argv",
        ["interp", "debug", "--link", f"http://127.0.0.1:8080/?{everything().to_url()}"],
    )
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    for part in (
        "Why ' Mary' rather than ' John'",
        "through its query",
        "sum of direct effects",
        "m2>a3.4.q@13",
    ):
        assert part in shown


@pytest.mark.slow
def test_a_saved_result_says_where_it_comes_from_and_is_computed_again(tmp_path, capsys):
    asked_for, name = runs(MODEL, everything()), "nodes"
    result = export.result(asked_for, name)
    saved = json.loads(export.as_file(asked_for, name, result, "json"))
    listed = list(csv.DictReader(io.StringIO(export.as_file(asked_for, name, result, "csv"))))
    assert json.loads(listed[0]["provenance"]) == saved["provenance"]
    assert not any(row["provenance"] for row in listed[1:])
    assert saved["provenance"]["models"] == {MODEL.name: fingerprint(MODEL)}
    assert _verified(saved, tmp_path, capsys) == ("the same to the last bit", 0)
    saved["metric"]["left"] += 0.5  # the twin
    assert _verified(saved, tmp_path, capsys) == ("1 of the answer's values differ", 1)


def _verified(saved, folder, capsys):
    """What `interp verify` finds, with the command called in this process."""
    (folder / "saved.json").write_text(json.dumps(saved))
    status = 0
    try:
        verify(folder / "saved.json", as_json=True)
    except typer.Exit as stop:
        status = stop.exit_code
    return json.loads(capsys.readouterr().out)["verdict"], status


def test_what_no_command_gives_says_why(tmp_path):
    asked_for = asked()
    some = {row.address: both(1.0) for row in nodes.table(asked_for).rows}
    half = nodes.table(asked_for, some)
    first = next(totals.totals(asked_for))
    first = replace(first, of=first.of + 1)
    for name, record, why in (
        ("nodes", half, "the total effects that the page had computed"),
        ("totals", first, "before all total effects were computed"),
    ):
        (tmp_path / name).write_text(export.as_file(asked_for, name, record, "json"))
        with pytest.raises(MiniGPTError, match=why):
            verify(tmp_path / name, as_json=True)
