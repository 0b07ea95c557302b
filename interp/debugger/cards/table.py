"""The node table: every node at every position, sorted by one column; exact total effects stream
in, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nicegui import ui

from interp.debugger import nodes, numbers, order
from interp.debugger.both import Both, Change, both
from interp.debugger.cards import grid, tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.cards.progress import Progress, paced
from interp.debugger.cards.view import View
from interp.debugger.links import COMPONENTS, link
from interp.debugger.nodes import DEFINITIONS, Row, Table
from interp.debugger.question import INSTEAD, MAX_K, SPLITS
from interp.debugger.session import Runs
from interp.debugger.totals import totals

TITLES = {
    "direct": "direct effect",
    "change.write": "write changed",
    "change.scale": "scale changed",
    "lost": "lost without it",
    "activation": "activation",
    "norm": "write norm",
}
# Of activations and norms neither sign helps the answer.
SIGNED = ("direct", "change", "lost")
# What a person may add to the columns that answer the question.
MORE = {
    "direct.difference": "direct, difference",
    "lost.right": "lost, right side",
    "activation": "activation",
    "norm": "write norm",
}
INSTEAD_NAMES = {"0": "zero", "mean(reference)": "its mean", "other": "the second prompt's"}
assert set(INSTEAD_NAMES) == set(INSTEAD)
SPLIT_NAMES = {"keys": "heads by key", "neurons": "neurons", "latents": "latents"}
assert set(SPLIT_NAMES) == set(SPLITS)

FIND = (
    "Rows that have every word: of the node's name or kind, @ and a position, or of the token "
    "there."
)


ON_A_CORPUS = "What explains it there; its page: windows, histogram, tokens by its weights."
# Columns whose numbers are compared by their tint.
GROUPS = ("direct", "change", "lost", "activation", "norm")


class TableCard(Card):
    """The grid stays; only its rows change. Sorted by total effects, it moves its rows once there
    are enough for a page, and again when all have come."""

    name, title, tab = "nodes", "Every node", "nodes"
    hint = (
        "What each node wrote at each position, and what that did. Click a row, or press Enter "
        "on it, for its details; click a heading to sort by it."
    )
    depends = ("split", "sort", "find", "k", "instead")

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.known: dict[str, Both] = {}
        self.typed: dict[str, widgets.Typed] = {}
        self.rows: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.first: order.First | None = None
        self.cancelled = False
        with self.heading.classes("controls"):
            self._controls()
        with self.body:
            self.grid = grid.Grid(
                "node-grid", self._choose, lambda column: self.propose(sort=column)
            )
            self.closure = ui.label().classes("closure").props("data-testid=closure")
            self.progress = Progress("totals", self.stop)

    def compute(self, runs: Runs) -> tuple[Runs, Table, order.First | None]:
        """The table, and the nodes whose exact total effects it needs: those shown or, to sort by
        them, those that come first (order.py)."""
        if not runs.sort.startswith(("total", "lost")):
            return runs, nodes.table(runs), None
        q, known = runs.question, "direct" if runs.left.metric.linear else "norm"
        waiting = nodes.table(replace(runs, question=replace(q, sort=known)))
        return runs, waiting, order.first(runs)

    def fill(self, result: tuple[Runs, Table, order.First | None]) -> None:
        """New rows; no total effect is known yet."""
        self.runs, table, self.first = result
        shown = [row.address for row in table.rows]
        self.addresses = list(self.first.addresses) if self.first else shown
        self.known, self.cancelled = {}, False
        self._show(table)

    async def follow(self, question: Any, runs: Runs | None) -> None:
        """Show this question's rows, and which one is selected."""
        before = self.shown
        self._settings(question)
        await super().follow(question, runs)
        if self.result is not None and self.shown is not None and self.shown == before:
            self.grid.choose(question.node, grid.largest(self.rows, GROUPS))

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
            before, self.known = len(self.known), self.known | arrived
            self._totals_arrived(arrived)
            self._say_progress(running=True)
            if before < 2 * self.runs.question.k <= len(self.known):
                await self._resort()
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
        pages = self._pages(table)
        self.rows = [record(row, self.known) | pages.get(row.address, {}) for row in table.rows]
        sums = closing(table)
        columns = _columns(table.sides, self.runs.sort, tuple(self.more.value or ()))
        columns += [grid.page("page", "on a corpus", 160, ON_A_CORPUS)] if pages else []
        self.grid.show(
            columns,
            self.rows,
            sums if table.gap is not None else [],
            grid.largest(self.rows, GROUPS),
            self.view.question.node,
            self.view.helps,
        )
        exact = f" {self.first.words(len(self.known))}" if self.first else ""
        self.closure.set_text(closure(table) + exact)

    def _pages(self, table: Table) -> dict[str, grid.Record]:
        """Of each row that has a page of what it does on a corpus, where that is and what explains
        it."""
        model = self.view.question.model
        if model not in self.view.session.stores:
            return {}
        some = [row.address for row in table.rows if row.kind in COMPONENTS]
        names = {address: address.partition("@")[0] for address in some}
        sentences = self.view.session.stores[model].sentences(sorted(set(names.values())))
        return {
            address: {"page": sentences.get(name, name), "href": link(model, name)}
            for address, name in names.items()
        }

    def _totals_arrived(self, effects: dict[str, Both]) -> None:
        changed = [row | lost(effects[row["id"]]) for row in self.rows if row["id"] in effects]
        self.rows = [
            row | lost(self.known[row["id"]]) if row["id"] in self.known else row
            for row in self.rows
        ]
        if changed:
            self.grid.update(changed, grid.largest(self.rows, GROUPS), self.view.question.node)

    async def _resort(self, always: bool = False) -> None:
        if always or self.runs.sort.startswith(("total", "lost")):
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
        instead = widgets.choice(INSTEAD_NAMES, "in its place", "instead").classes("instead")
        self.typed["instead"] = widgets.Typed(instead, self._put_instead)
        for name, label in SPLIT_NAMES.items():
            box = ui.checkbox(label).props(f"dense data-testid=split-{name}")
            self.typed[name] = widgets.Typed(box, self._cut)

        self.more = (
            ui.select(MORE, multiple=True, label="columns", value=[])
            .props("outlined dense options-dense data-testid=more-columns")
            .classes("instead")
        )
        self.more.on_value_change(self._columns_chosen)

    async def _columns_chosen(self) -> None:
        if self.result is not None and self.shown is not None:
            await self._resort(always=True)

    async def _put_instead(self, value: str) -> None:
        await self.propose(instead=value)

    async def _cut(self, _: bool) -> None:
        chosen = tuple(name for name in SPLIT_NAMES if self.typed[name].control.value)
        await self.propose(split=chosen)

    async def _find(self, text: str | None) -> None:
        await self.propose(find=text or "")

    async def _count(self, k: float | None) -> None:
        await self.propose(k=int(k or 10))

    def _filters(self) -> None:
        """Which rows, and how many."""
        find = widgets.field("filter", "find", "a1 head @3", FIND).classes("find")
        find.props("clearable debounce=300")
        self.typed["find"] = widgets.Typed(find, self._find)
        k = ui.number("each end", min=1, max=MAX_K, format="%d").classes("k")
        k.props("dense outlined debounce=400 data-testid=k")
        self.typed["k"] = widgets.Typed(k, self._count)

    def _settings(self, question: Any) -> None:
        """The controls as the question has them."""
        for name in ("find", "k", "instead"):
            self.typed[name].put(getattr(question, name))
        for name in SPLIT_NAMES:
            self.typed[name].put(name in question.split)
        model = self.view.session.models.get(question.model)
        known = model.params.dictionaries if model else ()
        self.typed["latents"].control.set_visibility(any(name[0] != "r" for name in known))


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
    total = known.get(row.address, row.total)
    return {
        "id": row.address,
        "node": row.address,
        "address": row.address,
        "token": f"{row.position} {tokens.visible(row.token)}",
        "looks_at": row.looks_at,
        **both["direct"],
        **lost(total),
        **changed(row.change),
        **both["activation"],
        **both["norm"],
    }


