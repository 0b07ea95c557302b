"""The benchmark of one card, run on a CPU with a tiny model: every table, with numbers that are
right there; and its tools, where a card's part needs a double."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.accelerator import exact, scaling, waits
from benchmarks.accelerator.bench import FULL, TINY, Bench
from benchmarks.accelerator.pretend import Mixed, pretended
from benchmarks.accelerator.report import Report, Section, table
from benchmarks.gpu import SECTIONS
from benchmarks.setting import AGREE

ROOT = Path(__file__).parents[2]
CARD = torch.device("cuda")
# As on a machine that has neither plotly nor a vocabulary, and no network.
COMMAND = (
    "import sys; sys.modules['plotly'] = None; from benchmarks.gpu import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a whole run leaves."""
    folder = tmp_path_factory.mktemp("tables") / "new"
    hidden = {"TIKTOKEN_CACHE_DIR": str(folder / "none"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--device", "cpu", "--tiny", "--out", str(folder)],
        cwd=ROOT,
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def tables(page: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by the name of their table."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in (page / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row.pop("table"), []).append(row)
    return rows


@pytest.mark.slow
def test_every_section_is_there_in_both_files(page, tables):
    text = (page / "README.md").read_text()
    assert set(tables) == {"facts", *(section.name for section in SECTIONS)}
    assert [f"## {section.heading}\n" in text for section in SECTIONS] == [True] * len(SECTIONS)
    assert text.count("\n| --") == 1 + len(SECTIONS)
    assert "Not complete" not in text


@pytest.mark.slow
def test_logits_are_those_of_transformers_and_within_the_bound(tables):
    rows = {row["what"]: row for row in tables["parity"]}
    called = [row for what, row in rows.items() if what.startswith("forward's logits")]
    assert len(called) == 2 * len(TINY.shapes)
    assert [(row["differ"], row["max ULP"]) for row in called] == [(0, 0)] * len(called)
    assert sum(row["numbers"] for row in called) == 2 * 50257 * (4 * 8 + 24)
    held = [row for row in rows.values() if "bound" in row]
    assert len(held) == 2 * len(called)
    assert all(row["holds"] and row["of the bound"] <= 1 for row in held)
    assert all(0 < row["bound"] < 1e-3 for row in held)
    assert all(
        0 < row["max abs"] < 1e-4 for what, row in rows.items() if what.startswith("from float64")
    )


@pytest.mark.slow
def test_reruns_are_the_dense_pass(tables):
    rows = tables["dense"]
    assert len(rows) == 18
    assert all(row["holds"] and row["differ"] == 0 and row["numbers"] > 1000 for row in rows)


@pytest.mark.slow
def test_on_a_cpu_company_changes_no_bit(tables):
    rows = tables["determinism"]
    assert [row["what"] for row in rows][-1] == "alone, and beside a longer prompt"
    assert [row["differ"] for row in rows] == [0] * (4 + len(TINY.company))


@pytest.mark.slow
def test_sweeps_agree_with_hooks_and_their_rates_with_their_seconds(tables):
    rows = tables["activation"] + tables["sweeps"]
    assert len(rows) == 2 + 6
    for row in rows:
        assert row["gap"] < AGREE
        assert row["hooks / ours"] == pytest.approx(row["hooks' seconds"] / row["seconds"])
        assert row["variants/s"] * row["seconds"] == pytest.approx(
            round(row["variants/s"] * row["seconds"])
        )
        assert 0 < row["share of peak"] < 2
    variants = [round(row["variants/s"] * row["seconds"]) for row in rows]
    assert variants == [12, 12, TINY.edges, TINY.crowd_edges, 12, 12, 12, 12]
    # All pairs of a whole question; a part of one counts as that part.
    pairs = [row["pairs/s"] * row["seconds"] for row in rows]
    whole = 262
    assert pairs == pytest.approx([3, 12, 40 / whole, 4 * 10 / whole, 3, 3, 3, 3])


@pytest.mark.slow
def test_passes_and_scaling_have_a_row_a_shape(tables):
    assert [row["batch x tokens"] for row in tables["forward"]] == ["4 x 8", "1 x 24"]
    assert all(value for row in tables["forward"] + tables["peak"] for value in row.values())
    assert [row["rows"] for row in tables["scaling"]] == [14, 56]
    assert all(value for row in tables["scaling"] for value in row.values())


@pytest.mark.slow
def test_waits_are_counted_and_placed(tables):
    counts = {row["what"]: row for row in tables["waits"]}
    head = counts["two runs and a rerun, a head"]
    assert head["kernels"] > counts["two runs"]["kernels"] > 200
    assert [counts[name]["waits"] for name in ("forward", "two runs")] == [0, 0]
    assert head["waits"] == 1
    for what, row in counts.items():
        placed = [x["times"] for x in tables["lines"] if x["what"] == what]
        assert sum(placed) <= row["waits"] <= 3 * TINY.config.n_layer
        assert placed == sorted(placed, reverse=True)
    assert all((ROOT / row["line"].partition(":")[0]).is_file() for row in tables["lines"])


# --- a run that goes wrong keeps what it has --------------------------------------------------


def fine(_: object) -> Iterator[dict[str, Any]]:
    yield {"what": "a", "value": 1}
    yield {"what": "b", "value": 2.5}


def broken(_: object) -> Iterator[dict[str, Any]]:
    yield {"what": "before", "value": 3}
    raise RuntimeError("the card is gone\nand more")


def wrong(_: object) -> Iterator[dict[str, Any]]:
    yield {"what": "far off", "holds": False}


def report(folder: Path, *rows: Any, minutes: float = 1.0) -> tuple[bool, str, list[Any]]:
    sections = [Section(f.__name__, f.__name__.title(), "What it is.", f) for f in rows]
    well = Report(folder, {"device": "none"}, minutes).measure(sections, None)
    lines = (folder / "results.jsonl").read_text().splitlines()
    return well, (folder / "README.md").read_text(), list(map(json.loads, lines))


def test_a_section_that_fails_leaves_the_others_alone(tmp_path, capsys):
    well, text, lines = report(tmp_path, fine, broken, fine)
    assert not well
    assert [row["table"] for row in lines] == ["facts", "fine", "fine", "broken", "fine", "fine"]
    assert "| before | 3 |\n\n**Not complete:** RuntimeError: the card is gone\n" in text
    printed = capsys.readouterr()
    assert "Traceback" in printed.err
    assert "broken: RuntimeError: the card is gone" in printed.out


def test_a_check_that_fails_is_a_fault(tmp_path):
    assert report(tmp_path, fine)[0]
    assert not report(tmp_path, wrong, fine)[0]


def test_when_time_is_up_nothing_new_is_begun(tmp_path):
    well, text, lines = report(tmp_path, fine, minutes=0.0)
    assert not well
    assert [row["table"] for row in lines] == ["facts"]
    assert "Nothing.\n\n**Not complete:** stopped after 0 minutes" in text


def test_a_table_shows_numbers_to_the_right_and_gaps_empty():
    rows = [{"a": "x", "n": 12345, "y": True}, {"a": "z", "n": 0.00012345, "m": None}]
    assert table(rows).splitlines() == [
        "| a | n | y | m |",
        "| --- | ---: | --- | --- |",
        "| x | 12,345 | yes |  |",
        "| z | 0.000123 |  |  |",
    ]


# --- its tools, and twins that break what they watch ------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench.on("cpu", TINY)


def test_what_is_beyond_its_bound_does_not_hold():
    x = torch.ones(3)
    bound = torch.full((3,), 1e-6)
    assert exact._bounded("", x, x + 5e-7, bound)["holds"]
    assert not exact._bounded("", x, x + 5e-6, bound)["holds"]
    assert not exact._bounded("", x, x * math.nan, bound)["holds"]


def test_one_ulp_off_the_dense_pass_does_not_hold_on_a_cpu(bench):
    x = {"out": torch.ones(3)}
    nudged = {"out": torch.nextafter(x["out"], 2 * x["out"])}
    card = SimpleNamespace(device=CARD)
    assert exact._agreeing(bench, "", x, x)["holds"]
    assert not exact._agreeing(bench, "", x, nudged)["holds"]
    assert exact._agreeing(card, "", x, nudged)["holds"]
    assert not exact._agreeing(card, "", x, {"out": 1.001 * x["out"]})["holds"]


def test_what_would_wait_for_a_card_is_counted_where_it_stands(bench):
    with pretended(bench.model) as card:
        x, host = torch.arange(6.0), torch.arange(6)
        card.put(x)

        def waiting() -> None:
            x.tolist()
            bool((x > 2).all())
            x[x > 2] = -x[:3]
            torch.unique(x)
            _ = x + x[:, None].sum(), x[2:4], len(x), host.tolist(), host[host > 2]

        waiting()
    first = waiting.__code__.co_firstlineno
    name = str(Path(__file__).relative_to(ROOT))
    assert card.lines == {f"{name}:{first + i}": 1 for i in (1, 2, 3, 4)}


def test_tensors_of_both_sides_are_refused_as_a_card_would(bench):
    with pretended(bench.model), pytest.raises(Mixed, match="add"):
        _ = bench.model.params.ln_w + torch.ones(bench.model.config.d_model)
    with pretended(bench.model), pytest.raises(Mixed, match="index"):
        _ = bench.model.params.ln_w[torch.arange(3)]


def test_on_a_card_torch_says_what_waits(monkeypatch):
    modes: list[object] = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waiting() -> None:
        for _ in range(3):
            if modes[-1] == "warn":
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    card = SimpleNamespace(device=CARD)
    assert list(waits.waits(waiting, card).values()) == [3]
    with pytest.raises(ZeroDivisionError):
        waits.waits(lambda: 1 / 0, card)
    assert modes == [0, "warn", 0, "warn", 0]


def test_the_profiler_counts_what_is_started(bench):
    x = torch.ones(4)
    seen = waits.kernels(lambda: (x + x) * x, bench)
    assert (seen.count, seen.copies) == (2, 0)
    assert seen.busy > 0
    kernel = SimpleNamespace(device_type=SimpleNamespace(name="CUDA"), cpu_parent=None, name="gemm")
    assert waits._started(kernel, True)
    assert not waits._started(kernel, False)


def test_the_clock_waits_for_the_device_before_and_after(monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: done.append("waited"))
    assert Bench(TINY, CARD, None).seconds(lambda: done.append("called")) > 0
    assert done == ["waited", "called", "waited"]


def test_what_does_not_fit_into_memory_is_left_empty(bench):
    def greedy() -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert scaling.within_memory(bench, greedy) is None
    assert scaling.within_memory(bench, lambda: 2.0) == 2.0


def test_full_size_is_gpt2_and_reaches_65536_rows():
    assert (FULL.config.n_layer, FULL.config.d_model) == (12, 768)
    assert FULL.prompts[-1] * FULL.length == 65536
