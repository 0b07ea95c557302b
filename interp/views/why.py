"""The answer to `interp why` as a document."""

from __future__ import annotations

from collections.abc import Sequence

from interp import figures
from interp.attribution import Closure
from interp.show.document import (
    Attention,
    Block,
    Document,
    HeatMap,
    Paragraph,
    Picture,
    Prompt,
    Section,
    Span,
    Style,
    Table,
    Words,
    joined,
)
from interp.why import Push, Token, Why

BAR = 24


def why(answer: Why) -> Document:
    """The prompt, the prediction, who pushes for each side, and whether it adds up."""
    notes = (Span(f"note: {note}", "warn") for note in answer.notes)
    difference = f"logit difference {answer.difference:+.4f}"
    return Document(
        f"Why does {answer.model} say {answer.answer!r} rather than {answer.over!r}?",
        [*_prediction(answer), *_pushing(answer), *_overview(answer), _sum(answer)],
        [Span(difference, "strong"), *notes],
        good=None if answer.closure.holds else False,
    )


def closure(c: Closure, count: int) -> Words:
    """The line that says whether the effects sum to the metric."""
    return [
        f"sum of {count} direct effects {c.total:+.6f} = logit difference {c.metric:+.6f}: ",
        Span("holds", "good") if c.holds else Span("DOES NOT HOLD", "bad"),
        f" (gap {c.gap:.1e}, rounding bound {c.bound:.1e})",
    ]


def _prediction(answer: Why) -> list[Section]:
    asked = f"{len(answer.tokens)} tokens; the model is asked for the next one."
    return [
        Section("The prompt", asked, [Prompt(answer.tokens)]),
        Section("What the model says next", "", [_tokens(answer.top)]),
    ]


def _pushing(answer: Why) -> list[Section]:
    adds = "Direct effects: what each node's write adds to the logit difference."
    toward = _pushes(answer.toward_answer, "for"), _pushes(answer.toward_other, "against")
    return [
        Section(f"What pushes for {answer.answer!r}", adds, [toward[0]]),
        Section(f"What pushes for {answer.over!r}", "The same, against the answer.", [toward[1]]),
    ]


def _overview(answer: Why) -> list[Section]:
    stopped = "The metric as it would be if the model stopped there."
    heads = HeatMap("direct effect of each head", answer.effects.grid())
    largest: list[Block] = [Picture(answer.effects.top(20).figure())]
    looks = Attention(answer.tokens, answer.attention)
    lens = Picture(figures.lens(dict(answer.lens), answer.lens.metric))
    return [
        Section("Every head", "Layers from top to bottom, heads from left to right.", [heads]),
        Section("Every node", "The largest of all nodes; an MLP counts as one.", largest),
        Section("Where the top heads look", "Attention from the last position.", [looks]),
        Section("When the answer takes shape", stopped, [lens]),
    ]


def _sum(answer: Why) -> Section:
    said = closure(answer.closure, len(answer.effects))
    text = "Every bias is a node, so nothing is left over but rounding."
    return Section("Does it add up?", text, [Paragraph(said)])


def _tokens(top: Sequence[Token]) -> Table:
    rows = [
        (
            Span(t.text, "token"),
            f"{t.probability:.1%}",
            f"{t.logit:.3f}",
            Span("\u2588" * round(BAR * t.probability), "for"),
        )
        for t in top
    ]
    return Table("", ("token", ">probability", ">logit", ""), rows)


def _pushes(pushes: Sequence[Push], side: Style) -> Table:
    columns = ("node", ">effect", "looked at", "promotes", "suppresses")
    rows = [
        (
            Span(p.address, "code"),
            Span(f"{p.effect:+.3f}", side),
            _looked(p.looked) if p.looked else Span("no attention", "soft"),
            _said(p.promotes),
            _said(p.suppresses),
        )
        for p in pushes
    ]
    return Table("", columns, rows, narrow=4)


def _looked(tokens: Sequence[Token]) -> Words:
    parts = [(Span(t.text, "token"), f" {t.probability:.2f}, ") for t in tokens]
    pieces = [piece for part in parts for piece in part]
    return [*pieces[:-1], parts[-1][1].removesuffix(", ")]


def _said(tokens: Sequence[str]) -> Words:
    return joined([Span(token, "token") for token in tokens])
