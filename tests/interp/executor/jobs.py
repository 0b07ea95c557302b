"""Jobs of the executor's tests, as workers import them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from interp.executor.lend import Lent


@dataclass
class Squares:
    """The square of a number, and who made it."""

    def __call__(self, piece: int) -> tuple[int, int]:
        return piece**2, os.getpid()


@dataclass
class Killed:
    """The first who is given `at` is killed in the middle; always: every one."""

    folder: Path
    at: int
    always: bool = False

    def __call__(self, piece: int) -> int:
        mark = self.folder / "done"
        if piece == self.at and (self.always or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return piece + 1


@dataclass
class Fails:
    """An error of its own at 3."""

    def __call__(self, piece: int) -> int:
        if piece == 3:
            raise ZeroDivisionError("three")
        return piece


@dataclass
class Logits:
    """A model's logits after some tokens."""

    of: Lent

    def __call__(self, piece: list[int]) -> list[float]:
        return self.of.model().run([piece]).logits[0, -1].tolist()
