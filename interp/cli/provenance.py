"""What the running command was asked: its words and all its parameters, the models that it loads,
the files by their checksums."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from interp import provenance
from minigpt import GPT2

# Parameters that tell how an answer is shown, not what it is.
SHOWN = ("as_json", "html")


@dataclass(frozen=True)
class Running:
    """A command that is being run: its name, its parameters, the models that it has loaded."""

    name: str
    given: Mapping[str, Any]
    models: dict[str, GPT2] = field(default_factory=dict)


_running: ContextVar[Running | None] = ContextVar("running", default=None)


def tracked(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters are known while it runs."""

    @wraps(command)
    def run(**given: Any) -> None:
        before = _running.set(Running(command.__name__, given))
        try:
            command(**given)
        finally:
            _running.reset(before)

    return run


def note(model: GPT2) -> None:
    """Note a model that the running command has loaded."""
    if running := _running.get():
        running.models[model.name] = model


def record() -> dict[str, Any]:
    """What the running command was asked, of what, and with what; {} outside of a command."""
    if (running := _running.get()) is None:
        return {}
    given = {name: value for name, value in running.given.items() if name not in SHOWN}
    files = {name: x for name, x in given.items() if isinstance(x, Path) and x.is_file()}
    return provenance.record(
        [running.name, *sys.argv[2:]],
        running.models,
        parameters={name: _plain(value) for name, value in given.items()},
        files={name: hashlib.sha256(x.read_bytes()).hexdigest() for name, x in files.items()},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [*map(_plain, value)]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