def lost(total: Both) -> dict[str, float | None]:
    """What is lost without the node, as cells: minus its total effect."""
    ends = (total.left, total.right)
    return numbers.cells("lost", both(*(None if x is None else -x for x in ends)))


def changed(change: Change) -> dict[str, float | None]:
    """What became of a direct effect, as cells."""
    return {"change.write": change.write, "change.scale": change.scale}


def closing(table: Table) -> list[grid.Record]:
    """The lines under the table: what is not shown, and the sum."""
    if table.gap is None:
        return []
    rest, whole = grid.closing(table.rest, table.sum)
    return [rest | changed(table.rest_change), whole | changed(table.sum_change)]


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


def _columns(sides: tuple[str, ...], sort: str, more: Sequence[str]) -> list[grid.Column]:
    """The columns that answer the question, and those that were asked for besides."""
    words = [
        grid.text("address", "node", 96, DEFINITIONS["address"], pinned="left"),
        grid.text("token", "at", 84, DEFINITIONS["token"]),
        grid.text("looks_at", "looks at", 100, DEFINITIONS["looks_at"]),
    ]
    two = len(sides) > 1
    if two:
        words = [words[0], words[2]]
        left, right = (side.removesuffix(" prompt") for side in sides)
        shown = {"direct": left, "direct.right": f"→ {right}"}
        shown |= {name: TITLES[name] for name in ("change.write", "change.scale", "lost")}
    else:
        shown = {name: TITLES[name] for name in ("direct", "lost")}
    shown |= {name: MORE[name] for name in more if two or "." not in name}
    if (column := sort.partition(".")[0]) in ("activation", "norm") and column not in shown:
        shown[column] = TITLES[column]
    return grid.sorted_by(sort, [*words, *(_number(name, title) for name, title in shown.items())])


def _number(name: str, title: str) -> grid.Column:
    group = name.partition(".")[0]
    hint = DEFINITIONS.get(name) or DEFINITIONS[name.partition(".")[0]]
    width = max(92, 34 + 8 * len(title))  # with the arrow of what is sorted by
    return grid.number(name, title, hint, group, width, signed=group in SIGNED, sortable=True)
