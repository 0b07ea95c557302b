"""The path patching map: from every head to the receivers, the second prompt's value sent along;
click a head for its details."""

from __future__ import annotations

from collections.abc import Iterator

from nicegui import ui

from interp.debugger import numbers, pathmap
from interp.debugger.cards import charts, widgets
from interp.debugger.cards.long import LongCard
from interp.debugger.cards.view import View
from interp.debugger.pathmap import PathMap
from interp.debugger.question import Question
from interp.debugger.session import Runs

PORTS = "Ports, with spaces between them: a1.0.q a1.0.k. Left empty: the output."


class PathMapCard(LongCard):
    """Layers from top to bottom, heads from left to right."""

    name, title, tab = "pathmap", "Path patching", "paths"
    hint = (
        "What the metric loses when a head's value from the second prompt goes to the receivers "
        "and nowhere else: all other heads are held, "
        "MLPs and LayerNorms recomputed (Wang et al. 2022)."
    )
    depends = ("receivers", "at")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.controls.classes("controls"):
            self.receivers = widgets.field("to", "receivers", "out", PORTS).classes("receivers")
            self.at = widgets.field("at", "at", "END", "END, a position, or all.").classes("at")
        with self.body:
            self.verdict = widgets.sentence("pathmap-verdict")
            self.chart = charts.Chart(ui.element("div"), "pathmap-chart", self._clicked)
            self.cost = widgets.note("", "pathmap-note")
        for field in (self.receivers, self.at):
            field.on("keydown.enter", self.ask)

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show this question's map and receivers."""
        self.receivers.value, self.at.value = " ".join(question.receivers), question.at
        await super().follow(question, runs)

    def begin(self, runs: Runs) -> Iterator[PathMap]:
        """The map, more of it each time."""
        return pathmap.pathmaps(runs)

    def fill(self, result: PathMap) -> None:
        """The map, and what it cost."""
        super().fill(result)
        cells = [
            (head, layer, -value * self.view.helps, f"a{layer}.{head}: lost {-value:+.4f}")
            for layer, row in enumerate(result.cells)
            for head, value in enumerate(row)
            if value is not None
        ]
        top = max((abs(cell[2]) for cell in cells), default=1.0) or 1.0
        columns = [f"head {i}" for i in range(len(result.cells[0]))]
        rows = [f"layer {i}" for i in range(len(result.cells))]
        options = charts.heat(cells, columns, rows, signed=True, top=top, rotate=60)
        self.chart.show(options, height=70 + 34 * len(rows), words=verdict(result))
        self.verdict.set_text(verdict(result))
        before = f"{result.metric_name} {numbers.signed(result.metric)} before"
        if result.before:
            before += "; the prompts as they are, before the interventions"
        self.cost.set_text(
            f"To {' '.join(result.receivers)} at {result.at}; {before}. {result.receipt}"
        )

    async def ask(self) -> None:
        """The map to the receivers that are written there."""
        await self.propose(
            receivers=tuple(self.receivers.value.split()), at=self.at.value.strip() or "END"
        )

    async def _clicked(self, data: dict[str, list[float]]) -> None:
        head = "a{1:.0f}.{0:.0f}".format(*data["value"])
        at, tokens = self.result.at, len(self.runs.left.tokens)
        await self.propose(
            node=f"{head}@{int(at) % tokens if at.lstrip('-').isdigit() else tokens - 1}"
        )


def verdict(result: PathMap, k: int = 3) -> str:
    """The heads through which most is lost, and those without which there is more."""
    lost = [
        (f"a{layer}.{head}", -value)
        for layer, row in enumerate(result.cells)
        for head, value in enumerate(row)
        if value is not None and abs(value) >= numbers.SMALL
    ]
    ordered = sorted(lost, key=lambda each: -abs(each[1]))[:k]
    named = ", ".join(f"{name} {numbers.signed(value)}" for name, value in ordered)
    return f"With the second prompt's value on the path, most is lost through {named or 'none'}."
