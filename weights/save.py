"""A model to a folder in Hugging Face's layout, all of it or nothing. Knows the files' names, not
what is done with them."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from minigpt.model import GPT2
from minigpt.params import Params
from minigpt.tokenizer import Tokenizer
from weights import convert, files, manifest, shape, vocabulary, whole
from weights.errors import WeightsError

VOCABULARIES = sorted({name for names in vocabulary.FILES.values() for name in names})
FILES = ("model.safetensors", "config.json", manifest.VOCABULARY, manifest.NAME, *VOCABULARIES)


def save(model: GPT2 | Params, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write model.safetensors and config.json, as transformers' GPT2LMHeadModel.from_pretrained and
    `load` read them, with the tokenizer, and checksums in manifest.json.

    Refuses to write over a file that is there, unless overwrite=True. Whoever is interrupted leaves
    the folder as it was, or one that the next `load` or `save` completes.
    """
    folder = files.place(folder)
    if not overwrite:
        whole.complete(folder)
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise WeightsError(
            f"{folder} already holds {', '.join(there)}", "a folder without", "overwrite=True"
        )
    try:
        whole.write(folder, partial(_write, model), FILES)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder} could not be written: {error}", "a folder that may be written, with room"
        ) from error
    return folder


def _write(model: GPT2 | Params, folder: Path) -> None:
    params, tokenizer = (
        (model.params, model.tokenizer) if isinstance(model, GPT2) else (model, None)
    )
    facts = shape.to_facts(params, _end(tokenizer, params.config.n_vocab))
    (folder / "config.json").write_text(json.dumps(facts, indent=2) + "\n")
    state = {name: x.contiguous() for name, x in convert.from_engine(params).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors makes files that only their owner may read
    shutil.copymode(folder / "config.json", folder / "model.safetensors")
    about = {} if tokenizer is None else manifest.write_tokenizer(tokenizer, folder)
    # config.json is for people to edit: its fields are checked one by one
    names = sorted(path.name for path in folder.iterdir() if path.name != "config.json")
    manifest.write(folder, {**about, "files": manifest.describe(folder, names)})


def _end(tokenizer: Tokenizer | None, n_vocab: int) -> int | None:
    """The end-of-text token: the tokenizer's, or GPT-2's where the vocabulary can only be its
    own."""
    return tokenizer.end if tokenizer else 50256 if n_vocab == 50257 else None
