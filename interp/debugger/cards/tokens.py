"""Tokens as a person types and reads them: Mary, John stand for " Mary" and " John"; in quotes a
token is exactly what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape

from interp.debugger.question import QuestionError

_ITEM = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^",]+)\s*(?:,|$)')


def read(text: str) -> tuple[str, ...]:
    """The tokens of a list with commas: a bare word is meant as inside a sentence, with its space;
    "quoted", as it stands."""
    found, start = [], 0
    while start < len(text.rstrip()):
        item = _ITEM.match(text, start)
        if item is None:
            raise QuestionError(
                f"tokens {text!r}",
                "words with commas between them, or tokens in double quotes",
                'Mary, " John"',
            )
        found.append(_token(item[1].strip()))
        start = item.end()
    return tuple(token for token in found if token)


def write(tokens: Iterable[str]) -> str:
    """The inverse: read(write(tokens)) == tokens."""
    return ", ".join(
        token[1:] if _plain(token) else json.dumps(token, ensure_ascii=False) for token in tokens
    )


def visible(token: str) -> str:
    """A token with its white space made visible."""
    return token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") or "∅"


def chip(token: str, *, classes: str = "", title: str = "", position: int | None = None) -> str:
    """HTML of one token; all that comes from a prompt is escaped."""
    where = "" if position is None else f" data-position={position}"
    return (
        f"<span class='token {classes}' "
        f'title="{escape(title)}"{where}>{escape(visible(token))}</span>'
    )


def _token(item: str) -> str:
    if not item.startswith('"'):
        return f" {item}" if item else ""
    try:
        return str(json.loads(item))
    except json.JSONDecodeError:
        raise QuestionError(
            f"the token {item}", r"what stands in quotes may hold \" \\ \n", r'"\n"'
        ) from None


def _plain(token: str) -> bool:
    word = token[1:]
    return token[:1] == " " and bool(word) and word == word.strip() and not re.search(r'[",]', word)
