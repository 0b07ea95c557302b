"""Where work is done, and what goes wrong there."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

# How often a piece is begun again after whoever did it was gone.
TRIES = 3
HERE = "here"
# In a worker, that it is one.
_workers: list[bool] = []


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
    """What a worker begins with: one thread, since more would wait for one another."""
    _workers.append(True)
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread as long as this lasts: the bits of a worker's, in whichever process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def place() -> str:
    """Where numbers are computed: the machine, what of its processor they depend on, torch's
    version; "here" in the process that was asked."""
    if not _workers:
        return HERE
    processor = torch.backends.cpu.get_cpu_capability()
    return f"{platform.node()}, {platform.machine()} {processor}, torch {torch.__version__}"
