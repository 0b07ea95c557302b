"""The node table: every node at every position, sorted by one column; exact total effects stream
in, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nicegui import ui

from interp.debugger import nodes, numbers, order
from interp.debugger.both import Both
from interp.debugger.cards import grid, tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.progress import Progress, paced
from interp.debugger.cards.view import View
from interp.debugger.nodes import DEFINITIONS, Row, Table
from interp.debugger.question import INSTEAD, MAX_K
from interp.debugger.session import Runs
from interp.debugger.totals import totals

TITLES = {
    "direct": "direct effect",
    "total": "total effect",
    "activation": "activation",
    "norm": "write norm",
}
INSTEAD_NAMES = {"0": "zero", "mean(reference)": "its mean", "other": "the second prompt's"}
assert set(INSTEAD_NAMES) == set(INSTEAD)

FIND = (
    "Rows that have every word: of the node's name or kind, @ and a position, or of the token "
    "there."
)


class TableCard(Card):
    """The grid stays; only its rows change. Sorted by total effects, it waits for all of them
    before it moves a row."""

    name, title = "nodes", "Every node"
    hint = (
        "What each node wrote at each position, and what that did. Click a row, or press Enter "
        "on it, for its details; click a heading to sort by it."
    )
    depends = ("split", "sort", "find", "k", "instead")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.known: dict[str, Both] = {}
        self.rows: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.cancelled = False
        with self.controls.classes("controls"):
            self._controls()
        with self.body:
            self.answer = ui.label().classes("answer-line").props("data-testid=answer")
            self.grid = grid.Grid(
                "node-grid", self._choose, lambda column: self.propose(sort=column)
            )
            self.closure = ui.label().classes("closure").props("data-testid=closure")
            self.progress = Progress("totals", self.stop)

    def compute(self, runs: Runs) -> tuple[Runs, Table, list[str]]:
        """The table, and the nodes whose exact total effects it needs: those shown or, to sort by
        them, those that come first (order.py)."""
        if not runs.question.sort.startswith("total"):
            result = nodes.table(runs)
            return runs, result, [row.address for row in result.rows]
        q, known = runs.question, "direct" if runs.left.metric.linear else "norm"
        waiting = nodes.table(replace(runs, question=replace(q, sort=known)))
        return runs, waiting, list(order.first(runs).addresses)

    def fill(self, result: tuple[Runs, Table, list[str]]) -> None:
        """New rows; no total effect is known yet."""
        self.runs, table, self.addresses = result
        self.known, self.cancelled = {}, False
        self._show(table)

    async def follow(self, question: Any, runs: Runs | None) -> None:
        """Show this question's rows, and which one is selected."""
        before = self.shown
        self._settings(question)
        await super().follow(question, runs)
        if self.result is not None and self.shown is not None and self.shown == before:
            self.grid.choose(question.node, grid.largest(self.rows, tuple(TITLES)))

    async def afterwards(self) -> None:
        """Stream the exact total effects that are not known yet; stopped, they go on from there
        when the same rows are shown again."""
        missing = [address for address in self.addresses if address not in self.known]
        if self.shown is None or self.result is None or self.cancelled or not missing:
            return
        self._say_progress(running=True)
        async for chunks in paced(self.view.workers.stream(totals(self.runs, missing))):
            arrived = {
                address: effect for chunk in chunks for address, effect in chunk.effects.items()
            }
            self.known |= arrived
            self._totals_arrived(arrived)
            self._say_progress(running=True)
        await self._resort()
        self._say_progress(running=False)

    async def stop(self) -> None:
        """Compute no more total effects; show those that are known."""
        self.cancelled = True
        self.view.stop()
        await self._resort()
        self._say_progress(running=False)

    def exported(self) -> Table:
        """The table as it stands, with the total effects that are known."""
        return nodes.table(self.runs, self.known)

    def script(self) -> str:
        """The table's own lines, and before them those for the total effects that are known."""
        return with_totals(super().script(), tuple(self.known))

    def _show(self, table: Table) -> None:
        self.rows = [record(row, self.known) for row in table.rows]
        sums = grid.closing(table.rest, table.sum)
        columns = _columns(table.sides, self.runs.question.sort)
        self.grid.show(
            columns,
            self.rows,
            sums if table.gap is not None else [],
            grid.largest(self.rows, tuple(TITLES)),
            self.view.question.node,
        )
        self.closure.set_text(closure(table))
        asked = self.runs.question
        self.answer.set_text(answer(table) if asked.sort == "direct" and not asked.find else "")

    def _totals_arrived(self, effects: dict[str, Both]) -> None:
        changed = [
            row | numbers.cells("total", effects[row["id"]])
            for row in self.rows
            if row["id"] in effects
        ]
        self.rows = [
            row | numbers.cells("total", self.known[row["id"]]) if row["id"] in self.known else row
            for row in self.rows
        ]
        if changed:
            self.grid.update(
                changed, grid.largest(self.rows, tuple(TITLES)), self.view.question.node
            )

    async def _resort(self) -> None:
        if self.runs.question.sort.startswith("total"):
            self._show(await self.view.workers.run(lambda: nodes.table(self.runs, self.known)))

    def _say_progress(self, running: bool) -> None:
        put = INSTEAD_NAMES[self.runs.question.instead]
        self.progress.say(
            f"Exact total effects, {put} in the node's place",
            len(self.known),
            len(self.addresses),
            running,
        )

    async def _choose(self, node: str) -> None:
        await self.propose(node=node)

    def _controls(self) -> None:
        self._filters()
        self.instead = widgets.choice(
            INSTEAD_NAMES, "in a node's place", "instead", self._put_instead
        ).classes("instead")
        self.keys, self.neurons = (
            ui.checkbox(label).props(f"dense data-testid=split-{label.split()[-1]}")
            for label in ("heads by key", "neurons")
        )
        for box in (self.keys, self.neurons):
            box.on("update:model-value", lambda: self.propose(split=self._split()))

    async def _put_instead(self) -> None:
        await self.propose(instead=self.instead.value)

    def _filters(self) -> None:
        """Which rows, and how many."""
        self.find = widgets.field("filter", "find", "a2 head @13 Mary", FIND).classes("find")
        self.find.props("clearable debounce=300")
        self.find.on("update:model-value", lambda: self.propose(find=self.find.value or ""))
        self.k = ui.number("top and bottom", min=1, max=MAX_K, format="%d").classes("k")
        self.k.props("dense outlined debounce=400 data-testid=k")
        self.k.on("update:model-value", lambda: self.propose(k=int(self.k.value or 10)))

    def _split(self) -> tuple[str, ...]:
        return tuple(
            name for name, box in (("keys", self.keys), ("neurons", self.neurons)) if box.value
        )

    def _settings(self, question: Any) -> None:
        """The controls as the question has them."""
        for name in ("find", "k", "instead"):
            getattr(self, name).value = getattr(question, name)
        self.keys.value, self.neurons.value = "keys" in question.split, "neurons" in question.split


