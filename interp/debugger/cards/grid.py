"""AG Grid as this page uses it: rows known by an id and standing for a node, numbers tinted by
their size, and changed in place so that nothing jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from interp.debugger import numbers
from interp.debugger.both import Both

# Functions in script.js; a key that begins with a colon is evaluated in the browser. No key comes
# from a prompt.
TINTED = {
    ":valueFormatter": "p => debuggerPage.number(p.value)",
    ":cellStyle": "p => debuggerPage.tint(p)",
    "cellClass": "n",
    "headerClass": "n",
}
OPTIONS = {
    "columnDefs": [],
    "rowData": [],
    "suppressFieldDotNotation": True,
    ":getRowId": "p => p.data.id",
    "animateRows": False,
    "rowHeight": 27,
    "headerHeight": 30,
    "suppressMovableColumns": True,
    "ensureDomOrder": True,  # read aloud, and copied, as it is seen
    "suppressColumnMoveAnimation": True,
    "tooltipShowDelay": 400,
    "enableBrowserTooltips": True,
    "overlayNoRowsTemplate": "<span class=note>no rows</span>",
    "defaultColDef": {
        "sortable": False,
        "resizable": True,
        "suppressHeaderMenuButton": True,
        "sortingOrder": ["desc"],
    },
    "rowClassRules": {
        ":chosen": "p => p.data.node === p.context.chosen",
        ":closing": "p => !!p.node.rowPinned",
    },
    ":onSortChanged": "e => debuggerPage.sorted(e)",
    ":onGridSizeChanged": "e => debuggerPage.narrow(e)",
    ":onCellKeyDown": "e => debuggerPage.key(e)",
}
Column = dict[str, Any]
Record = dict[str, Any]


def text(field: str, title: str, width: int, hint: str, **more: Any) -> Column:
    """A column of words."""
    return {
        "field": field,
        "headerName": title,
        "headerTooltip": hint,
        "width": width,
        "tooltipField": field,
        "cellClass": "mono",
        **more,
    }


def number(
    field: str,
    title: str,
    hint: str,
    group: str,
    width: int = 104,
    *,
    signed: bool = True,
    **more: Any,
) -> Column:
    """A column of numbers, tinted by the largest of its group; signed: in the colour of what helps
    the answer, or works against it."""
    return {
        "field": field,
        "headerName": title,
        "headerTooltip": hint,
        "flex": width,
        "minWidth": width,
        "context": {"group": group, "signed": signed},
        **{"sortable": False},
        **TINTED,
        **more,
    }


def page(field: str, title: str, width: int, hint: str) -> Column:
    """A column of links: the field is what one says, `href` where it leads."""
    column = text(field, title, width, hint, flex=width, minWidth=width)
    return column | {":cellRenderer": "p => debuggerPage.page(p)", "cellClass": ""}


class Grid:
    """A grid that keeps its place while its rows change."""

    def __init__(
        self,
        mark: str,
        on_choose: Callable[[str], Any],
        on_sort: Callable[[str], Any] | None = None,
    ) -> None:
        self.mark, self.helps = mark, 1
        options = {**OPTIONS, "context": self._context({}, "")}
        self.element = ui.aggrid(options, theme="balham", auto_size_columns=False)
        self.element.classes("grid").props(f"data-testid={mark}")

        def clicked(event: Any) -> Any:
            """A closing line stands for no node."""
            row = event.args["data"]
            return on_choose(row["node"]) if "node" in row else None

        self.element.on("rowClicked", clicked, ["data"])
        ui.on(f"chosen-{mark}", lambda event: on_choose(event.args))
        if on_sort is not None:
            ui.on(f"sorted-{mark}", lambda event: on_sort(event.args))

    def show(
        self,
        columns: Sequence[Column],
        rows: Sequence[Record],
        closing: Sequence[Record],
        largest: dict[str, float],
        chosen: str,
        helps: int = 1,
    ) -> None:
        """New columns, rows, and the closing lines under them. helps: the sign of what helps."""
        self.helps = helps
        self._set("context", self._context(largest, chosen))
        self._set("columnDefs", list(columns))
        self._set("rowData", list(rows))
        self._set("pinnedBottomRowData", list(closing))
        height = 27 * (max(len(rows), 1) + len(closing)) + 36
        self.element.style(f"height: min({height}px, max(var(--room), 240px))")

    def update(self, rows: Sequence[Record], largest: dict[str, float], chosen: str) -> None:
        """Other numbers in some of the rows."""
        self._set("context", self._context(largest, chosen))
        self.element.run_grid_method("applyTransaction", {"update": list(rows)})
        self.element.run_grid_method("refreshCells", {"force": True})

    def choose(self, chosen: str, largest: dict[str, float]) -> None:
        """Mark a row."""
        self._set("context", self._context(largest, chosen))
        self.element.run_grid_method("redrawRows")

    def _context(self, largest: dict[str, float], chosen: str) -> dict[str, Any]:
        return {"mark": self.mark, "chosen": chosen, "largest": largest, "helps": self.helps}

    def _set(self, option: str, value: Any) -> None:
        self.element.run_grid_method("setGridOption", option, value)


def largest(rows: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
    """The largest size of each group of columns."""
    ends = ("", ".right", ".difference", ".write", ".scale")
    fields = {name: [f"{name}{end}" for end in ends] for name in names}
    return {
        name: max(
            (abs(row[f]) for row in rows for f in group if row.get(f) is not None), default=0.0
        )
        for name, group in fields.items()
    }


def closing(rest: Both, whole: Both) -> list[Record]:
    """The lines under a table of direct effects: what is not shown, and the sum."""
    return [
        {"id": "rest", "address": "all others", **numbers.cells("direct", rest)},
        {"id": "sum", "address": "sum", **numbers.cells("direct", whole)},
    ]


def sorted_by(field: str, columns: list[Column]) -> list[Column]:
    """The columns, one of them with the mark of what the rows are sorted by."""
    for column in columns:
        column["sort"] = "desc" if column["field"] == field else None
    return columns
