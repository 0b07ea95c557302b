"""The lessons of the course: texts in docs/course, each of which runs as a notebook.

Knows where they lie and what they are called; exercises.py knows what they ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from interp.learn.exercises import EXERCISES
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

COURSE = Path(__file__).parents[2] / "docs" / "course"


class CourseError(MiniGPTError):
    """A lesson or an exercise that is not there."""


@dataclass(frozen=True, eq=False, repr=False)
class Lesson(Shown):
    """A lesson: its number, what it is called, what it asks first, its exercises and its file."""

    number: int
    title: str
    about: str
    exercises: tuple[str, ...]
    file: Path


def lessons(folder: Path = COURSE) -> list[Lesson]:
    """All lessons, in order; CourseError where the course is not beside the package (it comes with
    the repository, not with a wheel)."""
    files = sorted(folder.glob("[0-9][0-9]_*.py"))
    if not files:
        raise CourseError(
            f"no lesson in {folder}",
            "a clone of the repository",
            "git clone, then pip install -e .",
        )
    return [_lesson(file) for file in files]


def lesson(number: int, folder: Path = COURSE) -> Lesson:
    """One of them."""
    every = {each.number: each for each in lessons(folder)}
    if number not in every:
        raise CourseError(f"lesson {number}", f"{min(every)} to {max(every)}", "interp learn")
    return every[number]


def _lesson(file: Path) -> Lesson:
    text, number = file.read_text("utf-8"), int(file.name[:2])
    title = re.search(r"^# # \d+ (.*)$", text, re.M)
    about = re.search(r"^# \*(.+?)\*$", text, re.M | re.S)
    return Lesson(
        number,
        title[1] if title else file.stem,
        re.sub(r"\n# ", " ", about[1]) if about else "",
        tuple(name for name in EXERCISES if name.startswith(f"{number}.")),
        file,
    )
