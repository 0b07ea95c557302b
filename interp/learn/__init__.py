"""The course: its lessons, and its exercises, whose answers are checked by exact numbers."""

from interp.learn.check import check
from interp.learn.lessons import Lesson, lessons

__all__ = ["Lesson", "check", "lessons"]
