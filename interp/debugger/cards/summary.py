"""What the model says, and by how much: the question in words, the metric, the next tokens, the
prompt's own tokens."""

from __future__ import annotations

from html import escape

from nicegui import ui

from interp.debugger import numbers, summary
from interp.debugger.both import Both
from interp.debugger.cards import tokens
from interp.debugger.cards.card import Card
from interp.debugger.session import Runs
from interp.debugger.summary import Next, Piece, Summary


class SummaryCard(Card):
    """On the left the question, its number and the prompt, on the right the next tokens."""

    name, title = "summary", "What the model says"
    hint = (
        "The metric is read at the last position: the mean logit of the answers less that of "
        "the others, unless said otherwise."
    )

    def compute(self, runs: Runs) -> Summary:
        """The summary."""
        return summary.summary(runs, k=6 if runs.right is None else 4)

    def draw(self, result: Summary) -> None:
        """Question, numbers, the prompt; beside them the next tokens."""
        with ui.element("div").classes("split"):
            with ui.element("div"):
                ui.label(result.question).classes("question").props("data-testid=question")
                ui.html(_metric(result)).props("data-testid=metric-value")
                for note in result.notes:
                    ui.label(note).classes("note")
                ui.html(strip(result.tokens, result.sides)).classes("strip").props(
                    "data-testid=tokens"
                )
            ui.html(_next(result)).props("data-testid=next-tokens")


def strip(pieces: tuple[Piece, ...], sides: tuple[str, ...]) -> str:
    """The prompt's tokens in a row; where two prompts differ, both, marked."""
    two = any(piece.differs for piece in pieces)
    return "".join(_piece(piece, sides[-1] if two else "") for piece in pieces)


def _piece(piece: Piece, other: str) -> str:
    """A position's token, and the other side's under it where there is another side."""
    place = f"position {piece.position}"
    right = tokens.chip(piece.right, title=f"{place}, {other}") if other else ""
    return (
        f"<span class='piece{' differs' if piece.differs else ''}'><small>{piece.position}</small>"
        f"{tokens.chip(piece.left, title=place)}{right}</span>"
    )


def _metric(result: Summary) -> str:
    sides = [
        (name, value)
        for name, value in zip((*result.sides, "difference"), _numbers(result.metric), strict=False)
        if value is not None
    ]
    if len(result.sides) == 1:
        sides = sides[:1]
    named = [(name if len(sides) > 1 else result.metric_name, value) for name, value in sides]
    cells = "".join(
        "<div><b "
        f"class='{numbers.sign(value)}'>{numbers.signed(value)}</b><span>{escape(name)}</span></div>"
        for name, value in named
    )
    return f"<div class=metrics title='{escape(result.metric_name)}'>{cells}</div>"


def _numbers(value: Both) -> tuple[float | None, ...]:
    return value.left, value.right, value.difference


def _next(result: Summary) -> str:
    heads = "".join(
        f"<th class=n title='{escape(hint)}'>{escape(title)}"
        for title, hint in _columns(result.sides)
    )
    rows = "".join(_row(row, len(result.sides) > 1) for row in result.next)
    return f"<table><thead><tr><th>next token<th>{heads}</thead><tbody>{rows}</tbody></table>"


def _columns(sides: tuple[str, ...]) -> list[tuple[str, str]]:
    if len(sides) == 1:
        return [
            ("probability", "Over the whole vocabulary."),
            ("logit", "Before the softmax."),
            ("rank", "How many tokens are more probable."),
        ]
    short = [side.removesuffix(" prompt") for side in sides]
    logits = [
        (f"logit {side}" if i == 0 else side, f"Before the softmax, {side}.")
        for i, side in enumerate(short)
    ]
    return [
        *((side, f"Probability, {side}.") for side in short),
        *logits,
        ("change", "Of the logit."),
    ]


def _row(row: Next, two: bool) -> str:
    p, x = row.probability, row.logit
    ones = [numbers.percent(p.left), numbers.plain(x.left), numbers.whole(row.rank.left)]
    both = [
        numbers.percent(p.left),
        numbers.percent(p.right),
        numbers.plain(x.left),
        numbers.plain(x.right),
        numbers.signed(x.difference),
    ]
    first, *others = both if two else ones
    bar = f"<i class=bar style='width:{100 * (p.left or 0):.1f}%'></i>"
    cells = "".join(f"<td class=n>{cell}" for cell in others)
    return (
        f"<tr class='{escape(row.role)}'><td>{tokens.chip(row.token)}<td "
        f"class=role>{escape(row.role)}<td class=n>{first}{bar}{cells}"
    )
