"""Prompts in pairs, and where they come from: each task is a module whose `prompts` makes up as
many as wanted from a seed."""

from interp.tasks import (
    agreement,
    brackets,
    capitals,
    greater_than,
    induction,
    ioi,
    pronouns,
)
from interp.tasks.prompts import Prompts

__all__ = [
    "Prompts",
    "agreement",
    "brackets",
    "capitals",
    "greater_than",
    "induction",
    "ioi",
    "pronouns",
]
