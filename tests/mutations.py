"""Small changes of a Python source, each of which a test of it should notice.

for change in changes(source): broken = change.put_into(source)

A change replaces one piece of text by another: a comparison flipped, a number off by one, a `not`
dropped or put in, operands swapped, `and` for `or`, `+` for `-`, one half of a condition kept, a
statement left out. Knows nothing of tests (mutants.py runs them).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

OTHER = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "is": "is not",
    "is not": "is",
    "in": "not in",
    "not in": "in",
    "and": "or",
    "or": "and",
    "+": "-",
    "-": "+",
    "&": "|",
    "|": "&",
}
# Longest first, so that "<=" is not read as "<".
OPERATOR = re.compile(r"is not|not in|[<>=!]=|\b(?:is|in|and|or)\b|[<>+&|-]")
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
# What has no value of its own, or whose places in an f-string Python 3.11 does not tell.
SILENT = (ast.JoinedStr, ast.arg, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Change:
    """`old`, which begins at a byte of a source, becomes `new`."""

    kind: str
    start: int
    old: str
    new: str

    def put_into(self, source: str) -> str:
        """The source after this change."""
        raw = source.encode()
        end = self.start + len(self.old.encode())
        return (raw[: self.start] + self.new.encode() + raw[end:]).decode()

    def lines(self, source: str) -> tuple[str, str]:
        """The line of the source (or the lines) that it changes, before and after, spaces
        joined."""
        raw, old, new = source.encode(), self.old.encode(), self.new.encode()
        first = raw.rfind(b"\n", 0, self.start) + 1
        last = raw.find(b"\n", self.start + len(old))
        head, tail = raw[first : self.start], raw[self.start + len(old) : last]
        before, after = ((head + middle + tail).decode() for middle in (old, new))
        return " ".join(before.split()), " ".join(after.split())

    def line(self, source: str) -> int:
        """The number of the line at which it begins, from 1 on."""
        return source.encode()[: self.start].count(b"\n") + 1


def changes(source: str) -> list[Change]:
    """All of them, in the order of the source; each still parses."""
    found = {change: None for change in _Finder(source).all()}
    return sorted(filter(lambda change: _parses(change.put_into(source)), found), key=_place)


def _place(change: Change) -> tuple[int, str, str]:
    return change.start, change.kind, change.new


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, source: str) -> None:
        self.raw = source.encode()
        self.tree = ast.parse(source)

    def all(self) -> Iterator[Change]:
        for node in self._nodes(self.tree):
            yield from self._of(node)
            if isinstance(node, ast.stmt):
                yield from self._left_out(node)

    def _nodes(self, node: ast.AST) -> Iterator[ast.AST]:
        """Every node but those of annotations, f-strings and imports."""
        if isinstance(node, SILENT):
            return
        yield node
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        yield from self._nodes(child)

    def _of(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, ast.Compare):
            yield from self._operators("comparison", [node.left, *node.comparators])
        elif isinstance(node, ast.BoolOp):
            yield from self._operators("and/or", node.values)
            yield self._replaced("one half", node, self._text(node.values[0]))
            yield self._replaced("one half", node, self._text(node.values[-1]))
        elif isinstance(node, ast.BinOp):
            yield from self._product(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._replaced("not", node, f"({self._text(node.operand)})")
        elif isinstance(node, ast.If | ast.IfExp | ast.comprehension):
            yield from self._conditions(node)
        elif isinstance(node, ast.Constant):
            yield from self._number(node)

    def _operators(self, kind: str, operands: list[ast.expr]) -> Iterator[Change]:
        """The operator between each two neighbours, turned into its other."""
        for a, b in pairwise(operands):
            start, end = self._end(a), self._start(b)
            between = self.raw[start:end].decode()
            if operator := OPERATOR.search(between):
                old = operator[0]
                yield Change(
                    kind, start + len(between[: operator.start()].encode()), old, OTHER[old]
                )

    def _product(self, node: ast.BinOp) -> Iterator[Change]:
        if isinstance(node.op, ast.Add | ast.Sub | ast.BitAnd | ast.BitOr):
            yield from self._operators("operator", [node.left, node.right])
        if isinstance(node.op, ORDERED):
            middle = (
                self.raw[self._end(node.left) : self._start(node.right)].decode().strip(" ()\n")
            )
            swapped = f"(({self._text(node.right)}) {middle} ({self._text(node.left)}))"
            yield self._replaced("operands", node, swapped)

    def _conditions(self, node: ast.If | ast.IfExp | ast.comprehension) -> Iterator[Change]:
        """A condition that no other change turns round, turned round."""
        tests = node.ifs if isinstance(node, ast.comprehension) else [node.test]
        for test in tests:
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.NamedExpr) and not (
                isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
            ):
                yield self._replaced("not", test, f"(not {self._text(test)})")

    def _number(self, node: ast.Constant) -> Iterator[Change]:
        if isinstance(node.value, bool):
            yield self._replaced("constant", node, str(not node.value))
        elif isinstance(node.value, int):
            yield self._replaced("constant", node, str(node.value + 1))
            if node.value > 1:
                yield self._replaced("constant", node, str(node.value - 1))

    def _left_out(self, node: ast.stmt) -> Iterator[Change]:
        """What changes something elsewhere, or leaves early, not done."""
        aside = isinstance(node, ast.Assign) and not isinstance(
            node.targets[0], ast.Name | ast.Tuple
        )
        called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield)
        if aside or called or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue):
            yield self._replaced("left out", node, "pass")
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.Return) and not node.orelse:
            yield self._replaced("left out", node.body[0], "pass")
        if isinstance(node, ast.AugAssign):
            start = self._end(node.target)
            if operator := re.search(r"[+&|-](?==)", self.raw[start : self._end(node)].decode()):
                old = operator[0]
                yield Change("operator", start + operator.start(), old, OTHER[old])

    def _replaced(self, kind: str, node: ast.AST, new: str) -> Change:
        return Change(kind, self._start(node), self._text(node), new)

    def _text(self, node: ast.AST) -> str:
        return self.raw[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.AST) -> int:
        return self._lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def _end(self, node: ast.AST) -> int:
        return self._lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    @cached_property
    def _lines(self) -> list[int]:
        """At which byte each line begins."""
        return [0, *(place.end() for place in re.finditer(b"\n", self.raw))]
