"""A component's page as a document: its windows, how its numbers are spread, which tokens it reads
and promotes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from interp.corpus.component import Component, Example, top_tokens
from interp.corpus.moments import EDGES, LEAST
from interp.corpus.says import Says
from interp.show.document import (
    Document,
    Section,
    Span,
    Table,
    Text,
    Texts,
    Words,
    joined,
)

SHOWN = 8
BAR = 40
# Where an example can be asked about; "" where nowhere.
Link = Callable[[Component, Example], str]


def nowhere(_component: Component, _example: Example) -> str:
    """No link."""
    return ""


def component(
    shown: Component,
    says: Says | None = None,
    corpus: str = "",
    link: Link = nowhere,
    k: int = SHOWN,
) -> Document:
    """Its page. says: what its weights say of tokens; corpus: of which model, and what was read."""
    most = max(abs(shown.least), abs(shown.most)) or 1.0
    sections = [
        *_examples(shown, most, link, k),
        Section("How its numbers are spread", _spread(shown), [_histogram(shown)]),
        *_attends(shown),
        *([] if says is None else _says(says)),
    ]
    return Document(f"{shown.address}{f' of {corpus}' if corpus else ''}", sections, [_most(shown)])


def _most(shown: Component) -> Words:
    """Where it is largest, in a line."""
    found = [f"{token!r} {times} times" for token, times in top_tokens(shown)]
    return f"Largest at {', '.join(found)}." if found else "Nothing was kept of it."


def _examples(shown: Component, most: float, link: Link, k: int) -> Iterator[Section]:
    said = {
        "top": ("Where it is largest", "The windows with its largest numbers."),
        "bottom": ("Where it is smallest", "The windows with its smallest numbers."),
    }
    for kind, (heading, text) in said.items():
        if found := shown.of(kind)[:k]:
            yield Section(heading, text, [texts(shown, found, most, link)])
    firsts = [part[0] for part in shown.deciles]
    if firsts:
        text = "Of windows drawn at random, one from each tenth by its largest number there."
        yield Section("By tenths", text, [texts(shown, firsts, most, link)])


def texts(
    shown: Component, examples: Sequence[Example], most: float, link: Link = nowhere
) -> Texts:
    """Examples with what the component did as the colour of their tokens."""
    return Texts([_text(shown, example, most, link) for example in examples])


def _text(shown: Component, example: Example, most: float, link: Link) -> Text:
    first, last = max(0, example.first - 1), example.first + len(example.acts)
    unknown = [math.nan] * (example.first - first)
    shares = [*unknown, *(value / most for value in example.acts)]
    to = None if example.source is None else example.source - first
    at = example.at - first
    return Text(
        f"{example.value:.3f}", example.tokens[first:last], shares, at, to, link(shown, example)
    )


def _spread(shown: Component) -> str:
    return (
        f"{shown.count} tokens: mean {shown.mean:.4f}, standard deviation "
        f"{math.sqrt(shown.variance):.4f}, skewness {shown.skewness:.2f}, kurtosis "
        f"{shown.kurtosis:.2f}; {shown.positive:.1%} above zero; from {shown.least:.3f} to "
        f"{shown.most:.3f}."
    )


def _histogram(shown: Component) -> Table:
    """The bounds between which anything is, and how much."""
    bounds = [-math.inf, *EDGES, math.inf]
    largest = max(shown.counts)
    rows = [
        (
            _between(low, high),
            str(count),
            Span("\u2588" * math.ceil(BAR * count / largest), "for" if low >= 0 else "against"),
        )
        for (low, high), count in zip(pairwise(bounds), shown.counts, strict=True)
        if count
    ]
    return Table("", ("between", ">tokens", ""), rows)


def _between(low: float, high: float) -> str:
    if high == LEAST:
        return "0"
    return f"{_bound(low)} to {_bound(high)}"


def _bound(x: float) -> str:
    return "0" if abs(x) == LEAST else f"{x:g}"


def _attends(shown: Component) -> Iterator[Section]:
    if shown.attends:
        rows = [(name, f"{score:.3f}") for name, score in shown.attends.items()]
        text = "Mean attention to the token before, to the same token, to what came after it."
        yield Section("Where it looks", text, [Table("", ("", ">"), rows)])


def _says(says: Says) -> Iterator[Section]:
    """Tokens by its weights."""
    rows = [
        (name, joined([Span(token, "token") for token, _ in tokens]))
        for name, tokens in says.lists.items()
    ]
    yield Section("What its weights say of tokens", says.stated, [Table("", ("", ""), rows)])
