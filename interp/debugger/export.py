"""Any result as JSON, as CSV, and as the Python lines that compute it again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from interp.debugger import (
    attention,
    details,
    graph,
    lens,
    nodes,
    pathmap,
    summary,
    totals,
    upstream,
)
from interp.debugger.attention import Attention
from interp.debugger.both import Both, Change
from interp.debugger.details import Details
from interp.debugger.lens import LensTable
from interp.debugger.nodes import Table
from interp.debugger.pathmap import PathMap
from interp.debugger.question import Question, QuestionError
from interp.debugger.session import Runs
from interp.debugger.totals import Totals
from interp.provenance import KEY
from interp.provenance import record as origin

# What can be asked of a question's runs. details and attention are of the selected node, upstream
# of the trail's last step.
RESULTS: dict[str, Callable[[Runs], Any]] = {
    "summary": summary.summary,
    "nodes": nodes.table,
    "details": lambda runs: details.details(runs, runs.question.node),
    "attention": lambda runs: attention.attention(runs, runs.question.node),
    "totals": totals.complete,
    "upstream": upstream.upstream,
    "graph": graph.graph,
    "pathmap": pathmap.pathmap,
    "lens": lens.lens_table,
}
# What is saved before all is computed, or with more than was asked for.
PARTIAL = {
    Totals: "it was saved before all total effects were computed",
    Table: "it holds the total effects that the page had computed by then",
}
# The list of records that is a result's table.
_ROWS = {
    "Summary": "next",
    "Table": "rows",
    "Upstream": "sources",
    "Graph": "edges",
}


def result(runs: Runs, name: str) -> Any:
    """A result by its name."""
    if name not in RESULTS:
        raise QuestionError(f"the result {name!r}", ", ".join(RESULTS))
    return RESULTS[name](runs)


def stepwise(runs: Runs, name: str) -> Iterator[Any] | None:
    """The same a little at a time, the last item being the whole; None of what has no parts."""
    steps: dict[str, Callable[[Runs], Iterator[Any]]] = {
        "totals": totals.so_far,
        "graph": graph.graphs,
        "pathmap": pathmap.pathmaps,
    }
    return steps[name](runs) if name in steps else None


def as_json(record: Any) -> str:
    """A result record as JSON, every field by its name."""
    return json.dumps(asdict(record), ensure_ascii=False, allow_nan=False)


def as_csv(record: Any) -> str:
    """The rows of a result as CSV: a column a field; of numbers on two sides, left, right and
    difference side by side."""
    return _csv(rows(record))


def _csv(found: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in found for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def as_file(runs: Runs, name: str, record: Any, kind: str) -> str:
    """A result with where it comes from: as JSON a field of it, as CSV a column, whose first row
    has it."""
    origin = provenance(runs, name, record)
    if kind == "json":
        return json.dumps({**asdict(record), KEY: origin}, ensure_ascii=False, allow_nan=False)
    first, *rest = rows(record) or [{}]
    return _csv([{**first, KEY: json.dumps(origin, ensure_ascii=False)}, *rest])


def provenance(runs: Runs, name: str, record: Any) -> dict[str, Any]:
    """The command that computes a result again; where it holds what no command gives, why."""
    asked = runs.question
    command = ["debug", "--model", asked.model, "--link", asked.to_url(), "--result", name]
    partial = {"partial": PARTIAL[type(record)]} if _is_partial(record) else {}
    models = {runs.model.name: runs.model}
    return origin([*command, "--json"], models, result=name, **partial)


def _is_partial(record: Any) -> bool:
    if isinstance(record, Totals):
        return record.done < record.of
    return isinstance(record, Table) and any(row.total.left is not None for row in record.rows)


def rows(record: Any) -> list[dict[str, Any]]:
    """The rows of a result, each a value a column: what CSV and terminal show."""
    return [dict(_flat(row)) for row in _records(record)]


def as_python(question: Question, name: str, load: str = "") -> str:
    """A script that prints the result's JSON in a fresh process. load: the name or folder that the
    model was loaded from, if not its name."""
    if name not in RESULTS:
        raise QuestionError(f"the result {name!r}", ", ".join(RESULTS))
    changed = [
        f"    {name}={value!r},"
        for name, value in asdict(question).items()
        if value != getattr(Question(), name)
    ]
    return "\n".join(
        [
            "import weights",
            "from interp.debugger import export, session",
            "from interp.debugger.question import Question",
            "",
            "question = Question(",
            *changed,
            ")",
            f"runs = session.runs(weights.load({load or question.model!r}), question)",
            f"print(export.as_json(export.result(runs, {name!r})))",
            "",
        ]
    )


def _records(record: Any) -> Iterable[Any]:
    """The records that make up a result's table."""
    if isinstance(record, Totals):
        return ({"address": name, "total": effect} for name, effect in record.effects.items())
    if isinstance(record, PathMap):
        return (
            {"address": f"a{layer}.{head}", "effect": value}
            for layer, row in enumerate(record.cells)
            for head, value in enumerate(row)
        )
    if isinstance(record, Attention):
        return _looks(record)
    if isinstance(record, LensTable):
        return _says(record)
    if isinstance(record, Details):
        return (
            {"side": side.side, "list": name, **asdict(row)}
            for side in record.sides
            for name in ("promotes", "suppresses", "looked", "inputs", "made_of")
            for row in getattr(side, name)
        )
    records: Iterable[Any] = getattr(record, _ROWS[type(record).__name__])
    return records


def _says(record: LensTable) -> Iterator[dict[str, Any]]:
    for point in record.points:
        for side, row in zip(record.sides, (point.left, point.right), strict=False):
            for position, token, said in zip(record.positions, record.tokens, row, strict=True):
                yield from (
                    {
                        "point": point.address,
                        "side": side,
                        "position": position,
                        "token": token,
                        "says": each.token,
                        "probability": each.probability,
                    }
                    for each in said
                )


def _looks(record: Attention) -> Iterator[dict[str, Any]]:
    for side in record.sides:
        for query, (row, weighted) in enumerate(zip(side.weights, side.weighted, strict=True)):
            for key in range(query + 1):
                yield {
                    "side": side.side,
                    "query": query,
                    "key": key,
                    "query_token": side.tokens[query],
                    "key_token": side.tokens[key],
                    "weight": row[key],
                    "weighted": weighted[key],
                }


def _flat(row: Any) -> Iterator[tuple[str, Any]]:
    """A record's fields; of numbers on two sides, only the sides that there are."""
    items = (
        row.items()
        if isinstance(row, Mapping)
        else ((field.name, getattr(row, field.name)) for field in fields(row))
    )
    for name, value in items:
        if isinstance(value, Both | Change):
            yield from ((f"{name}.{side}", number) for side, number in asdict(value).items())
        else:
            yield (
                name,
                json.dumps(asdict(value))
                if is_dataclass(value) and not isinstance(value, type)
                else value,
            )
