"""The course: every lesson runs and its claims hold; a right answer is right, a slip is told what
is off; the pages of the documentation that show Python show what runs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import weights
from interp.debugger import export
from interp.debugger.question import Question
from interp.debugger.session import Session
from interp.learn import check, lessons
from interp.learn.exercises import EXERCISES, direct, run
from interp.learn.lessons import COURSE, CourseError, lesson
from interp.learn.places import place
from minigpt.errors import MiniGPTError
from tests.interp.debugger.questions import MODEL
from tests.interp.test_cli import interp as interp

DOCS = COURSE.parent
SESSION = Session({"ioi-mini": MODEL, "tasks-mini": weights.load("tasks-mini")})
NUMBERS = [each.number for each in lessons()]
SLIPS = [(name, i) for name, each in EXERCISES.items() for i in range(len(each.slips))]


def cells(text: str) -> list[tuple[str, str]]:
    """The code of a lesson: tags and source of each cell."""
    parts = re.split(r"^# %%(.*)\n", text, flags=re.M)[1:]
    both = zip(parts[::2], parts[1::2], strict=True)
    return [(head, body) for head, body in both if "[markdown]" not in head]


def ran(text: str) -> dict:
    """The names of a lesson after all its cells, each of whose last line is shown."""
    names: dict = {}
    for head, body in cells(text):
        *lines, last = ast.parse(body).body
        shown = isinstance(last, ast.Expr)
        exec(compile(ast.Module(lines if shown else [*lines, last], []), "lesson", "exec"), names)
        if shown:
            value = eval(compile(ast.Expression(last.value), "lesson", "eval"), names)
            assert repr(value)
            if "solution" in head:
                assert value.right, value
    return names


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_runs_and_what_it_claims_holds(number, monkeypatch):
    monkeypatch.chdir(COURSE)
    text = lesson(number).file.read_text("utf-8")
    assert ran(text)
    assert 'tags=["remove-cell", "claim"]' in text
    for part in ("**Predict first.**", "## What you found", "figure"):
        assert part in text


@pytest.mark.parametrize(
    ("number", "claim", "broken"),
    [
        (1, "left < 1e-4", "left > 1e-4"),
        (3, "without_all > 8", "without_all < 8"),
        (5, 'paper["a0.6"] < -3', 'paper["a0.6"] > -3'),
        (8, "0 < lost < of_m3[first]", "lost > of_m3[first]"),
    ],
)
def test_twin_a_claim_that_is_broken_fails_its_lesson(number, claim, broken):
    text = lesson(number).file.read_text("utf-8")
    assert text.count(claim) == 1
    with pytest.raises(AssertionError):
        ran(text.replace(claim, broken))


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_is_right_and_stands_in_its_lesson(name):
    right = EXERCISES[name].right()
    assert check(name, right).right
    assert check(name, f"{right}" if not isinstance(right, set) else " ".join(right)).right
    text = lesson(int(name.partition(".")[0])).file.read_text("utf-8")
    assert f'check("{name}", ...)' in text
    assert f"**{name}**" in text


@pytest.mark.parametrize(("name", "i"), SLIPS)
def test_a_slip_is_told_what_is_off(name, i):
    said, wrong = EXERCISES[name].slips[i]
    found = check(name, wrong())
    assert not found.right
    assert found.said == said


def test_what_is_said_of_other_answers():
    assert check("1.1").said == check("1.1", ...).said == EXERCISES["1.1"].asks
    assert "asked for is a number" in check("1.1", "a2.6").said
    assert "asked for is an address" in check("2.2", 3.0).said
    for many in (run()["a2.6@-1"], run()["a2.6"], direct().heads().values):
        assert check("1.1", many).said == "several numbers; asked for is a number"
    assert check("2.1", -EXERCISES["2.1"].right()).said == "the size is right, the sign is not"
    assert check("2.1", 123.0).said == "not yet: too high"
    assert check("2.1", -123.0).said == "not yet: too low"
    assert "in percent" in check("6.1", 100 * EXERCISES["6.1"].right()).said
    assert check("3.2", round(EXERCISES["3.2"].right(), 1)).right
    assert not check("3.2", round(EXERCISES["3.2"].right())).right  # one digit
    assert check("2.2", "a2.6").said == "not yet: a2.6 has 2.13, place 2 of 32"
    assert check("2.2", "a9.9").said == f"not yet. {EXERCISES['2.2'].asks}"
    assert check("1.2", "resid0").said == f"not yet. {EXERCISES['1.2'].asks}"
    with pytest.raises(MiniGPTError, match=r"exercise '3\.9'"):
        check("3.9", 1)


def test_a_checked_answer_is_a_line_in_a_notebook():
    assert "✓ 1.2" in check("1.2", "resid3")._repr_html_()


def test_a_course_that_is_not_there_says_where_it_is(tmp_path):
    with pytest.raises(CourseError, match="a clone of the repository"):
        lessons(tmp_path)
    with pytest.raises(CourseError, match="1 to 11"):
        lesson(12)


def test_the_command_lists_opens_and_checks(interp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said, _ = interp("learn", "--json")
    assert status == 0
    assert [each["number"] for each in json.loads(said)] == NUMBERS == list(range(1, 12))
    status, said, _ = interp("learn", "3", "--no-open")
    assert status == 0
    notebook = tmp_path / "03_attention.ipynb"
    made = json.loads(notebook.read_text())
    solution = next(c for c in made["cells"] if "solution" in c["metadata"].get("tags", ()))
    assert solution["metadata"]["jupyter"] == {"source_hidden": True}
    assert not any("assert " in line for cell in made["cells"] for line in cell["source"])
    notebook.write_text("mine")
    status, said, _ = interp("learn", "3", "--no-open")
    assert "left as it is" in said
    assert notebook.read_text() == "mine"
    status, said, _ = interp("learn", "--check", "3.1=a2.3", "--check", "1.2=resid4")
    assert status == 1
    assert "✓ 3.1" in said
    assert "what layer 3 leaves behind" in said
    status, _, said = interp("learn", "--check", "3.1")
    assert (status, "1.2=resid0" in said) == (2, True)
    status, _, said = interp("learn", "99")
    assert (status, "1 to 11" in said) == (2, True)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_goes_on_in_the_debugger_at_its_own_question(number):
    at = place(number)
    if at.startswith("/?"):
        asked = Question.from_url(at.partition("?")[2])
        shown = export.result(SESSION.runs(asked), "summary")
        assert asked.prompt in shown.question
    else:
        assert at in ("/", "/component/a2.6?model=ioi-mini")


def test_the_command_serves_the_debugger_at_that_question(interp, monkeypatch):
    opened = []
    monkeypatch.setattr("interp.cli.debug.serve", lambda session, *at: opened.append(at[-1]))
    assert interp("learn", "3", "--debugger")[0] == 0
    assert interp("learn", "--debugger")[0] == 0
    assert opened == [place(3), "/"]
    assert interp("learn", "99", "--debugger")[0] == 2


@pytest.mark.parametrize("page", ["mistakes.md", "from_transformerlens.md"])
def test_the_python_of_a_page_runs(page):
    text = (DOCS / page).read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    exec(compile(code, page, "exec"), {})


def test_every_page_is_in_the_site():
    """Of the pages in docs each is in the table of some contents."""
    listed = set()
    for page in [*DOCS.rglob("index.md")]:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.S):
            names = [line for line in block.split("\n") if line and not line.startswith(":")]
            listed |= {(page.parent / name).resolve() for name in names}
    pages = {*DOCS.rglob("*.md"), *(Path(each.file) for each in lessons())}
    pages -= {DOCS / "index.md"}
    assert {page.with_suffix("") for page in pages} <= listed
