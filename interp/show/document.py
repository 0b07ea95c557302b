"""A document: what is to be read and seen, before how. A terminal and a page both draw it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

# What a piece of text is, not what it looks like. A token is shown so that its space is seen.
Style = Literal["", "strong", "soft", "good", "bad", "warn", "for", "against", "code", "token"]


class Span(NamedTuple):
    """A piece of text and what it is; a page shows the hint under the pointer, and leads to the
    link."""

    text: str
    style: Style = ""
    hint: str = ""
    link: str = ""


# A sentence or a cell: plain text, a piece, or several pieces side by side.
Words = str | Span | Sequence[str | Span]


@dataclass(frozen=True)
class Paragraph:
    """A line of its own."""

    words: Words


@dataclass(frozen=True)
class Prompt:
    """A prompt cut into its tokens."""

    tokens: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows under named columns. Columns that begin with '>' are set to the right; a terminal shows
    the first `narrow` of them, where that is given."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Words]]
    narrow: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[plain(cell) for cell in row] for row in self.rows],
        }


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A number for each head, layers x heads, or for what rows and columns are named for: blue
    above zero, red below it; NaN is empty. Of costs every number is red, and has no sign."""

    title: str
    values: Float[Tensor, "layer head"]
    digits: int = 2
    costs: bool = False
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Attention:
    """Where heads look from one position: a row of weights over the prompt's tokens for each."""

    tokens: Sequence[str]
    weights: Mapping[str, Sequence[float]]


class Text(NamedTuple):
    """A text whose tokens are coloured: by shares of the strongest, from -1 to 1, NaN where nothing
    is known. at: the token that is meant; to: another that it is about; link: where the text can
    be looked at more closely."""

    label: str
    tokens: Sequence[str]
    shares: Sequence[float]
    at: int
    to: int | None = None
    link: str = ""


@dataclass(frozen=True)
class Texts:
    """Texts below one another: blue above zero, red below it."""

    rows: Sequence[Text]


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure that only a page can show, and what a terminal shows in its place, if anything."""

    figure: Any  # of plotly, which only a page needs
    instead: HeatMap | None = None


Block = Paragraph | Prompt | Table | HeatMap | Attention | Texts | Picture


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two that say what is to be seen, and the blocks under them."""

    heading: str
    text: str = ""
    blocks: Sequence[Block] = ()
    aside: str = ""


@dataclass(frozen=True)
class Document:
    """A title, what it comes to, on what it rests, and the sections. good: whether the verdict is
    a good one, where there is such a thing."""

    title: str
    sections: Sequence[Section]
    verdict: Sequence[Words] = ()
    about: str = ""
    good: bool | None = None


def spans(words: Words) -> Iterator[Span]:
    """The pieces of a sentence or a cell."""
    if isinstance(words, str):
        yield Span(words)
    elif isinstance(words, Span):
        yield words
    else:
        for piece in words:
            yield Span(piece) if isinstance(piece, str) else piece


def plain(words: Words) -> str:
    """The text alone.

    >>> plain(['one ', Span('two', 'bad')])
    'one two'
    """
    return "".join(span.text for span in spans(words))


def joined(pieces: Sequence[str | Span], between: str = " ") -> list[str | Span]:
    """Pieces with something between them."""
    return [part for piece in pieces for part in (between, piece)][1:]
