"""What each point of the stream would say, by layer and position: the first token in a cell, more
on hover, and the metric as it grows from layer to layer."""

from __future__ import annotations

from html import escape

from nicegui import ui

from interp.debugger import lens, numbers
from interp.debugger.cards import tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.view import View
from interp.debugger.lens import LensTable, Point, Row, Said
from interp.debugger.session import Runs

PICKED = "e => { const t = e.target.closest('[data-position]'); if (t) emit(t.dataset.position) }"


class LensCard(Card):
    """The last layer on top, as a model is drawn."""

    name, title, tab = "lens", "Logit lens", "lens"
    hint = (
        "What the model would say if it stopped at that point of the stream, read through the "
        "final LayerNorm and the unembedding. The metric is read at the last position. Click a "
        "position to look around it."
    )
    depends = ("node",)

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.body:
            self.verdict = widgets.sentence("lens-verdict")
            self.table = ui.html("").classes("lens").props("data-testid=lens-table")
        self.table.on("click", self._picked, js_handler=PICKED)

    def compute(self, runs: Runs) -> LensTable:
        """The lens around the selected position."""
        return lens.lens_table(runs)

    def fill(self, result: LensTable) -> None:
        """A table for each side."""
        sides = [("left", result.sides[0]), ("right", result.sides[-1])][: len(result.sides)]
        self.table.set_content("".join(_side(result, *side, self.view.helps) for side in sides))
        self.verdict.set_text(verdict(result))
        at = _selected(self.view.question.node, result.positions)
        ui.run_javascript(f"debuggerPage.look({at})")

    async def _picked(self, event: object) -> None:
        await self.propose(node=f"emb@{int(getattr(event, 'args', 0))}")


def verdict(result: LensTable) -> str:
    """From which point on what stands first at the last position shown is what is said there."""
    said = [point.left[-1][0].token for point in result.points]
    steady = next(i for i in range(len(said)) if set(said[i:]) == {said[-1]})
    first = result.points[steady].address
    return f"After {result.tokens[-1]!r}, {said[-1]!r} stands first from {first} on."


def _selected(node: str, positions: tuple[int, ...]) -> int:
    """The position that is looked at: the selected node's, or the last."""
    at = node.partition("@")[2].partition("<")[0]
    return int(at) if at.isdigit() and int(at) in positions else positions[-1]


def _side(result: LensTable, side: str, name: str, helps: int) -> str:
    heads = "".join(
        f"<th data-position={at} scope=col tabindex=0>{at} {tokens.chip(token)}"
        for at, token in zip(result.positions, result.tokens, strict=True)
    )
    body = "".join(_point(point, side, helps) for point in reversed(result.points))
    title = f"<div class=small-title>{escape(name)}</div>" if len(result.sides) > 1 else ""
    return (
        f"{title}<table><thead><tr><th scope=col>point<th class=n scope=col>"
        f"{escape(result.metric_name)}{heads}</thead><tbody>{body}</tbody></table>"
    )


def _point(point: Point, side: str, helps: int) -> str:
    value: float | None = getattr(point.metric, side)
    row: Row = getattr(point, side)
    cells = "".join(map(_cell, row))
    sign = numbers.sign(helps * (value or 0.0))
    return (
        f"<tr><th scope=row class=mono>{point.address}"
        f"<td class='n {sign}'>{numbers.signed(value)}{cells}"
    )


def _cell(said: tuple[Said, ...]) -> str:
    """The first token, tinted by its probability."""
    if not said:
        return "<td>"
    words = ", ".join(f"{tokens.visible(s.token)} {numbers.percent(s.probability)}" for s in said)
    first = said[0]
    return (
        f"<td title='{escape(words)}' style='--look: {first.probability:.3f}'>"
        f"{tokens.chip(first.token)}"
    )
