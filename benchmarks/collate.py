"""A corpus: every neuron and head of full-size GPT-2 over the tokens of a book, beside the forward
passes alone; then one component's page, and searches over all of them.

python -m benchmarks.collate --corpus FILE ... --tokens 200000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import runner, setting
from interp.corpus.documents import Document, documents
from interp.corpus.make import make
from interp.corpus.measure import BLOCK, Settings
from interp.corpus.store import Store
from interp.corpus.windows import Windows
from minigpt import GPT2
from minigpt.tokenizer import gpt2

# A run in a process of its own, whose memory is measured: what is kept does not grow with the text.
FEW = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", nargs="+", default=["../shared/corpus/grimm.txt"])
    parser.add_argument("--tokens", type=int, default=40_000)
    given = parser.parse_args()
    with setting.setting() as place, tempfile.TemporaryDirectory() as folder:
        model = replace(place.model, tokenizer=gpt2())
        texts = some(model, given.corpus, given.tokens)
        start = time.perf_counter()
        store = make(model, texts, Path(folder) / "store", Settings(), progress=False)
        took = time.perf_counter() - start
        alone = runner.seconds(lambda: forward(model, store.windows))
        runner.record(
            "a corpus collated",
            {},
            weights=place.weights,
            tokens=int(store.windows.table["length"].sum()),
            components=store.said["components"],
            forward=alone,
            collated=took,
            ratio=took / alone,
            megabytes=store.said["megabytes"],
            peak=peak(place.folder, some(model, given.corpus, FEW), Path(folder)),
            **asked(store),
        )


def peak(model: Path, texts: Sequence[Document], folder: Path) -> int:
    """Bytes that `interp collate` has in memory at most."""
    (folder / "few.txt").write_text(texts[0].text, encoding="utf-8")
    command = ["collate", str(folder / "few.txt"), "--out", str(folder / "few"), "-m", str(model)]
    subprocess.run([sys.executable, "-W", "ignore", "-m", "interp.cli", *command], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def some(model: GPT2, paths: Sequence[str], tokens: int) -> list[Document]:
    """Files, the last as far as there are about so many tokens."""
    found = list[Document]()
    for name, text in documents(paths):
        ids = model.words.encode(text)[:tokens]
        tokens -= len(ids)
        found += [Document(name, model.words.decode(ids))] if ids else []
    return found


def forward(model: GPT2, windows: Windows) -> None:
    """The runs alone."""
    with torch.inference_mode():
        for start in range(0, len(windows), BLOCK):
            model.run([windows[i] for i in range(start, min(start + BLOCK, len(windows)))])


def asked(store: Store) -> dict[str, float]:
    """Seconds of a page and of searches, from a store that was just opened."""
    fresh = Store(store.folder, store.words)
    times = {}
    for name, call in {
        "page": lambda: fresh.component("m7.n1000"),
        "by_token": lambda: fresh.find(" the"),
        "by_statistics": lambda: fresh.find(where="kurtosis > 10 and mean < 0"),
        "alike": lambda: fresh.alike("m7.n1000"),
    }.items():
        start = time.perf_counter()
        call()
        times[name] = time.perf_counter() - start
    return times


if __name__ == "__main__":
    main()
