"""What was typed, as models, pairs and text; or an error that says what to type."""

from __future__ import annotations

from pathlib import Path

import torch

import weights
from interp.tasks import Prompts
from minigpt import GPT2, MiniGPTError

EXAMPLE = (
    "interp patch 'When Mary and John went to the store, John gave a drink to' "
    "'When Mary and John went to the store, Mary gave a drink to' -a ' Mary' -o ' John'"
)


def load(model: str, device: str) -> GPT2:
    """A model on a device."""
    try:
        return weights.load(model, device=torch.device(device))
    except RuntimeError as error:
        raise MiniGPTError(
            f"--device {device}: {error}".splitlines()[0], "cpu, or cuda where torch sees a GPU"
        ) from error


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
        return Prompts.load(file, model.tokenizer)
    if clean is None or corrupt is None or answer is None or over is None or not model.tokenizer:
        raise MiniGPTError(
            "half a question",
            "a clean and a corrupt prompt with --answer and --over, or --pairs FILE",
            EXAMPLE,
        )
    return Prompts.from_texts(model.tokenizer, [clean], [corrupt], [answer], [over])


def addresses(text: str) -> str | list[str]:
    """A set's name as it is; addresses side by side as a list."""
    name = text.partition("@")[0].partition(":")[0]
    return text if name in ("heads", "attns", "mlps", "resid", "neurons") else text.split()


def position(text: str) -> int | str | None:
    """A number, a name, or every position."""
    return None if text == "all" else int(text) if text.lstrip("-").isdigit() else text
