"""Results as a terminal shows them: tables, a heat map of cells, tokens shaded by attention."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from interp.circuit import Circuit
from interp.circuit.criteria import Faithfulness, Need, Removal
from interp.effects import Effects
from interp.why import Push, Why

FOR, AGAINST = (88, 166, 235), (235, 100, 100)


def why(found: Why) -> RenderableType:
    """The answer to `interp why`."""
    question = Text.assemble(
        "Why ", (repr(found.answer), "bold"), " rather than ", (repr(found.over), "bold"), "?"
    )
    return Group(
        Panel(
            Group(question, _tokens(found.tokens)),
            title=found.model,
            title_align="left",
            border_style="dim",
        ),
        _predictions(found),
        *(Text(f"note: {note}", style="yellow") for note in found.notes),
        Text(f"\nlogit difference {found.difference:+.4f}\n", style="bold"),
        _pushes(found.toward_answer, f"pushes for {found.answer!r}", "blue"),
        _pushes(found.toward_other, f"pushes for {found.over!r}", "red"),
        Text("direct effect of each head (rows: layers)", style="bold"),
        heat_map(found.effects),
        Text("\nwhere the top heads look, from the last position", style="bold"),
        *(_shaded(address, found.tokens, row) for address, row in found.attention.items()),
        Text("\n") + closure(found),
    )


def effects(found: Effects, k: int = 12) -> RenderableType:
    """Effects of any method: the largest, each with its bootstrap interval, the heat map where
    there are heads, and the receipt."""
    top = found.top(k)
    ends = top.interval().tolist()
    rows = [
        (address, f"{value:+.4f}", f"{low:+.4f} to {high:+.4f}" if low == low else "one prompt")
        for (address, value), (low, high) in zip(top, ends, strict=True)
    ]
    parts: list[RenderableType] = [
        Text(
            f"{found.method}: change of the {found.metric}, {float(found.base.mean()):+.4f} in "
            "the run that is patched",
            style="bold",
        ),
        table("", ("address", ">effect", "95% interval"), rows),
    ]
    if len(found.heads()):
        parts += [Text("each head (rows: layers)", style="bold"), heat_map(found)]
    if found.receipt:
        parts.append(
            Text(
                f"{len(found)} patches: {found.receipt}",
                style="dim" if found.receipt.changed else "bold red",
            )
        )
    return Group(*parts)


def closure(found: Why) -> Text:
    """The line that says whether the effects sum to the metric."""
    c = found.closure
    verdict = ("holds", "green") if c.holds else ("DOES NOT HOLD", "bold red")
    return Text.assemble(
        f"sum of {len(found.effects)} direct effects {c.total:+.6f} = logit difference "
        f"{c.metric:+.6f}: ",
        verdict,
        f" (gap {c.gap:.1e}, rounding bound {c.bound:.1e})",
    )


def circuit(
    found: Circuit, faithful: Faithfulness, complete: Sequence[Removal], minimal: Sequence[Need]
) -> RenderableType:
    """A circuit's roles, and how it does by the three criteria."""
    worst, least = (
        sorted(complete, key=lambda each: -each.gap)[:12],
        sorted(minimal, key=lambda each: -abs(each.change)),
    )
    removed = [
        (each.name, f"{each.circuit:+.3f}", f"{each.model:+.3f}", f"{each.gap:.3f}")
        for each in worst
    ]
    needed = [
        (
            each.node,
            found.role(each.node),
            f"{each.before:+.3f}",
            f"{each.after:+.3f}",
            " ".join(each.others) or "nothing",
        )
        for each in least
    ]
    return Group(
        Panel(str(found), title="circuit", title_align="left", border_style="dim"),
        Text(f"faithfulness: {faithful}", style="bold"),
        *(
            [
                table(
                    "\ncompleteness: the same heads K taken from both, the worst first",
                    ("K", ">F(C\\K)", ">F(M\\K)", ">gap"),
                    removed,
                )
            ]
            if worst
            else []
        ),
        *(
            [
                table(
                    "\nminimality: each head where others (K) are gone",
                    ("head", "role", ">F(C\\K)", ">and without it", "K"),
                    needed,
                )
            ]
            if least
            else []
        ),
    )


def heat_map(found: Effects, width: int = 7) -> Text:
    """Layers x heads, each cell its number on its colour."""
    grid = found.grid()
    bound = float(grid.nan_to_num().abs().max()) or 1.0
    text = Text(
        "     " + "".join(f"{head:>{width}}" for head in range(grid.shape[1])) + "\n", style="dim"
    )
    for layer, row in enumerate(grid.tolist()):
        text.append(f"{layer:>4} ", style="dim")
        for value in row:
            text.append(f"{value:>+{width}.2f}", style=f"black on {mix(value / bound)}")
        text.append("\n" if layer + 1 < len(grid) else "")
    return text


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; columns that begin with '>' are set to the right."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _tokens(tokens: Sequence[str]) -> Text:
    return Text.assemble(
        *((token, "on grey19" if i % 2 else "on grey30") for i, token in enumerate(tokens))
    )


def _predictions(found: Why) -> Table:
    rows = [
        (
            repr(t.text),
            f"{t.probability:6.1%}",
            f"{t.logit:.3f}",
            "\u2588" * round(24 * t.probability),
        )
        for t in found.top
    ]
    return table("what the model says next", ("token", ">probability", ">logit", ""), rows)


def _pushes(pushes: Sequence[Push], title: str, colour: str) -> Table:
    rows = [
        (
            p.address,
            f"{p.effect:+.3f}",
            ", ".join(f"{t.text!r} {t.probability:.2f}" for t in p.looked),
            " ".join(map(repr, p.promotes[:4])),
        )
        for p in pushes
    ]
    made = table(title, ("node", ">effect", "looked at", "promotes"), rows)
    made.title_style = f"bold {colour}"
    return made


def _shaded(address: str, tokens: Sequence[str], weights: Sequence[float]) -> Text:
    cells = (
        (token, f"black on {mix(weight)}" if weight >= 0.02 else "dim")
        for token, weight in zip(tokens, weights, strict=True)
    )
    return Text.assemble((f"{address:<6} ", "bold"), *cells)


def mix(share: float) -> str:
    """A colour between white (0) and FOR (1) or AGAINST (-1); NaN is white."""
    end, part = (FOR if share > 0 else AGAINST), min(abs(share), 1.0) if share == share else 0.0
    return "rgb(" + ",".join(str(round(245 + (channel - 245) * part)) for channel in end) + ")"
