"""What is kept of a corpus is what two passes in NumPy say; the same bytes however it was run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from interp.corpus import collate as passes
from interp.corpus import workers
from interp.corpus.best import AFTER, FREE, SPAN
from interp.corpus.documents import CorpusError, Document, documents
from interp.corpus.groups import groups
from interp.corpus.make import make
from interp.corpus.measure import KINDS, Settings, lots, measure
from interp.corpus.moments import EDGES
from interp.corpus.windows import cut
from interp.executor import Where
from minigpt import GPT2
from tests.conftest import LETTERS, random_params, tiny
from tests.minigpt.test_dictionary import random_dictionary

ROOT = Path(__file__).parents[3]
CONFIG = tiny(2, 4, 16, 16, n_ctx=48).config
MODEL = GPT2(random_params(CONFIG, seed=3), tokenizer=LETTERS, name="letters").with_dictionaries(
    random_dictionary("m1")
)
SETTINGS = Settings(size=40, skip=1, top=4, bottom=3, sample=12, shard=32)
ALPHABET = "".join(chr(65 + i) for i in range(50))


def texts(n: int = 70, seed: int = 0) -> list[Document]:
    """Documents of one to three windows."""
    rng = np.random.default_rng(seed)
    return [
        Document(f"text {i}", "".join(rng.choice(list(ALPHABET), rng.integers(2, 100))))
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make(MODEL, texts(), tmp_path_factory.mktemp("store"), SETTINGS, progress=False)


def by_hand(store) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Every number of every component, and those of each window, its first token left out."""
    windows: list[dict[str, np.ndarray]] = []
    for i in range(len(store.windows)):
        trace = MODEL.run(store.windows[i][None])
        did = {}
        for layer in range(2):
            act = trace.act(f"m{layer}")[0]
            did |= {f"m{layer}.n{j}": act[:, j] for j in range(16)}
            for head in range(2):
                write = trace[f"a{layer}.{head}.pattern"][0][..., None] * _values(
                    trace, layer, head
                )
                did[f"a{layer}.{head}"] = write.norm(dim=-1).max(1).values
        latents = trace.act("m1.l")[0]
        did |= {f"m1.l{j}": latents[:, j] for j in range(latents.shape[1])}
        windows.append({name: x.numpy()[1:] for name, x in did.items()})
    names = windows[0]
    return {name: np.concatenate([w[name] for w in windows]) for name in names}, windows


def _values(trace, layer: int, head: int) -> torch.Tensor:
    w_o = trace.params.blocks[layer].w_o.unflatten(0, (4, -1))[head]
    return trace[f"a{layer}.{head}.v"][0] @ w_o


def test_statistics_are_those_of_two_passes(store):
    every, _ = by_hand(store)
    for name in ("a0.0", "a1.1", "m0.n3", "m1.n15", "m1.l2", "m1.l19"):
        x, found = every[name].astype(np.float64), store.component(name)
        tight = 1e-12 if name[0] == "m" else 1e-6  # a head's length is computed another way
        away = x - x.mean()
        assert found.count == len(x)
        assert found.mean == pytest.approx(x.mean(), rel=tight, abs=1e-15)
        assert found.variance == pytest.approx((away**2).mean(), rel=tight)
        skew, kurtosis = ((away**p).mean() / (away**2).mean() ** (p / 2) for p in (3, 4))
        assert [found.skewness, found.kurtosis] == pytest.approx([skew, kurtosis], rel=100 * tight)
        assert [found.least, found.most] == pytest.approx([x.min(), x.max()], rel=tight)
        if name[0] == "m":
            assert list(found.counts) == counted(x)
            assert found.positive == (x > 0).mean()


def counted(x: np.ndarray) -> list[int]:
    """Numbers between the bounds, a bound with what is further from zero."""
    bounds = [-np.inf, *EDGES, np.inf]
    return [
        int(((x > a) & (x <= b)).sum() if b < 0 else ((x >= a) & (x < b)).sum())
        if a * b > 0 or np.inf in (abs(a), abs(b))
        else int(((x > a) & (x < b)).sum())
        for a, b in pairwise(bounds)
    ]


