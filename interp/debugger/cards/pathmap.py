"""The path patching map: from every head to the receivers, the second prompt's value sent along; click a head for its details."""

from __future__ import annotations

from collections.abc import Iterator

from interp.debugger import pathmap
from interp.debugger.cards import charts, numbers, widgets
from interp.debugger.cards.long import LongCard
from interp.debugger.cards.view import View
from interp.debugger.pathmap import PathMap
from interp.debugger.question import Question
from interp.debugger.session import Runs

PORTS = "Ports, with spaces between them: a3.4.q a3.6.q. Left empty: the output."


class PathMapCard(LongCard):
    """Layers from top to bottom, heads from left to right."""

    name, title = "pathmap", "Path patching"
    hint = ("How the metric changes when a head's value from the second prompt goes to the receivers and nowhere else: all other heads are held, "
            "MLPs and LayerNorms recomputed (Wang et al. 2022).")
    depends = ("receivers", "at")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        with self.controls.classes("controls"):
            self.receivers = widgets.field("to", "receivers", "out", PORTS).classes("receivers")
            self.at = widgets.field("at", "at", "END", "END, a position, or all.").classes("at")
        for field in (self.receivers, self.at):
            field.on("keydown.enter", self.ask)

    def wanted(self, question: Question) -> bool:
        """Whether there is a second prompt to send values from."""
        return bool(question.other)

    async def follow(self, question: Question, runs: Runs | None) -> None:
        """Show this question's map and receivers."""
        self.receivers.value, self.at.value = " ".join(question.receivers), question.at
        await super().follow(question, runs)

    def begin(self, runs: Runs) -> Iterator[PathMap]:
        """The map, more of it each time."""
        return pathmap.pathmaps(runs)

    def draw(self, found: PathMap) -> None:
        """The map, and what it cost."""
        known = ((layer, head, value) for layer, row in enumerate(found.cells) for head, value in enumerate(row) if value is not None)
        cells = [(head, layer, value, f"a{layer}.{head}: {value:+.4f}") for layer, head, value in known]
        charts.heat(cells, [str(head) for head in range(len(found.cells[0]))], [str(layer) for layer in range(len(found.cells))], signed=True,
                    top=max((abs(cell[2]) for cell in cells), default=1.0) or 1.0, on_click=lambda head, layer: self._clicked(f"a{layer}.{head}"),
                    height=60 + 34 * len(found.cells)).props("data-testid=pathmap-chart")
        before = f"{found.metric_name} {numbers.signed(found.metric)} before"
        widgets.note(f"To {' '.join(found.receivers)} at {found.at}; {before}. {found.receipt}", "pathmap-note")

    async def ask(self) -> None:
        """The map to the receivers that are written there."""
        await self.propose(receivers=tuple(self.receivers.value.split()), at=self.at.value.strip() or "END")

    async def _clicked(self, head: str) -> None:
        at, tokens = self.found.at, len(self.runs.left.tokens)
        await self.propose(node=f"{head}@{int(at) % tokens if at.lstrip('-').isdigit() else tokens - 1}")
