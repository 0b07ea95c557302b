"""Any result as JSON, as CSV, and as the Python lines that compute it again."""

from __future__ import annotations

from typing import Any

from interp.debugger.question import Question

RESULTS = ("summary", "nodes", "details", "attention", "totals", "upstream", "graph", "pathmap")


def as_json(result: Any) -> str:
    """A result record as JSON, every field by its name."""
    raise NotImplementedError


def as_csv(result: Any) -> str:
    """The rows of a result as CSV: a column a field, left, right and difference side by side."""
    raise NotImplementedError


def as_python(question: Question, result: str) -> str:
    """A script that prints the same JSON in a fresh process. result: one of RESULTS."""
    raise NotImplementedError
