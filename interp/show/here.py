"""A document where it is asked for: below the cell of a notebook, else in the terminal."""

from __future__ import annotations

import sys

from rich.console import Console

from interp.show.document import Document


def show(shown: Document) -> None:
    """Draw a document here, as a page has it or as a command prints it.

    show(views.effects(effects))
    """
    # Loads plotly, which nobody needs who shows nothing.
    from interp.figures.figure import kernel, library
    from interp.show import page, terminal

    if kernel() is None:
        Console(highlight=False).print(terminal.document(shown))
        return
    display = sys.modules["IPython"].display
    display.display(display.HTML(library() + page.fragment(shown)))
