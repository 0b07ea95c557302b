"""A model from a name, a folder or a file: `load`. Knows the order of the steps; each step is
another module's."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import torch

from minigpt import ops, tokenizer
from minigpt.config import Config
from minigpt.errors import MiniGPTError
from minigpt.model import GPT2
from minigpt.params import UNEMBED, Params, build
from minigpt.tokenizer import Tokenizer
from weights import catalog, convert, files, manifest, shape
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
) -> GPT2:
    """The model of that name ("ioi-mini", "gpt2", ...), or in that folder or file; a name goes
    before a folder called alike.

    What need not be converted stays mapped from the file, which must not change while the model is
    in use. n_head is for a file that no config.json lies beside.
    """
    _check_request(device, dtype, attention)
    name, path = locate(x)
    folder = path if path.is_dir() else path.parent
    manifest.verify(folder)
    file = files.weights_in(path)
    try:
        params = _params(file, device, dtype, n_head)
    except MiniGPTError as error:
        if str(file) in str(error):
            raise
        raise WeightsError(f"{file}: {error}") from error
    return GPT2(
        params,
        manifest.read_tokenizer(folder) or _gpt2_tokenizer(params.config),
        name,
        ATTENTION[attention],
    )


def locate(x: str | os.PathLike[str]) -> tuple[str, Path]:
    """The model's name and the folder or file it is in; a known model that is not at hand is
    fetched first."""
    if isinstance(x, str) and (known := catalog.find(x)):
        return known.name, catalog.at_hand(known) or fetch(x)
    path = Path(x).expanduser() if isinstance(x, (str, os.PathLike)) else None
    if path is None or not os.fspath(x) or not path.exists():
        raise catalog.unknown(x)
    return path.absolute().stem if path.is_file() else path.resolve().name, path


def _params(
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
            f"numbers of another type: {', '.join(strange[:4])}", ", ".join(map(str, DTYPES))
        )
    return build(config, {name: x.to(device=device, dtype=dtype) for name, x in state.items()})


def _facts_beside(file: Path) -> dict[str, Any]:
    path = file.parent / "config.json"
    return files.read_json(path) if path.exists() else {}


def _gpt2_tokenizer(config: Config) -> Tokenizer | None:
    """GPT-2's own where the model has its vocabulary; a model is of use without it, so its absence
    is no error."""
    if config.n_vocab not in GPT2_VOCABULARIES:
        return None
    try:
        return tokenizer.gpt2()
    except MiniGPTError as error:
        warnings.warn(
            f"loaded without a tokenizer, so for token ids only. {error}",
            WeightsWarning,
            stacklevel=3,
        )
        return None


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
