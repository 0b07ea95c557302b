"""manifest.json: what a folder of weights says of itself: its files' checksums, its tokenizer, how
it was trained."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minigpt import tokenizer
from minigpt.tokenizer import Tokenizer
from minigpt.vocabulary import Tiktoken
from weights.errors import WeightsError
from weights.files import read_json

NAME, VOCABULARY = "manifest.json", "vocab.tiktoken"


def sha256(path: Path, *, progress: bool = False) -> str:
    """The file's checksum, in hexadecimal."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc="verifying", disable=not progress) as bar,
    ):
        while piece := file.read(1 << 20):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()


def verify(folder: Path, but: Collection[str] = ()) -> None:
    """WeightsError unless every file that the folder's manifest (if it has one) gives a checksum
    for is there and unchanged; `but` some are not looked at."""
    faults = [
        fault
        for name, facts in _files(folder).items()
        if name not in but and (fault := _fault(folder / name, facts["sha256"]))
    ]
    if faults:
        raise WeightsError(
            f"{folder} is not what its {NAME} says:\n    " + "\n    ".join(faults),
            "the files as they were made",
            f"copy the folder again; or, where the change is meant, take 'files' out of its {NAME}",
        )


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer that the folder brings along: vocab.tiktoken, cut by the manifest's pattern."""
    if not (folder / NAME).exists() or not (folder / VOCABULARY).exists():
        return None
    facts = read_json(folder / NAME).get("tokenizer")
    if not isinstance(facts, dict) or not {"name", "pattern"} <= facts.keys():
        raise WeightsError(
            f"{folder / NAME} says not how {VOCABULARY} is used",
            '"tokenizer": {"name": ..., "pattern": ...}',
        )
    try:
        return tokenizer.from_file(folder / VOCABULARY, facts["name"], facts["pattern"])
    except (KeyboardInterrupt, SystemExit):
        raise
    # a damaged vocabulary can raise nearly anything from inside tiktoken, a panic (which is no
    # Exception) included
    except BaseException as error:
        raise WeightsError(
            f"{folder / VOCABULARY} is no vocabulary: {error}",
            "a base64 token and its number on a line",
        ) from error


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """The files that a tokenizer was read from; or vocab.tiktoken, and what the manifest says of
    it: read_tokenizer's inverse."""
    if not isinstance(tokenizer.vocabulary, Tiktoken):
        for name, data in tokenizer.files.items():
            (folder / name).write_bytes(data)
        return {}
    # tiktoken's README builds encodings from these two; there is no public name for them
    encoding = tokenizer.vocabulary.encoding
    ranks = encoding._mergeable_ranks
    lines = (
        f"{base64.b64encode(token).decode()} {ranks[token]}\n"
        for token in sorted(ranks, key=ranks.__getitem__)
    )
    (folder / VOCABULARY).write_text("".join(lines))
    return {"tokenizer": {"name": encoding.name, "pattern": encoding._pat_str}}


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write manifest.json."""
    (folder / NAME).write_text(
        json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def describe(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """The checksum and size of each of these files, as verify reads them."""
    return {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }


def _files(folder: Path) -> dict[str, dict[str, str]]:
    found = read_json(folder / NAME).get("files", {}) if (folder / NAME).exists() else {}
    if not isinstance(found, dict) or not all(
        isinstance(facts, dict) and isinstance(facts.get("sha256"), str) for facts in found.values()
    ):
        raise WeightsError(
            f"'files' in {folder / NAME} is not of the form it has here",
            '{"FILE": {"sha256": ...}}',
        )
    return found


def _fault(path: Path, wanted: str) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    found = sha256(path)
    return (
        None
        if found == wanted
        else f"{path.name} has the checksum {found[:16]}..., should have {wanted[:16]}..."
    )
