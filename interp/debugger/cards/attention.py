"""Where the selected head looks, from every position to every earlier one; click a cell to pin
it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from interp.debugger import attention
from interp.debugger.attention import Attention, Pattern
from interp.debugger.cards import charts, tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.view import View
from interp.debugger.question import Question
from interp.debugger.session import Runs
from minigpt import parse
from minigpt.errors import MiniGPTError

# Of a longer prompt so many positions around the selected one look, and of those looked at, too,
# unless one zooms out: a map of a million cells says nothing.
AROUND = 48
KINDS = {"weights": "pattern", "weighted": "weighted by value"}


class AttentionCard(Card):
    """The pattern, and the same weighted by what is taken."""

    name, title = "attention", "Attention"
    hint = (
        "A row is the position that looks, a column the one looked at. Weighted by value: times "
        "the length of the vector taken from there. "
        "Hover for the number; click to pin the pair."
    )
    depends = ("node",)

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.maps: list[Map] = []
        self.body.classes("maps")

    def wanted(self, question: Question) -> bool:
        """Whether a head is selected."""
        return head(question.node) != ""

    def compute(self, runs: Runs) -> Attention:
        """The head's patterns."""
        return attention.attention(runs, head(runs.question.node))

    def fill(self, result: Attention) -> None:
        """Each side's two maps."""
        wanted = [(side, kind) for side in result.sides for kind in KINDS]
        while len(self.maps) < len(wanted):
            with self.body:
                self.maps.append(Map(self._pin))
        for place in self.maps[len(wanted) :]:
            place.hide()
        node, named = self.view.question.node, len(result.sides) > 1
        for place, (side, kind) in zip(self.maps, wanted, strict=False):
            place.show(result.head, side, kind, node, named)

    async def _pin(self, query: int, key: int) -> None:
        await self.propose(node=f"{self.result.head}@{query}<{key}")


class Map:
    """One map and its heading."""

    def __init__(self, pin: Callable[[int, int], Awaitable[None]]) -> None:
        self.pin, self.queries = pin, range(0)
        with ui.element("div") as self.place:
            self.title = widgets.heading("")
        self.chart = charts.Chart(self.place, "attention-map", self._clicked)

    def hide(self) -> None:
        """Nothing to show here."""
        self.place.set_visibility(False)

    def show(self, name: str, side: Pattern, kind: str, node: str, named: bool) -> None:
        """A side's map of one kind, with the selected pair pinned."""
        labels = [f"{i} {tokens.visible(token)}" for i, token in enumerate(side.tokens)]
        query, key = place(node)
        first = max(0, min(query - AROUND // 2, len(labels) - AROUND))
        self.queries = range(first, min(first + AROUND, len(labels)))
        cells = self._cells(name, getattr(side, kind), labels)
        top = 1.0 if kind == "weights" else max((cell[2] for cell in cells), default=1.0) or 1.0
        pinned = None
        if key is not None and query in self.queries:
            pinned = key, self.queries.index(query)
        self.place.set_visibility(True)
        self.title.set_text(f"{name} {KINDS[kind]}{f', {side.side}' if named else ''}")
        rows = [labels[t] for t in self.queries]
        options = charts.heat(cells, labels, rows, signed=False, top=top, pinned=pinned, rotate=60)
        if len(labels) > AROUND:
            options["dataZoom"] = charts.zoom(
                key if key is not None else query, len(labels), AROUND
            )
        best = max(cells, key=lambda cell: cell[2], default=(0, 0, 0.0, "nothing"))
        words = f"{self.title.text}; most: {best[3]}"
        self.chart.show(options, height=92 + max(15 * len(rows), 30), words=words)

    def _cells(
        self, name: str, values: Sequence[Sequence[float]], labels: Sequence[str]
    ) -> list[charts.Cell]:
        """From each position that is shown to every earlier one."""
        return [
            (u, i, values[t][u], f"{name} from {labels[t]} to {labels[u]}: {values[t][u]:.3f}")
            for i, t in enumerate(self.queries)
            for u in range(t + 1)
        ]

    async def _clicked(self, data: dict[str, list[float]]) -> None:
        key, row = map(int, data["value"][:2])
        await self.pin(self.queries[row], key)


def head(node: str) -> str:
    """The head of a row's address, or "" where it is none."""
    try:
        site = parse(node.partition("<")[0]).site if node else None
    except MiniGPTError:
        return ""
    return str(site) if site is not None and site.kind == "attn" and site.part is not None else ""


def place(node: str) -> tuple[int, int | None]:
    """The query and the key of a row's address: (13, 3) of "a2.6@13<3"."""
    address, _, key = node.partition("<")
    at = parse(address).at
    return at if isinstance(at, int) else 0, int(key) if key.isdigit() else None
