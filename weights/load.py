"""A model from a name, a folder or a file: `load`. Knows the order of the steps; each step is
another module's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from minigpt import ops
from minigpt.config import Config
from minigpt.errors import MiniGPTError
from minigpt.model import GPT2
from minigpt.params import UNEMBED, Params, build
from minigpt.tokenizer import Tokenizer, gpt2
from minigpt.vocabulary import Ids
from weights import catalog, convert, files, manifest, shape, vocabulary, whole
from weights.errors import WeightsError, WeightsWarning
from weights.fetch import fetch

ATTENTION = {"eager": ops.eager, "sdpa": ops.sdpa}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# GPT-2's vocabulary, bare and as nanoGPT pads it
GPT2_VOCABULARIES = (50257, 50304)


def load(
    x: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    attention: Literal["eager", "sdpa"] = "eager",
    n_head: int | None = None,
    tokenizer: Tokenizer | str | os.PathLike[str] | Sequence[str | None] | None = None,
    revision: str | None = None,
) -> GPT2:
    """The model of that name ("ioi-mini", "gpt2", ...), in that folder or file, or in that
    repository of the hub ("org/name@revision"); a name goes before a folder called alike.

    What need not be converted stays mapped from the file, which must not change meanwhile. n_head
    is for a file without config.json; tokenizer (one, a folder or file with one, a list of names)
    takes the place of what lies beside the weights. GPT-2's own is taken, and that is said, where
    nothing does and the number of ids is GPT-2's.
    """
    _check_request(device, dtype, attention)
    name, path = locate(x, revision)
    folder = path if path.is_dir() else path.parent
    whole.complete(folder)
    manifest.verify(folder, but=() if path.is_dir() else set(files.WEIGHTS) - {path.name})
    file = files.weights_in(path)
    params = _params(file, device, dtype, n_head)
    if tokenizer is None:
        words = _own(folder, params.config) or _gpt2s(file, name, params.config)
    else:
        words = _fitting(vocabulary.of(tokenizer), params.config)
    return GPT2(params, words, name, ATTENTION[attention])


def locate(x: str | os.PathLike[str], revision: str | None = None) -> tuple[str, Path]:
    """The model's name and the folder or file it is in; one of the hub that is not at hand is
    fetched first."""
    if isinstance(x, str) and (known := catalog.find(x)) and revision is None:
        return known.name, catalog.at_hand(known) or fetch(x)
    path = files.place(x) if isinstance(x, (str, os.PathLike)) and os.fspath(x) else None
    if path is not None and path.exists() and revision is None:
        return path.absolute().stem if path.is_file() else path.resolve().name, path
    if isinstance(x, str) and (repo := catalog.repository(x, revision)):
        return repo.name, catalog.at_hand(repo) or fetch(x, revision)
    raise catalog.unknown(x)


def _params(
    file: Path, device: str | torch.device, dtype: torch.dtype | None, n_head: int | None
) -> Params:
    """The parameters in a file; what is wrong with them is said of that file."""
    try:
        return _checked(file, device, dtype, n_head)
    except MiniGPTError as error:
        if str(file) in str(error):
            raise
        raise WeightsError(f"{file}: {error}") from error


def _checked(
    file: Path, device: str | torch.device, dtype: torch.dtype | None, n_head: int | None
) -> Params:
    """The parameters in a file, checked as a whole."""
    state, facts = convert.to_engine(files.read(file))
    facts = facts or _facts_beside(file)
    if facts.get("tie_word_embeddings") is False and UNEMBED not in state:
        raise WeightsError(
            f"{UNEMBED} is missing, though config.json says that it is not tied", "both, or neither"
        )
    state = convert.without_tied_head(state)
    config = shape.config_of(facts, state, n_head)
    if strange := [f"{name} ({x.dtype})" for name, x in state.items() if x.dtype not in DTYPES]:
        raise WeightsError(
            f"numbers of another type: {', '.join(strange[:4])}",
            ", ".join(map(str, DTYPES)),
            "x.float() of each, then torch.save, where it was made",
        )
    types = {x.dtype for x in state.values()}
    if dtype is None and len(types) > 1:
        raise WeightsError(
            f"numbers of several types: {', '.join(sorted(map(str, types)))}",
            "one type for all",
            "weights.load(..., dtype=torch.float32)",
        )
    return build(config, {name: x.to(device=device, dtype=dtype) for name, x in state.items()})


def _facts_beside(file: Path) -> dict[str, Any]:
    path = file.parent / "config.json"
    return files.read_json(path) if path.exists() else {}


def _own(folder: Path, config: Config) -> Tokenizer | None:
    """The tokenizer that lies beside the weights. A model is of use without it: one that cuts texts
    by other rules is said to be so, and not replaced."""
    try:
        words = manifest.read_tokenizer(folder) or vocabulary.beside(folder)
        return words and _fitting(words, config)
    except vocabulary.OtherEncodingError as error:
        _warn(f"loaded without its tokenizer, so for token ids only. {error}")
        return Tokenizer(Ids(config.n_vocab))


def _fitting(words: Tokenizer, config: Config) -> Tokenizer:
    if words.n_vocab > config.n_vocab:
        raise WeightsError(
            f"a vocabulary of {words.n_vocab} tokens for a model of {config.n_vocab}",
            "the vocabulary that belongs to the model",
        )
    return words


def _gpt2s(file: Path, name: str, config: Config) -> Tokenizer | None:
    """GPT-2's own, where nothing lies beside the weights and the number of ids is GPT-2's."""
    if config.n_vocab not in GPT2_VOCABULARIES:
        return None
    if catalog.find(name) is None:
        _warn(
            f"{file}: no vocabulary lies beside it; GPT-2's is taken, since the model has "
            f"{config.n_vocab} ids as GPT-2 has. Another: tokenizer=FILE (--tokenizer FILE)"
        )
    try:
        return gpt2()
    except MiniGPTError as error:
        _warn(f"loaded without a tokenizer, so for token ids only. {error}")
        return None


def _warn(text: str) -> None:
    warnings.warn(text, WeightsWarning, stacklevel=4)


def _check_request(device: str | torch.device, dtype: torch.dtype | None, attention: str) -> None:
    if attention not in ATTENTION:
        raise WeightsError(f"attention={attention!r}", ", ".join(ATTENTION))
    if dtype is not None and dtype not in DTYPES:
        raise WeightsError(f"dtype={dtype!r}", "None, " + ", ".join(map(str, DTYPES)))
    try:
        torch.zeros(1, device=device).item()
    # torch raises AssertionError for a device that it was built without
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"device={device!r} cannot be used: {reason}", "cpu, cuda, cuda:0, mps"
        ) from error
