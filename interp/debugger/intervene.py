"""Operations on a run as lines of text, and lines as a Patch. Undo and redo are the list of lines."""

from __future__ import annotations

OPERATIONS = {
    "zero": "It writes nothing.",
    "mean": "It writes its mean over the reference prompts.",
    "scale": "It writes so many times what it wrote in the clean run.",
    "freeze": "It keeps writing what it wrote in the clean run, whatever else changes.",
    "other": "It writes what it wrote on the other prompt.",
}


def line(operation: str, target: str, factor: float | None = None) -> str:
    """The line of an operation on a node, stream point, pattern, port or edge, at a position or everywhere: "a2.6@13 = 0"."""
    raise NotImplementedError
