"""The strip that stays in sight: the answer as a number and a sentence, and the prompt's tokens,
with what is selected, where the selected head looks, and what differs on the other side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from nicegui import ui

from interp import latents
from interp.debugger import numbers, summary
from interp.debugger.cards import tokens, widgets
from interp.debugger.cards.card import COMMON, Card
from interp.debugger.cards.view import View
from interp.debugger.place import Place, kind
from interp.debugger.question import Question
from interp.debugger.session import Runs
from interp.debugger.summary import Piece, Summary
from minigpt.errors import MiniGPTError

# Tokens of a prompt that is shown whole; a longer one is a row that scrolls.
ROW = 48
# What a click on a token gives: its position.
PICKED = "e => { const t = e.target.closest('[data-position]'); if (t) emit(t.dataset.position) }"


@dataclass(frozen=True)
class Marks:
    """What is marked in the prompt: the selected position, the key of a pair, and how much the
    selected head looks at each position, or how much the selected latent is on there, as a share of
    the most."""

    at: int | None = None
    key: int | None = None
    looks: tuple[float, ...] = ()
    lit: bool = False


class StripCard(Card):
    """Two rows: number and sentence, tokens. Notes and the question in words are behind details."""

    name, title = "summary", "The answer"
    hint = (
        "The metric is read at the last position: the mean logit of the answers less that of "
        "the others, unless said otherwise."
    )
    depends = ("node",)

    def __init__(self, view: View) -> None:
        self.known: tuple[tuple[object, ...], Summary] | None = None
        super().__init__(view)
        with self.body:
            with ui.element("div").classes("says"):
                self.metric = ui.html("").props("data-testid=metric-value")
                self.verdict = ui.label().classes("verdict").props("data-testid=verdict")
            with ui.element("div").classes("prompt-row"):
                self.tokens = (
                    ui.html("")
                    .classes("strip")
                    .props(
                        "data-testid=tokens role=list aria-label='The prompt, a token a position'"
                    )
                )
                self.menu = ui.element("div").classes("acts").props("data-testid=token-acts")
            with ui.element("details").classes("notes") as self.details:
                with ui.element("summary").props("data-testid=details-toggle"):
                    self.count = ui.label("details")
                self.question = ui.label().classes("question small").props("data-testid=question")
                self.notes = ui.element("div")
        self.tokens.on("click", self._picked, js_handler=PICKED)

    def compute(self, runs: Runs) -> tuple[Summary, Marks]:
        """The summary, made once for each question, and what is marked in it now."""
        key = tuple(getattr(runs.question, name) for name in COMMON)
        if self.known is None or self.known[0] != key:
            self.known = key, summary.summary(runs, k=1)
        return self.known[1], _marks(runs)

    def fill(self, result: tuple[Summary, Marks]) -> None:
        """Other words in the same places."""
        found, marks = result
        self.metric.set_content(_metric(found, self.view.helps))
        self.verdict.set_text(found.verdict)
        self.question.set_text(found.question)
        self.tokens.set_content(strip(found.tokens, found.sides, marks))
        is_long = len(found.tokens) > ROW
        self.tokens.classes(add="long" if is_long else "", remove="" if is_long else "long")
        ui.run_javascript("debuggerPage.reach()")
        self.menu.clear()
        notes = len(found.notes)
        self.count.set_text(f"details, {notes} note{'s' * (notes > 1)}" if notes else "details")
        self.notes.clear()
        with self.notes:
            for note in found.notes:
                widgets.note(note)

    def exported(self) -> Summary:
        """The summary with its next tokens."""
        return summary.summary(self.runs)

    async def _picked(self, event: object) -> None:
        """What can be asked about a token that was clicked."""
        at = int(getattr(event, "args", 0))
        self.menu.clear()
        with self.menu:
            widgets.button(f"rows @{at}", lambda: self._rows(at), "token-rows")
            widgets.button("lens", lambda: self._lens(at), "token-lens")
            widgets.button("ask what follows it", lambda: self._cut(at), "token-ask")

    async def _rows(self, at: int) -> None:
        await self.propose(find=f"@{at}", tab="nodes", sort="norm")

    async def _lens(self, at: int) -> None:
        await self.propose(node=f"emb@{at}", tab="lens")

    async def _cut(self, at: int) -> None:
        """The prompt up to there: why does the model say what it says after that token?"""
        ids = self.runs.left.base.tokens[0, : at + 1].tolist()
        blank = Question(model=self.view.question.model, prompt=self.runs.tokenizer.decode(ids))
        await self.view.ask(blank)


def strip(pieces: Sequence[Piece], sides: tuple[str, ...], marks: Marks = Marks()) -> str:
    """The prompt's tokens in a row; where two prompts differ, both, marked."""
    two = any(piece.differs for piece in pieces)
    last = max((piece.position or 0 for piece in pieces), default=0)
    return "".join(_piece(piece, sides[-1] if two else "", marks, last) for piece in pieces)


def _piece(piece: Piece, other: str, marks: Marks, last: int) -> str:
    """A position's token, and the other side's under it where there is another side."""
    at = piece.position
    place = f"position {at}" if at is not None else f"only in {other}"
    classes = {
        "differs": piece.differs,
        "answer-position": at == last,
        "selected": at is not None and at == marks.at,
        "looked": at is not None and at == marks.key,
    }
    look = marks.looks[at] if at is not None and at < len(marks.looks) else 0.0
    word = "on by" if marks.lit else "looked at"
    said = f", {word} {look:.2f}" if marks.looks else ""
    left = tokens.chip(piece.left, title=place + said) if piece.left else "<span></span>"
    right = tokens.chip(piece.right, title=f"{place}, {other}") if other and piece.right else ""
    return (
        f"<span role=listitem class='piece {' '.join(name for name, on in classes.items() if on)}' "
        f"style='--look: {look:.3f}'{'' if at is None else f' data-position={at} tabindex=0'}>"
        f"<small>{'' if at is None else at}</small>{left}{right}</span>"
    )


def _marks(runs: Runs) -> Marks:
    """What the selected node marks; nothing where it is none of this prompt."""
    try:
        place = Place.parse(runs.question.node, runs.left.trace) if runs.question.node else None
    except MiniGPTError:
        return Marks()
    if place is None:
        return Marks()
    if kind(place.site) == "latent":
        on = latents.activations(runs.left.trace, str(place.site))
        shares = on / on.max().clamp(min=torch.finfo(on.dtype).tiny)
        return Marks(place.at, None, tuple(shares.tolist()), lit=True)
    if place.site.kind != "attn" or place.site.part is None:
        return Marks(place.at)
    row = runs.left.trace[f"{place.site}.pattern@{place.at}"][0]
    return Marks(place.at, place.key, tuple(row[: place.at + 1].tolist()))


def _metric(result: Summary, helps: int) -> str:
    """Before -> after, and the difference; of one side its name."""
    value = result.metric
    if value.right is None:
        cells = [(numbers.signed(value.left), value.left, result.metric_name)]
    else:
        cells = [
            (numbers.signed(value.left), value.left, result.sides[0]),
            (f"→ {numbers.signed(value.right)}", value.right, result.sides[1]),
            (numbers.signed(value.difference), value.difference, "difference"),
        ]
    shown = "".join(
        f"<div><b class='{numbers.sign(helps * (number or 0.0))}'>{text}</b>"
        f"<span>{escape(name)}</span></div>"
        for text, number, name in cells
    )
    return f"<div class=metrics title='{escape(result.metric_name)}'>{shown}</div>"