@pytest.mark.parametrize("name", ["a1.0", "m0.n7", "m1.l5"])
def test_the_windows_kept_are_the_largest_the_smallest_and_those_drawn(store, name):
    _, windows = by_hand(store)
    found, n = store.component(name), len(windows)
    most = np.array([w[name].max() for w in windows])
    expected = sorted(range(n), key=lambda i: (-most[i], i))[: SETTINGS.top]
    tight = 0 if name[0] == "m" else 1e-6
    assert [e.value for e in found.of("top")] == pytest.approx(most[expected], rel=tight)
    if name[0] == "m":
        assert [e.window for e in found.of("top")] == expected
    if name == "m0.n7":
        least = np.array([w[name].min() for w in windows])
        lowest = sorted(range(n), key=lambda i: (least[i], i))[: SETTINGS.bottom]
        assert [e.window for e in found.of("bottom")] == lowest
    number = store.number(name)
    marks = torch.tensor([store.windows.mark(i) for i in range(n)])
    keys = lots(0, marks, torch.tensor(number)).tolist()
    drawn = sorted(range(n), key=lambda i: (-keys[i], i))[: SETTINGS.sample]
    assert [e.window for e in found.of("sample")] == drawn
    assert sum(map(len, found.deciles)) == SETTINGS.sample
    firsts = [part[0].value for part in found.deciles]
    assert firsts == sorted(firsts, reverse=True)


def test_an_example_holds_what_was_done_around_its_token(store):
    _, windows = by_hand(store)
    for example in store.component("m1.n4").examples:
        did = windows[example.window]["m1.n4"]
        assert example.value == did[example.at - 1]
        assert len(example.tokens) == len(did) + 1
        around = np.asarray(example.acts)[max(0, 1 - example.first) :]
        first = max(example.first, 1) - 1
        assert around == pytest.approx(did[first : first + len(around)], rel=1e-3, abs=1e-4)
        before, after = example.at - example.first, len(did) + 1 - example.first - SPAN
        assert before == SPAN - AFTER - 1 or example.first == 1 or after == 0
        assert example.before == "".join(example.tokens)[: example.at + 1]


def test_a_head_says_from_which_token_it_took(store):
    for example in store.component("a0.1").of("top"):
        trace = MODEL.run(store.windows[example.window][None])
        taken = (trace["a0.1.pattern"][0][..., None] * _values(trace, 0, 1)).norm(dim=-1)
        assert example.source == int(taken[example.at].argmax())


def test_what_heads_attend_to_is_counted_by_hand(store):
    sums, count = np.zeros(5), np.zeros(5)
    for i in range(len(store.windows)):
        ids = store.windows[i]
        weights = MODEL.run(ids[None])["a1.1.pattern"][0].double().numpy()
        for t in range(1, len(ids)):
            same = [s for s in range(t) if ids[s] == ids[t]]
            after = [s + 1 for s in same]
            row = weights[t]
            there = [[t - 1], same, after]
            found = [row[keys].sum() for keys in there]
            rest = row[row > 0]
            found += [-(rest * np.log(rest)).sum(), sum(row[s] * (t - s) for s in range(t))]
            sums += found
            count += [*map(bool, there), 1, 1]
    names = ("previous", "duplicate", "induction", "entropy", "distance")
    expected = dict(zip(names, sums / count, strict=True))
    assert store.component("a1.1").attends == pytest.approx(expected, rel=1e-9)
    assert store.component("m0.n1").attends == {}


def same(a, b) -> bool:
    """Whether two findings are the same bits."""
    ours, theirs = (
        {**vars(x.moments), **{f"{k}.{n}": y for k in KINDS for n, y in vars(x.best[k]).items()}}
        for x in (a, b)
    )
    equal = [
        torch.equal(x.nan_to_num(7.0), theirs[name].nan_to_num(7.0))
        for name, x in ours.items()
        if isinstance(x, torch.Tensor)
    ]
    return all(equal) and torch.equal(a.attends.sums, b.attends.sums)


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_how_many_are_run_at_a_time_changes_no_bit(store, batch):
    whole = slice(0, SETTINGS.shard)
    one = measure(MODEL, store.windows, SETTINGS, whole)
    assert same(one, measure(MODEL, store.windows, SETTINGS, whole, batch=batch))
    assert not same(one, measure(MODEL, store.windows, SETTINGS, slice(1, SETTINGS.shard)))


