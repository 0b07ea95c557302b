"""The command `interp`: questions asked from a terminal. Every answer is also there as --json."""

from __future__ import annotations

import typer
from rich.console import Console

from interp.cli.debug import debug
from interp.cli.models import card, fetch, models
from interp.cli.numerics import audit
from interp.cli.patching import patch, paths
from interp.cli.questions import generate, trace, why
from interp.cli.studies import circuit, ioi
from minigpt import MiniGPTError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        'Why a GPT-2 says what it says. Start with: interp why "When Mary and John went to the '
        'store, John gave a drink to"'
    ),
)
# In the order in which --help lists them.
for command in (
    *(debug, why, patch, paths, models, fetch, trace, generate, card),
    *(ioi, circuit, audit),
):
    app.command()(command)


def main() -> None:
    """Run the command; an error of this project is a message and exit status 2, never a stack of
    calls."""
    try:
        app()
    except MiniGPTError as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", style="red", markup=False, soft_wrap=True
        )
        raise SystemExit(2) from None