def with_totals(script: str, addresses: Sequence[str]) -> str:
    """A script that prints a node table, changed to print it with these exact total effects."""
    first, printed, end = script.partition("print(")
    known = f"known = totals.complete(runs, {list(addresses)!r}).effects\n"
    return (
        first.replace("import export, session", "import export, nodes, session, totals")
        + known
        + ("print(export.as_json(nodes.table(runs, known)))\n" if printed else end)
    )


def record(row: Row, known: dict[str, Both]) -> dict[str, Any]:
    """A row as the grid takes it."""
    both = {
        name: numbers.cells(name, getattr(row, name)) for name in ("direct", "activation", "norm")
    }
    return {
        "id": row.address,
        "node": row.address,
        "address": row.address,
        "token": f"{row.position} {tokens.visible(row.token)}",
        "looks_at": row.looks_at,
        **both["direct"],
        **numbers.cells("total", known.get(row.address, row.total)),
        **both["activation"],
        **both["norm"],
    }


def answer(table: Table, k: int = 3) -> str:
    """The largest direct effects for and against, as a sentence, of a table sorted by them; empty
    where there are none."""
    ranked = sorted(
        (row for row in table.rows if row.direct.left),
        key=lambda row: row.direct.left or 0.0,
        reverse=True,
    )
    ends = {
        "Most for it": [row for row in ranked if numbers.sign(row.direct.left) == "for"][:k],
        "Most against it": [
            row for row in reversed(ranked) if numbers.sign(row.direct.left) == "against"
        ][:k],
    }
    return " ".join(
        f"{words}: {', '.join(map(_push, rows))}." for words, rows in ends.items() if rows
    )


def _push(row: Row) -> str:
    looks = f" (looks at {row.looks_at.partition(' ')[2]})" if row.looks_at else ""
    return f"{row.address} {numbers.signed(row.direct.left)}{looks}"


def closure(table: Table) -> str:
    """The sentence that says that the direct effects sum to the metric."""
    count = (
        f"{table.matching:,} of {table.count:,} nodes match. "
        if table.matching < table.count
        else f"{table.count:,} nodes. "
    )
    if table.gap is None or table.sum.left is None or table.metric.left is None:
        return count + " ".join(table.notes)
    holds = "=" if table.bound is None or table.gap <= table.bound else "≠"
    sums = (
        f"{numbers.signed(table.sum.left)} {holds} {table.metric_name} "
        f"{numbers.signed(table.metric.left)}"
    )
    return f"{count}Direct effects sum to {sums} (gap {table.gap:.0e})."


def _columns(sides: tuple[str, ...], sort: str) -> list[grid.Column]:
    words = [
        grid.text("address", "node", 104, DEFINITIONS["address"], pinned="left"),
        grid.text("token", "at", 84, DEFINITIONS["token"]),
        grid.text("looks_at", "looks at", 100, DEFINITIONS["looks_at"]),
    ]
    return grid.sorted_by(
        sort,
        words
        + [
            grid.sides(name, title, DEFINITIONS[name], sides, sortable=True)
            for name, title in TITLES.items()
        ],
    )
