"""Prompts in pairs, and where they come from: each task is a module whose `prompts` makes up as
many as wanted from a seed."""

from interp.tasks import greater_than, induction, ioi
from interp.tasks.prompts import Prompts

__all__ = ["Prompts", "greater_than", "induction", "ioi"]
