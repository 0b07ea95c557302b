"""All commands, and what is said and returned where one fails."""

from __future__ import annotations

import errno
import io
import os
import sys

import typer
from rich.console import Console

from interp.cli.agents import mcp
from interp.cli.corpus import collate, component, explain
from interp.cli.debug import debug
from interp.cli.dictionaries import dictionaries
from interp.cli.edges import edges
from interp.cli.features import features
from interp.cli.learn import learn
from interp.cli.models import card, fetch, models
from interp.cli.numerics import audit
from interp.cli.patching import patch, paths
from interp.cli.provenance import tracked
from interp.cli.questions import generate, trace, why
from interp.cli.search import curve, search
from interp.cli.store import store
from interp.cli.studies import circuit, ioi
from interp.cli.verify import verify
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
    *(debug, learn, why, patch, paths, models, fetch, trace, generate, card),
    *(collate, component, explain, store, features, dictionaries, ioi, circuit),
    *(edges, search, curve, audit, verify, mcp),
):
    app.command()(tracked(command))


def run() -> None:
    """Run the command that was typed; an error of this project is a message and exit status 2,
    never a stack of calls."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows few characters
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MiniGPTError as error:
        _say(f"error: {error}")
        raise SystemExit(2) from None
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _say(f"error: the answer could not be written: {error.strerror}")
        os._exit(74)  # the interpreter would try to write it once more


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, style="red", markup=False, soft_wrap=True)
