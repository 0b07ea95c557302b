"""Why does a head look there, why is a neuron on: every earlier write's part in a score, and the
trail of steps that led here."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import ui

from interp.debugger import numbers, upstream
from interp.debugger.both import Both, both
from interp.debugger.cards import grid, tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.view import View
from interp.debugger.session import Runs
from interp.debugger.upstream import Source, Upstream
from minigpt.errors import MiniGPTError

DIRECT = (
    "What this write adds to the score along this edge; LayerNorm's scale is the run's. All "
    "rows sum to the score."
)
EXACT = (
    "What the score loses when this edge alone carries what is chosen in a node's place (zero, its "
    "mean, the second prompt's), LayerNorm computed again. Exact."
)


class UpstreamCard(Card):
    """The trail as crumbs, the score's parts as a grid, and from the selected part the next
    steps."""

    name, title, tab = "upstream", "Trace upstream", "trace"
    hint = (
        "A score taken apart into the writes that it is made of. Click a row, then go on from it: "
        "every step stays in the trail, "
        "and the question stays what it was."
    )
    depends = ("trail", "k", "instead", "split", "node")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.body:
            self.crumbs = (
                ui.element("nav")
                .classes("crumbs")
                .props("aria-label='The trail'")
                .props("data-testid=trail")
            )
            self.words = ui.label().classes("question small").props("data-testid=upstream-words")
            self.verdict = widgets.sentence("upstream-verdict")
            self.grid = grid.Grid("upstream-grid", lambda node: self.propose(node=node))
            self.closure = ui.label().classes("closure").props("data-testid=upstream-closure")
            self.next = ui.element("div").classes("steps").props("data-testid=next-steps")

    def compute(self, runs: Runs) -> tuple[Upstream | None, dict[str, str]]:
        """The last step's parts, and where one can go from the selected one."""
        return upstream.upstream(runs) if runs.question.trail else None, _steps(runs)

    def fill(self, result: tuple[Upstream | None, dict[str, str]]) -> None:
        """Crumbs, rows, steps; without a trail, where one can begin."""
        step, onward = result
        for part in (self.crumbs, self.verdict, self.grid.element, self.closure):
            part.set_visibility(step is not None)
        if step is None:
            begin = "Begin with one of these:" if onward else "Select a head or a neuron first."
            self.words.set_text(f"No trail yet. {begin}")
            self._onward(onward)
            return
        self._crumbs(step)
        self.words.set_text(step.words)
        self.verdict.set_text(verdict(step))
        rows = [record(source) for source in step.sources]
        self.grid.show(
            _columns(step.sides),
            rows,
            grid.closing(step.rest, step.sum),
            grid.largest(rows, ("direct", "exact")),
            self.view.question.node,
        )
        self.closure.set_text(
            f"Sum {numbers.signed(step.sum.left)} = score {numbers.signed(step.score.left)} (gap "
            f"{step.gap:.0e}). {step.stated}"
        )
        self._onward(onward)

    def _crumbs(self, step: Upstream) -> None:
        trail = self.view.question.trail
        self.crumbs.clear()
        with self.crumbs:
            widgets.button("the metric", lambda: self.propose(trail=()), "crumb 0", look="flat")
            for depth, each in enumerate(trail, 1):
                ui.label("›")
                crumb = widgets.button(
                    each,
                    partial(self.propose, trail=trail[:depth]),
                    f"crumb {depth}",
                    look="flat",
                    hint=step.trail[depth - 1],
                )
                crumb.classes("mono" + (" here" if depth == len(trail) else ""))

    def _onward(self, steps: dict[str, str]) -> None:
        self.next.clear()
        with self.next:
            if not steps:
                widgets.note("Click a head or a neuron in the table to go on from it.")
            for step, words in (
                (step, words)
                for step, words in steps.items()
                if step not in self.view.question.trail[-1:]
            ):
                go_on = widgets.button(
                    words,
                    partial(self._go_on, step),
                    f"onward {step}",
                    icon="subdirectory_arrow_right",
                    look="flat align=left",
                )
                go_on.classes("step")

    async def _go_on(self, step: str) -> None:
        await self.propose(trail=(*self.view.question.trail, step))


def verdict(step: Upstream, k: int = 3) -> str:
    """The score, and the writes that make most of it."""
    ordered = sorted(step.sources, key=lambda source: -abs(source.direct.left or 0.0))
    largest = [source for source in ordered if source.address][:k]
    named = (
        f"{source.address} {numbers.signed(source.direct.left)} "
        f"({tokens.visible(source.token).strip('·')})"
        for source in largest
    )
    return f"Score {numbers.signed(step.score.left)}. It comes most from {', '.join(named)}."


def source_id(source: Source) -> str:
    """A part's own name: what writes, and the port that reads it."""
    return source.edge.replace(">", " ")


def record(source: Source) -> dict[str, Any]:
    """A part as the grid takes it."""
    return {
        "id": source_id(source),
        "node": source.address,
        "address": source.address,
        "edge": source.edge,
        "token": f"{source.position} {tokens.visible(source.token)}",
        **numbers.cells("direct", source.direct),
        **numbers.cells("exact", _lost(source.exact)),
    }


def _lost(change: Both) -> Both:
    """What the score loses where the edge carries something else."""
    return both(*(None if x is None else -x for x in (change.left, change.right)))


def _columns(sides: tuple[str, ...]) -> list[grid.Column]:
    words = [
        grid.text("address", "node", 108, "The earlier node, and where it wrote.", pinned="left"),
        grid.text("token", "at", 92, "The token there."),
        grid.text("edge", "edge", 160, "From the node to the port that reads it."),
    ]
    titles = {"direct": ("direct effect", DIRECT), "exact": ("lost without it", EXACT)}
    if len(sides) == 1:
        return [*words, *(grid.number(name, *title, name) for name, title in titles.items())]
    ends = [
        (end, side.removesuffix(" prompt")) for end, side in zip(("", ".right"), sides, strict=True)
    ]
    return [
        *words,
        *(
            grid.number(f"{name}{end}", f"{title.split()[0]}, {side}", hint, name)
            for name, (title, hint) in titles.items()
            for end, side in ends
        ),
    ]


def _steps(runs: Runs) -> dict[str, str]:
    """Steps from the selected node; none from what is no head and no neuron."""
    try:
        return upstream.steps(runs, runs.question.node) if runs.question.node else {}
    except MiniGPTError:
        return {}
