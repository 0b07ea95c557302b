"""The changes by which the tests are tried: all kinds of them, nothing that is no change, and each
in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutations import changes

CHANGED = {  # a line, and what becomes of it
    "x = a < b": {"x = a <= b"},
    "x = a < b <= c": {"x = a <= b <= c", "x = a < b < c"},
    "x = a is not b": {"x = a is b"},
    "x = (a) not in (b)": {"x = (a) in (b)"},
    "x = not a": {"x = (a)"},
    "x = a and b": {"x = a or b", "x = a", "x = b"},
    "x = a + b": {"x = a - b"},
    "x = a | b & c": {"x = a & b & c", "x = a | b | c"},
    "x = a - b": {"x = a + b", "x = ((b) - (a))"},
    "x = (a * c) / b": {"x = ((b) / (a * c))"},
    "x = 1": {"x = 2"},
    "x = 2": {"x = 1", "x = 3"},
    "x = True": {"x = False"},
    "x = a if b else c": {"x = a if (not b) else c"},
    "x = [a for a in b if c]": {"x = [a for a in b if (not c)]"},
    "x.a = b": {"pass"},
    "x[a] = b": {"pass"},
    "f(a)": {"pass"},
    "x += a": {"pass", "x -= a"},
    "raise x": {"pass"},
    "if not a: return b": {"if (a): return b", "if not a: pass"},
    "ä = ü < ö": {"ä = ü <= ö"},
}


@pytest.mark.parametrize("line", CHANGED)
def test_a_line_becomes_each_line_that_a_test_should_tell_from_it(line):
    source = f"'''Nothing.'''\n\ndef f():\n    '''Nothing.'''\n    {line}\n"
    found = changes(source)
    assert {change.lines(source) for change in found} == {(line, new) for new in CHANGED[line]}
    assert {change.line(source) for change in found} == {5}


@pytest.mark.parametrize(
    "line",
    ["x = 'a < 1'", "x: int | None = a", "x = f'{1 + a}'", "x = a * b", "return a", "import a"],
)
def test_what_has_no_like_is_left_alone(line):
    assert changes(f"def f():\n    {line}\n") == []


def test_every_change_of_a_real_file_is_one_and_can_be_read():
    source = (Path(__file__).parents[1] / "minigpt" / "recompute" / "rows.py").read_text()
    found = changes(source)
    assert len(found) > 40
    for change in found:
        broken = change.put_into(source)
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(source))
        assert change.lines(source)[0] in " ".join(source.split())
        assert change.lines(source)[1] in " ".join(broken.split())