def test_a_lot_that_is_too_low_is_not_put_in_and_changes_no_byte(store, tmp_path, monkeypatch):
    least = passes.drawn(MODEL, store.windows, SETTINGS)["sample"]
    assert (least > FREE).all()
    monkeypatch.setattr(passes, "drawn", lambda *_: {})
    make(MODEL, texts(), tmp_path / "all", SETTINGS, progress=False)
    assert contents(tmp_path / "all") == contents(store.folder)


def test_where_too_few_are_left_it_is_all_done_again(store, tmp_path, monkeypatch):
    usual = passes.drawn(MODEL, store.windows, SETTINGS)["sample"]
    high = {"sample": torch.full_like(usual, (2**31 - 2**20) << 31)}
    monkeypatch.setattr(passes, "drawn", lambda *_: high)
    make(MODEL, texts(), tmp_path / "again", SETTINGS, progress=False)
    assert contents(tmp_path / "again") == contents(store.folder)


FILES = ("components.parquet", "records.parquet")


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_two_processes_write_the_same_bytes(store, tmp_path):
    make(MODEL, texts(), tmp_path / "two", SETTINGS, where=Where(2), progress=False)
    assert contents(tmp_path / "two") == contents(store.folder)
    make(MODEL, texts(seed=1), tmp_path / "other", SETTINGS, progress=False)
    assert contents(tmp_path / "other") != contents(store.folder)


@pytest.mark.slow
def test_ray_writes_the_same_bytes(store, tmp_path):
    pytest.importorskip("ray", reason="needs ray: pip install '.[ray]'")
    make(MODEL, texts(), tmp_path / "ray", SETTINGS, where=Where(2, "local"), progress=False)
    assert contents(tmp_path / "ray") == contents(store.folder)


KILLED = """
import os, signal, sys
from interp.corpus import collate
from interp.corpus.make import make
from tests.interp.corpus.test_collate import MODEL, SETTINGS, texts
kept = collate.save
def save(found, done, folder):
    kept(found, done, folder)
    done == 2 and os.kill(os.getpid(), signal.SIGKILL)
collate.save = save
make(MODEL, texts(), sys.argv[1], SETTINGS, progress=False)
"""


