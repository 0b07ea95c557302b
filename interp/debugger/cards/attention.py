"""Where the selected head looks, from every position to every earlier one; click a cell to pin it."""

from __future__ import annotations

from nicegui import ui

from interp.debugger import attention
from interp.debugger.attention import Attention, Pattern
from interp.debugger.cards import charts, tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.question import Question
from interp.debugger.session import Runs
from minigpt import parse
from minigpt.errors import MiniGPTError

# Prompts longer than this show the selected position's row alone: a map of a million cells says nothing.
MAP = 96
KINDS = {"weights": ("pattern", "attention weights; each row sums to 1"),
         "weighted": ("weighted by values", "each weight times the length of the vector taken from there")}


class AttentionCard(Card):
    """The pattern, and the same weighted by what is taken."""

    name, title = "attention", "Attention"
    hint = "A row is the position that looks, a column the one looked at. Hover for the number; click to pin the pair, and see what was taken from there."
    depends = ("node",)

    def wanted(self, question: Question) -> bool:
        """Whether a head is selected."""
        return head(question.node) != ""

    def compute(self, runs: Runs) -> Attention:
        """The head's patterns."""
        return attention.attention(runs, head(runs.question.node))

    def draw(self, found: Attention) -> None:
        """Each side's two maps."""
        query, key = place(self.view.question.node)
        with ui.element("div").classes("maps"):
            for side in found.sides:
                for kind, (title, words) in KINDS.items():
                    with ui.element("div"):
                        widgets.heading(f"{found.head} {title}{f', {side.side}' if len(found.sides) > 1 else ''}").tooltip(words)
                        self._map(side, found.head, kind, query, key)

    def _map(self, side: Pattern, name: str, kind: str, query: int, key: int | None) -> None:
        values, labels = getattr(side, kind), [f"{i} {tokens.visible(token)}" for i, token in enumerate(side.tokens)]
        queries = list(range(len(labels))) if len(labels) <= MAP else [query]
        cells = [(u, i, values[t][u], f"{name} from {labels[t]} to {labels[u]}: {values[t][u]:.3f}") for i, t in enumerate(queries) for u in range(t + 1)]
        top = 1.0 if kind == "weights" else max((cell[2] for cell in cells), default=1.0) or 1.0
        pinned = None if key is None or query not in queries else (key, queries.index(query))
        charts.heat(cells, labels, [labels[t] for t in queries], signed=False, top=top, height=92 + max(15 * len(queries), 30), pinned=pinned, rotate=60,
                    on_click=lambda u, i: self.propose(node=f"{name}@{queries[i]}<{u}")).props(f'data-testid="map-{kind}"')


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
