"""The question in words, the metric on each side, and what the model says next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from interp.debugger.both import Both, both
from interp.debugger.session import SHUFFLES, Runs, Side
from interp.debugger.verdict import verdict
from interp.why import spacing
from minigpt.shown import Shown


@dataclass(frozen=True, repr=False)
class Next(Shown):
    """A row of the next-token table, read off all logits of each side. role, role_right: "answer",
    "distractor" or "" there; rank: 1 for what is put first."""

    token: str
    id: int
    role: str
    role_right: str
    logit: Both
    probability: Both
    rank: Both


@dataclass(frozen=True, repr=False)
class Piece(Shown):
    """A position: the token on the left and on the right ("" where that side has none there), and
    whether they differ. position: the left side's; None where only the right has a token."""

    position: int | None
    left: str
    right: str
    differs: bool


@dataclass(frozen=True, repr=False)
class Receipt(Shown):
    """What the interventions did: see minigpt.recompute.rows.Receipt. words: the same as one line;
    effective: whether anything changed."""

    written: int
    changed: int
    recomputed: int
    flops: int
    full_flops: int
    words: str
    effective: bool


@dataclass(frozen=True, repr=False)
class Summary(Shown):
    """What stands on top of the page. verdict: the answer in a sentence; sides: the names of left
    and right; notes: what was assumed, and what to mind."""

    question: str
    verdict: str
    model: str
    url: str
    sides: tuple[str, ...]
    metric_name: str
    metric: Both
    answers: tuple[str, ...]
    distractors: tuple[str, ...]
    next: tuple[Next, ...]
    tokens: tuple[Piece, ...]
    patch: tuple[str, ...]
    receipt: Receipt | None
    notes: tuple[str, ...]


def summary(runs: Runs, k: int = 10) -> Summary:
    """The summary; the next-token table has the answers, the distractors, and the k most probable
    tokens of each side."""
    q, text, sides = runs.question, runs.tokenizer.text, runs.sides
    metric = both(*(float(side.metric(side.trace)) for side in sides))
    return Summary(
        question=words(runs),
        verdict=verdict(runs),
        model=runs.model.name,
        url=q.to_url(),
        sides=tuple(side.name for side in sides),
        metric_name=runs.left.metric.name,
        metric=metric,
        answers=tuple(map(text, runs.answers)),
        distractors=tuple(map(text, runs.distractors)),
        next=following(runs, k),
        tokens=_pieces(runs),
        patch=q.patches,
        receipt=receipt(runs),
        notes=tuple(_notes(runs)),
    )


def words(runs: Runs) -> str:
    """The question as a person would ask it."""
    answers, distractors = (
        " or ".join(repr(runs.tokenizer.text(i)) for i in ids)
        for ids in (runs.answers, runs.distractors)
    )
    asked = f"Why {answers} rather than {distractors}" if distractors else f"Why {answers}"
    given = (
        f", had these {len(runs.question.patches)} interventions been made"
        if len(runs.question.patches) > 1
        else ", had this intervention been made"
    )
    prompt = runs.tokenizer.decode(runs.left.base.tokens[0].tolist())
    return f"{asked} after {prompt!r}{given if runs.question.patches else ''}?"


def following(runs: Runs, k: int) -> tuple[Next, ...]:
    """The answers, the distractors and the k most probable tokens of every side, their numbers from
    that side's whole logits."""
    logits = [side.trace.logits_at(-1)[0].double() for side in runs.sides]
    chances, roles = [x.softmax(-1) for x in logits], [_roles(side) for side in runs.sides]
    best = (i for x in logits for i in x.topk(min(k, len(x))).indices.tolist())
    return tuple(
        Next(
            runs.tokenizer.text(i),
            i,
            roles[0].get(i, ""),
            roles[-1].get(i, ""),
            both(*(float(x[i]) for x in logits)),
            both(*(float(x[i]) for x in chances)),
            both(*(float((x > x[i]).sum() + 1) for x in logits)),
        )
        for i in dict.fromkeys(chain(*roles, best))
    )


def _roles(side: Side) -> dict[int, str]:
    return {
        i: role
        for role, ids in (("answer", side.answers), ("distractor", side.distractors))
        for i in ids
    }


def _pieces(runs: Runs) -> tuple[Piece, ...]:
    """The left side's positions, each with its twin's token, and between them what the right side
    alone has; where a twin is missing or another token, they differ."""
    right, shown, pieces = runs.right.tokens if runs.right else (), 0, []
    for i, token in enumerate(runs.left.tokens):
        twin = runs.twins[i] if right else None
        if twin is not None:
            pieces += [Piece(None, "", lone, True) for lone in right[shown:twin]]
            shown = twin + 1
        there = right[twin] if twin is not None else ""
        pieces.append(Piece(i, token, there, bool(right) and token != there))
    return tuple(pieces)


def receipt(runs: Runs) -> Receipt | None:
    """What the interventions did; None where there are none."""
    bill = runs.after.trace.receipt if runs.after else None
    if bill is None:
        return None
    spent = (bill.written, bill.changed, bill.recomputed, bill.flops, bill.full_flops)
    return Receipt(*spent, str(bill), bill.changed > 0)


def _notes(runs: Runs) -> Iterator[str]:
    """What was assumed, and what to mind."""
    q = runs.question
    yield from _about_tokens(runs)
    if q.prompt.endswith(" "):
        yield "The prompt ends with a space; GPT-2's words begin with theirs."
    spaced = (spacing(runs.tokenizer, text) for text in (*q.answers, *q.distractors))
    yield from filter(None, spaced)
    if runs.after and runs.after.trace.receipt and not runs.after.trace.receipt.changed:
        yield "The interventions changed nothing: the run already had these values."
    if any("mean(reference)" in text for text in (*q.patches, q.instead)) and not q.reference:
        means = f"means are over {SHUFFLES} shuffles of the prompt's own tokens"
        yield f"No reference prompts were given: {means}."
    if runs.other and len(runs.other.tokens) != len(runs.left.tokens):
        lengths = f"{len(runs.left.tokens)} and {len(runs.other.tokens)} tokens"
        yield f"The prompts have {lengths}: aligned by the tokens they begin and end with."


def _about_tokens(runs: Runs) -> Iterator[str]:
    """What was assumed of answers and other tokens."""
    q = runs.question
    if not q.answers:
        answer = runs.tokenizer.text(runs.answers[0])
        yield f"No answer was given: it is the model's top token, {answer!r}."
    if q.metric == "logits" and not q.distractors:
        yield "No other token was given: the metric is the answer's logit (the mean of several)."
    if q.metric != "logits" and runs.distractors:
        of = f"The {runs.left.metric.name} is of the answers alone"
        yield f"{of}; the other tokens are shown, not used."
