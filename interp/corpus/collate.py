"""One pass over a corpus, shard by shard: what is known after each is written down, and read again
where the work was interrupted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from interp.corpus.attends import Attends
from interp.corpus.best import BITS, FREE, Best
from interp.corpus.groups import groups
from interp.corpus.measure import KINDS, NOTHING, Found, Least, Settings
from interp.corpus.moments import Moments
from interp.corpus.windows import Windows
from interp.corpus.workers import measured
from interp.executor import Where
from minigpt import GPT2

STATE = "state.safetensors"


def collate(
    model: GPT2,
    windows: Windows,
    settings: Settings,
    folder: Path,
    where: Where,
    batch: int,
    *,
    progress: bool = True,
) -> Found:
    """What every component did, from where the folder's state stands; written into it after every
    shard. batch: windows that are run together; what comes out is the same."""
    given = model, windows, settings, folder, where, batch, progress
    found = _passed(*given, drawn(model, windows, settings))
    if _lacks(found, windows, settings):
        (folder / STATE).unlink()
        found = _passed(*given, NOTHING)
    return found


def drawn(model: GPT2, windows: Windows, settings: Settings) -> Least:
    """What a window's lot must exceed to be kept at all, so that few are put in and thrown out
    again: far more texts than are kept do, but for once in a billion stores."""
    wanted = settings.sample + 9 * math.sqrt(settings.sample) + 20
    chance = wanted / len(windows.table["mark"].unique())
    lowest = FREE if chance >= 1 else int((1 - chance) * 2**BITS) << BITS
    n = sum(group.n for group in groups(model))
    return {"sample": torch.full((n,), lowest)}


def _lacks(found: Found, windows: Windows, settings: Settings) -> bool:
    """Whether some component has fewer windows at random than there are."""
    kept = (found.best["sample"].rank != FREE).sum(1)
    return bool((kept < min(settings.sample, len(windows))).any())


def _passed(
    model: GPT2,
    windows: Windows,
    settings: Settings,
    folder: Path,
    where: Where,
    batch: int,
    progress: bool,
    least: Least,
) -> Found:
    """What every component did, nothing being kept that is not above `least`."""
    found, done = resumed(model, settings, folder, least)
    every, lengths = shards(len(windows), settings.shard), windows.table["length"].to_numpy()
    read = int(lengths[: done * settings.shard].sum())
    bar = tqdm(total=int(lengths.sum()), initial=read, unit=" tokens", disable=not progress)
    known = [found]
    with bar:
        left = every[done:]
        for some in measured(model, windows, settings, left, lambda: known[0], where, batch):
            known[0] = found = found | some
            bar.update(int(lengths[every[done]].sum()))
            done += 1
            save(found, done, folder)
    return found


def shards(windows: int, size: int) -> list[slice]:
    """The windows of each shard."""
    return [slice(start, min(start + size, windows)) for start in range(0, windows, size)]


# ---- what is written down


def save(found: Found, done: int, folder: Path) -> None:
    """The state after so many shards, in the place of the one before."""
    tensors = {f"moments.{name}": x for name, x in vars(found.moments).items() if name != "count"}
    for kind, best in found.best.items():
        tensors |= {f"{kind}.{name}": x for name, x in vars(best).items()}
    tensors |= {f"attends.{name}": x for name, x in vars(found.attends).items()}
    new = folder / f"{STATE}.new"
    said = {"done": str(done), "count": str(found.moments.count)}
    save_file({name: x.contiguous() for name, x in tensors.items()}, new, metadata=said)
    new.replace(folder / STATE)


def resumed(
    model: GPT2, settings: Settings, folder: Path, least: Least = NOTHING
) -> tuple[Found, int]:
    """What is known already, and after how many shards; nothing yet with its `least`."""
    if not (folder / STATE).is_file():
        return Found.none(model, settings, least), 0
    with safe_open(folder / STATE, "pt") as file:
        said = file.metadata()
    kept = load_file(folder / STATE)
    moments = Moments(int(said["count"]), *_of("moments", Moments, kept))
    best = {kind: Best(*_of(kind, Best, kept)) for kind in KINDS}
    return Found(moments, best, Attends(*_of("attends", Attends, kept))), int(said["done"])


def _of(name: str, kind: type, kept: dict[str, Tensor]) -> Iterator[Tensor]:
    return (
        kept[f"{name}.{field.name}"] for field in fields(kind) if f"{name}.{field.name}" in kept
    )
