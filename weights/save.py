"""A model to a folder in Hugging Face's layout, all of it or nothing. Knows the files' names, not
what is done with them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file

from minigpt.model import GPT2
from minigpt.params import Params
from minigpt.tokenizer import Tokenizer
from weights import convert, manifest, shape
from weights.errors import WeightsError

FILES = ("model.safetensors", "config.json", manifest.VOCABULARY, manifest.NAME)


def save(model: GPT2 | Params, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write model.safetensors and config.json, as transformers' GPT2LMHeadModel.from_pretrained and
    `load` read them.

    A tokenizer that is not GPT-2's goes along. Refuses to write over a file that is there, unless
    overwrite=True.
    """
    folder = Path(folder).expanduser()
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise WeightsError(
            f"{folder} already holds {', '.join(there)}", "a folder without", "overwrite=True"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".save-") as draft:
        _write(model, Path(draft))
        written = [name for name in FILES if (Path(draft) / name).exists()]
        for name in written:
            (Path(draft) / name).replace(folder / name)
    # a tokenizer of the model that was there before would be taken for this one's
    for name in set(there) - set(written):
        (folder / name).unlink()
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
    if tokenizer is not None and tokenizer.encoding.name != "gpt2":
        manifest.write_tokenizer(tokenizer, folder)


def _end(tokenizer: Tokenizer | None, n_vocab: int) -> int | None:
    """The end-of-text token: the tokenizer's, or GPT-2's where the vocabulary can only be its
    own."""
    return tokenizer.encoding.eot_token if tokenizer else 50256 if n_vocab == 50257 else None
