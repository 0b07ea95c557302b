"""What is in a checkpoint file, by name: mapped into memory, not copied, and never run. Knows
nothing of GPT-2."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from weights.errors import WeightsError

# The files that a folder's weights may be in; the first that is there is read.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "ckpt.pt",
)
TORCH = (".bin", ".pt", ".pth")
LEGAL = "a .safetensors file, or a .bin, .pt or .pth file that torch.save wrote from tensors"


def weights_in(path: Path) -> Path:
    """The file that holds the weights: the path itself, or the first of WEIGHTS in the folder."""
    if not path.is_dir():
        return path
    if found := next((path / name for name in WEIGHTS if (path / name).exists()), None):
        return found
    raise WeightsError(
        f"the folder {path} holds no weights",
        "one of " + ", ".join(WEIGHTS) + " in it",
        "the weights' own file, where it has another name",
    )


def read(path: Path) -> dict[str, Any]:
    """Everything the file holds by name; WeightsError unless it is whole and nothing but data."""
    if not path.is_file():
        raise WeightsError(f"there is no file {path}", LEGAL)
    if path.name.endswith(".index.json"):
        return _shards(path)
    _refuse_pointer(path)
    try:
        return _torch(path) if path.suffix in TORCH else _safetensors(path)
    # a damaged file can raise nearly anything from inside the two parsers
    except Exception as error:
        raise WeightsError(
            f"{path} could not be read: {_reason(error)}", LEGAL, _remedy(path)
        ) from error


def place(x: str | os.PathLike[str]) -> Path:
    """A path that was typed; WeightsError where there can be none."""
    try:
        path = Path(x).expanduser()
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{str(x)[:100]!r} is no path: {error}", "a folder or a file") from error
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    found = json_value(path)
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}", "a JSON object")
    return found


def json_value(path: Path) -> Any:
    """What a JSON file holds."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is too deep" if isinstance(error, RecursionError) else error
        raise WeightsError(f"{path} could not be read: {reason}", "a JSON object") from error


def read_text(path: Path) -> str:
    """A file's text, in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} could not be read: {error}", "text in UTF-8") from error


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping, it cannot be iterated over)


def _torch(path: Path) -> dict[str, Any]:
    # files older than torch 1.6 are no zip archives and cannot be mapped
    archive = zipfile.is_zipfile(path)
    if archive:
        _check_sums(path)
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    if not isinstance(found, dict):
        raise TypeError(f"it holds a {type(found).__name__}, not names and tensors")
    return found


def _check_sums(path: Path) -> None:
    """ValueError where a part of an archive has not the checksum that it had when it was written,
    which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged: its checksum is another")


def shards(index: Path) -> list[str]:
    """The files that an index names, which are to lie beside it."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in where.values()
    ):
        raise WeightsError(
            f"{index} says not where the tensors are",
            "a weight_map from tensors to files beside it",
        )
    names = sorted(set(where.values()))
    if index.name in names:
        raise WeightsError(f"{index} names itself", "files of tensors beside it")
    return names


def _shards(index: Path) -> dict[str, Any]:
    """The tensors of all the files that an index names."""
    names = shards(index)
    if absent := [name for name in names if not (index.parent / name).is_file()]:
        raise WeightsError(
            f"{index} names files that are not there: {', '.join(absent)}",
            "all of " + ", ".join(names),
        )
    return {tensor: x for name in names for tensor, x in read(index.parent / name).items()}


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise WeightsError(
                f"{path} is a pointer of git-lfs, not the weights themselves", LEGAL, "git lfs pull"
            )


def _reason(error: Exception) -> str:
    """What a parser found, in one sentence: torch goes on at length about how to switch its safety
    off."""
    text = str(error)
    if found := re.search(
        r"unsupported (global|class|operand)[^\n]*?(?=,| was | whose |\.\s|\n|$)",
        text,
        re.IGNORECASE,
    ):
        return f"it holds code, which is never run here ({found[0]})"
    return f"{type(error).__name__}: " + re.split(r"\.\s|\n", text)[0]


def _remedy(path: Path) -> str:
    if path.suffix in TORCH:
        return "torch.save(model.state_dict(), FILE) where it was made, if it is whole"
    return "fetch or copy it again: it is cut short, damaged or no safetensors file"
