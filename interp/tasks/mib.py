"""MIB's rows of indirect objects (Mueller et al. 2025; mib-bench/ioi of the hub) as pairs, chosen
and cut as MIB's own code does, so that numbers can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.tasks.prompts import Prompts
from minigpt import Tokenizer
from minigpt.errors import MiniGPTError, PromptError

HUB = "hf://"
COUNTERFACTUAL = "s2_io_flip_counterfactual"
# Names that MIB wants to be as long as one another.
NAMES = ("indirect_object", "subject", "random_c")
START = "<|endoftext|>"


def prompts(
    source: str | Path,
    tokenizer: Tokenizer,
    *,
    n: int | None = None,
    counterfactual: str = COUNTERFACTUAL,
    split: str = "train",
    start: bool = True,
) -> Prompts:
    """The pairs of a parquet file, or of a data set of the hub ("hf://mib-bench/ioi", its `split`,
    with the library `datasets`): rows whose names are as many tokens as one another, of those the
    first n.

    start: begin with the token that MIB begins with, <|endoftext|>. Answers are the names' first
    tokens, as there.
    """
    rows = [row for row in _rows(source, split) if _even(row, tokenizer)][:n]
    if not rows:
        raise PromptError(
            f"{source}: no row whose names are as many tokens as one another", "MIB's ioi rows"
        )
    if start and tokenizer.end is None:
        raise PromptError(f"a vocabulary without {START}", "GPT-2's", "start=False")
    before = START if start else ""
    clean = [tokenizer.encode(before + row["prompt"]) for row in rows]
    other = [tokenizer.encode(before + _other(row, counterfactual, source)) for row in rows]
    right, wrong = (
        [[_name(row, who, tokenizer)[0]] for row in rows] for who in ("indirect_object", "subject")
    )
    return Prompts(clean, other, right, wrong, tokenizer=tokenizer)


def _rows(source: str | Path, split: str) -> Iterator[Mapping[str, Any]]:
    rows = _of_hub(str(source), split) if str(source).startswith(HUB) else _of_file(Path(source))
    for row in rows:
        if not isinstance(row.get("prompt"), str) or not isinstance(row.get("metadata"), Mapping):
            raise PromptError(
                f"{source}: a row with the columns {', '.join(map(str, row))}",
                f"prompt, metadata with {', '.join(NAMES)}, and {COUNTERFACTUAL}",
            )
        yield row


def _of_file(path: Path) -> list[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"{path} without pyarrow", "the extra", "pip install 'minigpt-interp[corpus]'"
        ) from error
    try:
        found: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise PromptError(f"{path}: {error}", "a parquet file of MIB's ioi rows") from error
    return found


def _of_hub(source: str, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"{source} without the library datasets", "it, or a file", "pip install datasets"
        ) from error
    rows: Iterable[Mapping[str, Any]] = load_dataset(source.removeprefix(HUB), split=split)
    return rows


def _even(row: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    return len({len(_name(row, who, tokenizer)) for who in NAMES}) == 1


def _name(row: Mapping[str, Any], who: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(f" {row['metadata'][who]}")


def _other(row: Mapping[str, Any], counterfactual: str, source: str | Path) -> str:
    try:
        text: str = row[counterfactual]["prompt"]
    except (KeyError, TypeError) as error:
        known = ", ".join(name for name in row if str(name).endswith("_counterfactual"))
        raise PromptError(
            f"{source}: no counterfactual {counterfactual}", known or "rows with counterfactuals"
        ) from error
    return text
