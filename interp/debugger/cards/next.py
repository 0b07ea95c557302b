"""What the model says next: the first tokens, each a click away from being the answer or the token
that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nicegui import ui

from interp.debugger import numbers, summary
from interp.debugger.cards import tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.view import View
from interp.debugger.continuation import continued
from interp.debugger.session import Runs
from interp.debugger.summary import Next
from minigpt.errors import MiniGPTError

PICKED = "e => { const t = e.target.closest('[data-pick]'); if (t) emit(t.dataset.pick) }"


class NextCard(Card):
    """A row a token; with two sides, both and the change of the logit."""

    name, title = "next", "What comes next"
    hint = "The first tokens of each side. Make one the answer (why), or the other (rather than)."

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.body:
            self.table = ui.html("").props("data-testid=next-tokens")
            widgets.button("Continue the text", self._continue, "continue", look="flat")
            self.text = ui.html("").props("data-testid=continuation")
        self.table.on("click", self._picked, js_handler=PICKED)

    def compute(self, runs: Runs) -> tuple[Next, ...]:
        """The rows."""
        return summary.following(runs, k=8 if runs.right is None else 6)

    def fill(self, result: tuple[Next, ...]) -> None:
        """Other rows; what was written before goes on another text."""
        self.text.set_content("")
        self.table.set_content(_table(result, [side.name for side in self.runs.sides]))

    async def _continue(self) -> None:
        """What each side writes next, the interventions in force."""
        try:
            found = await self.view.workers.run(lambda: continued(self.runs))
        except MiniGPTError as error:
            self.say(str(error))
            return
        self.say("")
        self.text.set_content("".join(_written(*side) for side in found.items()))

    async def _picked(self, event: object) -> None:
        """A token becomes the answer, or the one that it is compared with."""
        role, _, number = str(getattr(event, "args", "")).partition(" ")
        text, q = self.runs.tokenizer.naming(int(number)), self.view.question
        others = {"answers": "distractors", "distractors": "answers"}[role]
        kept = tuple(each for each in getattr(q, others) if each != text)
        changes = {role: (text,), others: kept}
        await self.propose(node="", trail=(), graph=(), **changes)


def _written(side: str, text: str) -> str:
    return f"<p class=small-title>{escape(side)}</p><p class=written>{escape(text)}</p>"


def _table(rows: tuple[Next, ...], sides: Sequence[str]) -> str:
    two, short = len(sides) > 1, [side.removesuffix(" prompt") for side in sides]
    titles = [*short, "logit ±"] if two else ["probability", "logit", "rank"]
    heads = "".join(f"<th class=n>{title}" for title in titles)
    body = "".join(_row(row, two) for row in rows)
    return f"<table><thead><tr><th>token{heads}<th></thead><tbody>{body}</tbody></table>"


def _row(row: Next, two: bool) -> str:
    p, x = row.probability, row.logit
    ones = [numbers.percent(p.left), numbers.plain(x.left), numbers.whole(row.rank.left)]
    both = [numbers.percent(p.left), numbers.percent(p.right), numbers.signed(x.difference)]
    first, *others = both if two else ones
    bar = f"<i class=bar style='width:{100 * (p.left or 0):.1f}%'></i>"
    cells = "".join(f"<td class=n>{cell}" for cell in others)
    return (
        f"<tr class='{escape(row.role)}'><td>{tokens.chip(row.token)}"
        f"<td class=n>{first}{bar}{cells}<td class=pick>{_picks(row)}"
    )


def _picks(row: Next) -> str:
    """The two buttons of a row; the one that is already chosen is marked."""
    return "".join(
        f"<button type=button data-pick='{field} {row.id}' "
        f"aria-pressed={'true' if row.role == role else 'false'} "
        f'title="{hint}" aria-label="{hint} {escape(tokens.visible(row.token))}">{words}</button>'
        for field, role, words, hint in (
            ("answers", "answer", "why", "Why"),
            ("distractors", "distractor", "than", "Rather than"),
        )
    )
