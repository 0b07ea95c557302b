"""A corpus: every neuron and head of full-size GPT-2 over the tokens of a book, beside the forward
passes alone; then one component's page, and searches over all of them.

python -m benchmarks.collate --corpus FILE ... --tokens 200000

python -m benchmarks.collate --beside-delphi

the latter with DELPHI=FOLDER, the folder of its package (pip install --no-deps --target FOLDER
eai-delphi==0.1.3 simple_parsing docstring_parser orjson): its cache of latents beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import runner, setting
from interp.corpus.documents import Document, documents
from interp.corpus.make import make
from interp.corpus.measure import BLOCK, Settings
from interp.corpus.store import Store
from interp.corpus.windows import Windows
from minigpt import GPT2
from minigpt.dictionary import Dictionary, TopK
from minigpt.tokenizer import gpt2

# A run in a process of its own, whose memory is measured: what is kept does not grow with the text.
FEW = 4096
# Tokens of the contest with Delphi, and the Python that has its libraries.
BESIDE = 8192
# A command, and at its end the most megabytes that it held.
MEASURED = """
import atexit
from benchmarks.peers.worker import resident
from interp.cli import main
atexit.register(lambda: print(resident("VmHWM")))
main()
"""
ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("TL4_PYTHON", ROOT / ".bench-venv" / "tl4" / "bin" / "python"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", nargs="+", default=["../shared/corpus/grimm.txt"])
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--beside-delphi", action="store_true")
    given = parser.parse_args()
    with setting.setting() as place, tempfile.TemporaryDirectory() as folder:
        model = replace(place.model, tokenizer=gpt2())
        texts = some(model, given.corpus, given.tokens)
        if given.beside_delphi:
            beside_delphi(place, texts, Path(folder))
            return
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


def beside_delphi(place: setting.Setting, texts: Sequence[Document], folder: Path) -> None:
    """Latents of every MLP, 32 of 4,096 on at a token: what each takes, its own forward passes
    beside it, once both have seen the same activations."""
    known = [dictionary(layer) for layer in range(place.model.config.n_layer)]
    model = replace(place.model, tokenizer=gpt2()).with_dictionaries(*known)
    ids = model.words.encode("".join(each.text for each in texts))[: BESIDE // 64 * 64]
    (folder / "model").symlink_to(place.folder)
    given = {f"encoder.{i}": each.encoder for i, each in enumerate(known)}
    given |= {f"bias.{i}": each.encoder_bias for i, each in enumerate(known)}
    save_file({**given, "tokens": torch.tensor(ids).view(-1, 64)}, folder / "given.safetensors")
    ask = [PYTHON, Path(__file__).parent / "peers" / "delphi_.py", folder]
    subprocess.run([*ask, str(torch.get_num_threads())], check=True)
    theirs = json.loads((folder / "times.json").read_text())
    same = [Document("all", model.words.decode(ids))]
    start = time.perf_counter()
    store = make(model, same, folder / "beside", Settings(skip=0), progress=False)
    took = time.perf_counter() - start
    agree(store, theirs["sums"])
    alone = runner.seconds(lambda: forward(model, store.windows))
    runner.record(
        "latents of a corpus, beside Delphi's cache",
        {},
        weights=place.weights,
        tokens=len(ids),
        ours=took,
        our_forward=alone,
        components=store.said["components"],
        delphi=theirs["cached"],
        delphi_forward=theirs["forward"],
        delphi_latents=sum(each.n_latents for each in known),
    )


def dictionary(layer: int) -> Dictionary:
    """Random latents of an MLP's write."""
    rng = torch.Generator().manual_seed(layer)
    encoder = torch.randn(768, 4096, generator=rng) / 768**0.5
    bias, out = torch.zeros(4096), torch.zeros(768)
    given = "random", f"m{layer}", f"m{layer}", encoder, bias, encoder.T.contiguous(), out
    return Dictionary(*given, activation=TopK(32))


def agree(store: Store, sums: dict[str, float]) -> None:
    """That both have seen the same activations in all."""
    rows = store.ask("select address, mean, count from components where address like '%.l%'")
    ours: dict[str, float] = {}
    for address, mean, count in rows:
        layer = f"transformer.h.{address[1:].partition('.')[0]}.mlp"
        ours[layer] = ours.get(layer, 0.0) + mean * count
    for layer, expected in sums.items():
        assert abs(ours[layer] / expected - 1) < 1e-4, (layer, ours[layer], expected)


def peak(model: Path, texts: Sequence[Document], folder: Path) -> int:
    """Bytes that `interp collate` has in memory at most; counted in a program of its own, since a
    process is charged with what the one that began it held."""
    (folder / "few.txt").write_text(texts[0].text, encoding="utf-8")
    command = ["collate", str(folder / "few.txt"), "--out", str(folder / "few"), "-m", str(model)]
    ran = [sys.executable, "-W", "ignore", "-c", MEASURED, *command]
    said = subprocess.run(ran, check=True, stdout=subprocess.PIPE).stdout
    return int(float(said.split()[-1]) * 2**20)


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