def test_what_is_killed_in_the_middle_goes_on_to_the_same_bytes(store, tmp_path, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "killed"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    read: list[slice] = []
    kept = workers.measure
    monkeypatch.setattr(
        workers, "measure", lambda *given, **more: read.append(given[3]) or kept(*given, **more)
    )
    make(MODEL, texts(), tmp_path / "killed", SETTINGS, progress=False)
    assert contents(tmp_path / "killed") == contents(store.folder)
    assert len(read) == len(passes.shards(len(store.windows), SETTINGS.shard)) - 2
    assert not (tmp_path / "killed" / passes.STATE).exists()


def test_a_folder_of_something_else_is_refused(store, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CorpusError, match="no store"):
        make(MODEL, texts(), tmp_path, SETTINGS)
    for change in ({"corpus": texts(3)}, {"settings": Settings(size=20)}, {"model": tiny()}):
        given = {"model": MODEL, "corpus": texts(), "settings": SETTINGS} | change
        with pytest.raises(CorpusError, match="another"):
            make(given["model"], given["corpus"], store.folder, given["settings"])
    assert make(MODEL, texts(), store.folder, SETTINGS).said["components"] == 64


def test_text_of_every_kind_is_cut_by_document_once(tmp_path):
    long = "AB" * 1_500_000
    given = [
        Document("ties", "AAAA"),
        Document("again", "AAAA"),
        Document("one", "B"),
        Document("long", long),
    ]
    found = cut(iter(given), LETTERS, 64, tmp_path)
    # "again" is a copy, "one" has nothing to say, and of "long" only one window is new.
    assert [found.names[i] for i in found.table["document"]] == ["ties", "long"]
    assert found[0].tolist() == [0, 0, 0, 0]
    assert [len(found[i]) for i in range(2)] == [4, 64]
    with pytest.raises(CorpusError, match="without text"):
        cut(iter([Document("one", "B")]), LETTERS, 64, tmp_path / "none")


def test_files_of_every_kind_are_read(tmp_path):
    import pandas as pd

    messy = "caf\u00e9 \U0001f600\x00 end"
    (tmp_path / "a.txt").write_text(messy, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one", "id": 3}\n\n"two"\n{"text": ""}\n')
    (tmp_path / "c.csv").write_text('id,text\n1,"three, and\nmore"\n2,\n')
    pd.DataFrame({"content": ["four", None]}).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.png").write_bytes(b"\x89PNG")
    found = list(documents([tmp_path]))
    assert [text for _, text in found] == [messy, "one", "two", "three, and\nmore", "four"]
    assert found[2].name == "b.jsonl:3"
    assert list(documents([tmp_path / "a.txt"])) == found[:1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\xff\xfe\xfa", "UTF-8"),
        ("b.jsonl", b'{"text": "x"}\n{"text": ', "line 2"),
        ("c.csv", b"left,right\n1,2\n", "which of left, right is the text"),
        ("d.png", b"", "no text in"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=said):
        list(documents([tmp_path]))
    with pytest.raises(CorpusError, match="no such file"):
        list(documents([tmp_path / "nowhere.txt"]))


def test_a_dataset_of_the_hub_is_read_row_by_row(monkeypatch, tmp_path):
    asked = []

    def load_dataset(name, split, streaming):
        asked.append((name, split, streaming))
        return iter([{"text": "one", "id": 1}, {"text": " ", "id": 2}, {"text": "two", "id": 3}])

    fake = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    (tmp_path / "own.txt").write_text("three")
    found = list(documents(["hf://org/name:test", tmp_path / "own.txt"]))
    assert found == [("org/name:1", "one"), ("org/name:3", "two"), ("own.txt", "three")]
    assert len(list(documents(["hf://org/name"]))) == 2
    assert asked == [("org/name", "test", True), ("org/name", "train", True)]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="pip install datasets"):
        list(documents(["hf://org/name"]))


def test_what_datasets_saves_is_read(tmp_path):
    table = pa.table({"text": ["one", None, "two"], "id": [1, 2, 3]})
    path = str(tmp_path / "data.arrow")
    with pa.OSFile(path, "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert list(documents([tmp_path])) == [("data.arrow:1", "one"), ("data.arrow:3", "two")]
    (tmp_path / "data.arrow").write_bytes(b"no table")
    with pytest.raises(CorpusError, match="Arrow stream"):
        list(documents([tmp_path]))


def test_the_lot_is_even_and_another_for_each_component_window_and_seed():
    marks = torch.arange(50)[:, None]
    drawn = lots(0, marks, torch.arange(5, 2005)) / 2**31
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.std()) == pytest.approx(12**-0.5, abs=0.01)
    rows = torch.corrcoef(drawn)
    assert float((rows - torch.eye(50)).abs().max()) < 0.15
    some = torch.arange(5, 15)
    assert not torch.equal(lots(0, marks[3], some), lots(1, marks[3], some))


def test_every_component_has_its_number(store):
    names = [address for group in groups(MODEL) for address in group.addresses]
    assert [store.number(name) for name in names] == list(range(len(names)))
    assert names[3:5] == ["a0.3", "m0.n0"]


ONE_THREAD = """
import numpy as np, torch
from interp.corpus import kernels
torch.set_num_threads(1)
kernels.threads()
new, rank, least = (np.zeros(shape, np.int64) for shape in ((1, 2), (2, 1), 2))
kernels.chosen(new, rank, least, np.zeros((2, 1), np.int16))
print(torch.get_num_threads())
"""


def test_compiled_loops_leave_torch_its_threads():
    ran = subprocess.run([sys.executable, "-c", ONE_THREAD], capture_output=True, check=True)
    assert ran.stdout.split() == [b"1"]
