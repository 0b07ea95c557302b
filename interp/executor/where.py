"""Where work is done, and what goes wrong there."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

# How often a piece is begun again after whoever did it was gone.
TRIES = 3


class ExecutorError(MiniGPTError):
    """Work that cannot be done where it was asked to be."""


class Gone(Exception):
    """A worker ended in the middle of its work."""


@dataclass(frozen=True)
class Where(Shown):
    """workers: processes, 1 being this one; ray: a Ray cluster's address instead, "local" for one
    that is begun here."""

    workers: int = 1
    ray: str = ""


def alone() -> None:
    """One thread a worker: more would wait for one another."""
    torch.set_num_threads(1)
