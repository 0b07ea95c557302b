"""What was typed, as models, pairs and text; or an error that says what to type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

import weights
from interp.cli import provenance, threads
from interp.sets import SETS
from interp.tasks import Prompts, mib
from minigpt import GPT2, MiniGPTError, Patch, Tokenizer
from minigpt.vocabulary import Ids

EXAMPLE = (
    "interp patch 'When Mary and John went to the store, John gave a drink to' "
    "'When Mary and John went to the store, Mary gave a drink to' -a ' Mary' -o ' John'"
)

# Dictionaries that a model comes with.
EMBEDDED = {"ioi-mini": ["ioi-mini"]}


def load(
    model: str,
    device: str = "cpu",
    vocabulary: Path | None = None,
    ids: bool = False,
    latents: Sequence[str] | None = None,
) -> GPT2:
    """A model on a device; with another vocabulary than the one beside it, or with token ids as the
    words that are typed; with dictionaries."""
    if said := threads.choose():
        Console(stderr=True, highlight=False).print(f"note: {said}", soft_wrap=True)
    try:
        loaded = weights.load(model, device=torch.device(device), tokenizer=vocabulary)
    except RuntimeError as error:
        raise MiniGPTError(
            f"--device {device}: {error}".splitlines()[0], "cpu, or cuda where torch sees a GPU"
        ) from error
    for source in latents or ():
        known = weights.load_dictionaries(source, model=loaded, device=torch.device(device))
        loaded = loaded.with_dictionaries(*known)
    provenance.note(loaded)
    if not ids:
        return loaded
    shown = None if loaded.tokenizer is None else loaded.tokenizer.vocabulary
    return replace(loaded, tokenizer=Tokenizer(Ids(loaded.config.n_vocab, shown)))


def read(file: Path) -> str:
    """A file's text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", error)
        raise MiniGPTError(f"{file}: {reason}", "a file of text that can be read") from error


def pairs(
    model: GPT2,
    clean: str | None,
    corrupt: str | None,
    answer: str | None,
    over: str | None,
    file: Path | None,
) -> Prompts:
    """Pairs from a file, or the one pair that was typed."""
    if file is not None:
        return from_file(file, model)
    if clean is None or corrupt is None or answer is None or over is None:
        raise MiniGPTError(
            "half a question",
            "a clean and a corrupt prompt with --answer and --over, or --pairs FILE",
            EXAMPLE,
        )
    return Prompts.from_texts(model.words, [clean], [corrupt], [answer], [over])


def from_file(file: Path, model: GPT2) -> Prompts:
    """The pairs of a file; of a parquet file MIB's rows."""
    if file.suffix == ".parquet":
        return mib.prompts(file, model.words)
    return Prompts.load(file, model.words)


def patch_of(lines: Sequence[str], vectors: Sequence[str]) -> Patch:
    """The patch that was typed, and the arrays that it names."""
    return Patch.parse("\n".join(lines), dict(map(_vector, vectors)))


def _vector(text: str) -> tuple[str, torch.Tensor]:
    name, _, file = text.partition("=")
    try:
        return name, torch.as_tensor(np.load(file, allow_pickle=False))
    except (OSError, ValueError, TypeError) as error:
        raise MiniGPTError(
            f"--vector {text}: {error}",
            "NAME=FILE, an array of numbers as numpy.save writes it",
            "--vector v=direction.npy",
        ) from error


def addresses(text: str) -> str | list[str]:
    """A set's name as it is; addresses side by side as a list."""
    name = text.partition("@")[0].partition(":")[0]
    return text if name in {each.partition(":")[0] for each in SETS} else text.split()


def position(text: str) -> int | str | None:
    """A number, a name, or every position."""
    return None if text == "all" else int(text) if text.lstrip("-").isdigit() else text
