"""The command learn: the lessons of the course, and whether an answer is right."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from interp.cli.options import Json
from interp.cli.output import console, say
from interp.learn import Lesson, check, lessons, places
from interp.learn.exercises import MODEL
from interp.learn.lessons import lesson
from interp.learn.places import place
from interp.show import terminal
from interp.show.document import Table
from minigpt.errors import MiniGPTError

Number = Annotated[
    int | None, typer.Argument(help="the lesson to open as a notebook; none: list all")
]
Into = Annotated[Path, typer.Option("--into", help="the folder that its notebook is put into")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="open it in Jupyter")]
Debugger = Annotated[
    bool, typer.Option("--debugger", help="open the debugger instead, at the lesson's question")
]
Answers = Annotated[
    list[str] | None,
    typer.Option("--check", help="an exercise and its answer, '1.2=resid0'; likewise"),
]


def learn(
    number: Number = None,
    answers: Answers = None,
    into: Into = Path(),
    show: Open = True,
    debugger: Debugger = False,
    as_json: Json = False,
) -> None:
    """The course, from the residual stream to a circuit of one's own: list its lessons, open one,
    check answers."""
    if answers:
        _check(answers, as_json)
    elif debugger:
        _debug(None if number is None else lesson(number).number, show)
    elif number is None:
        found = lessons()
        data = [{**asdict(each), "file": str(each.file)} for each in found]
        say(data, terminal.table(_listed(found)), as_json)
    else:
        _open(lesson(number), into, show)


def _debug(number: int | None, show: bool) -> None:
    """The debugger at a lesson's question, or with nothing asked yet."""
    from interp.cli.debug import loaded, serve

    name, at = (MODEL, "/") if number is None else (places.model(number), place(number))
    serve(lambda: loaded([name], None, False, None, None), "127.0.0.1", 8080, show, at)


def _listed(found: list[Lesson]) -> Table:
    rows = [(str(each.number), each.title, each.about, " ".join(each.exercises)) for each in found]
    title = (
        "interp learn NUMBER opens one in Jupyter; interp learn --check 1.2=resid0 checks an answer"
    )
    return Table(title, (">", "lesson", "what it shows", "exercises"), rows)


def _check(answers: list[str], as_json: bool) -> None:
    """What is said of each; exit status 1 where one is not right."""
    typed = [text.partition("=") for text in answers]
    if wrong := [name for name, sign, _ in typed if not sign]:
        raise MiniGPTError(
            f"--check {wrong[0]}", "an exercise and its answer", "--check 1.2=resid0"
        )
    found = [check(name.strip(), answer.strip()) for name, _, answer in typed]
    said = "\n".join(map(repr, found))
    say([asdict(each) for each in found], said, as_json)
    if not all(each.right for each in found):
        raise typer.Exit(1)


def _open(chosen: Lesson, into: Path, show: bool) -> None:
    """A notebook of the lesson in a folder; one that is there is opened as it is, with all that
    was written into it."""
    notebook = into / f"{chosen.file.stem}.ipynb"
    if notebook.exists():
        console.print(f"{notebook} is there already: left as it is")
    else:
        _write(chosen.file, notebook)
        console.print(f"wrote {notebook}")
    jupyter = shutil.which("jupyter-lab") or shutil.which("jupyter-notebook")
    if show and jupyter:
        subprocess.run([jupyter, notebook], check=False)
    elif show:
        console.print(
            "Jupyter is not here: pip install jupyterlab, then jupyter lab " + str(notebook)
        )


def _write(text: Path, notebook: Path) -> None:
    try:
        import jupytext
    except ModuleNotFoundError as error:
        raise MiniGPTError(
            f"a notebook without {error.name}", "the extra that has it", "pip install '.[notebook]'"
        ) from error
    notebook.parent.mkdir(parents=True, exist_ok=True)
    lesson = jupytext.read(text)
    # What the tests assert of a lesson would tell its answers.
    lesson.cells = [each for each in lesson.cells if "claim" not in each.metadata.get("tags", ())]
    jupytext.write(lesson, notebook)
