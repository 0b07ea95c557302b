"""The selected node: where it looked, what it wrote, what can be asked and done about it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from html import escape

from nicegui import ui

from interp.debugger import details, intervene, numbers
from interp.debugger.cards import tokens, widgets
from interp.debugger.cards.card import Card
from interp.debugger.details import Details, Looked, Promoted, SideDetails
from interp.debugger.links import COMPONENTS, link
from interp.debugger.question import notes_of
from interp.debugger.session import Runs
from minigpt.errors import MiniGPTError

ACTS = {
    "zero": "Ablate (zero)",
    "mean": "Ablate (mean)",
    "scale": "Scale",
    "set": "Set to",
    "freeze": "Freeze",
    "other": "Take from the second prompt",
    "push": "Push to the answer",
}
assert set(ACTS) == set(intervene.OPERATIONS)


class DetailsCard(Card):
    """One column; the buttons are the next questions."""

    name, title = "details", "Selected node"
    hint = (
        "What it read and wrote. Promoted tokens: what its write adds to their logits through "
        "the final LayerNorm's scale, over the mean token."
    )
    depends = ("node", "graph", "pins", "notes")

    def compute(self, runs: Runs) -> Details | None:
        """The details; None where no node is selected. The steps are those of a new trail: what
        goes on an old one stands under it."""
        fresh = replace(runs, question=replace(runs.question, trail=()))
        k = 6 if runs.right is None else 4
        return details.details(fresh, runs.question.node, k=k) if runs.question.node else None

    def draw(self, result: Details | None) -> None:
        """Name, next questions, what can be done, what it read and wrote."""
        if result is None:
            widgets.note(
                "Click a row of the table: what the node read and wrote will be here, and what "
                "can be asked and done about it."
            )
            return
        with ui.element("div").classes("name"):
            none = partial(self.propose, node="")
            widgets.symbol("close", none, "deselect", "Select no node", size="xs")
            ui.label(result.address).classes("mono big").props("data-testid=selected")
            ui.html(f"{escape(result.kind)} at {result.position} {tokens.chip(result.token)}")
        self._component(result)
        for side in result.sides:
            ui.html(_side(side, len(result.sides) > 1))
        if result.steps:
            self._steps(result)
        self._acts(result)

    def _component(self, result: Details) -> None:
        """What it does on a corpus, where one was run."""
        model = self.view.question.model
        if model in self.view.session.stores and result.kind in COMPONENTS:
            name = result.address.partition("@")[0]
            ui.link(f"{name} on a corpus", link(model, name)).props("data-testid=component")
            if sentence := self.view.session.stores[model].sentence(name):
                ui.label(sentence).classes("explained").props("data-testid=explained")

    def _steps(self, result: Details) -> None:
        widgets.heading("Trace upstream")
        with ui.element("div").classes("acts"):
            for step, words in result.steps.items():
                widgets.button(_step(step), partial(self._trace, step), f"trace {step}", hint=words)

    async def _trace(self, step: str) -> None:
        await self.propose(trail=(step,), tab="trace")

    def _acts(self, result: Details) -> None:
        target, q = result.address, self.view.question
        widgets.heading("Intervene")
        with ui.element("div").classes("acts"):
            for operation, label in ACTS.items():
                if operation == "other" and not q.other:
                    continue
                if operation == "set" and result.kind not in ("neuron", "latent"):
                    continue
                if operation == "scale":
                    self.factor = ui.number(value=0.5, step=0.5).classes("factor")
                    self.factor.props("dense outlined data-testid=factor aria-label=Number")
                act, hint = (
                    partial(self._act, operation, target),
                    intervene.OPERATIONS[operation][1],
                )
                widgets.button(label, act, f"act-{operation}", hint=hint)
            self._more(result)

    def _more(self, result: Details) -> None:
        """What else can be done with the node: cut into parts, put into the graph."""
        whole, graph = result.address.partition("<")[0], self.view.question.graph
        if result.kind == "mlp":
            name = whole.partition("@")[0]
            widgets.button("Split into neurons", lambda: self._split("neurons", name), "split-node")
            if name in self.view.session.models[self.view.question.model].params.dictionaries:
                cut = partial(self._split, "latents", name)
                widgets.button("Split into latents", cut, "split-latents")
        if result.kind == "head":
            name = whole.partition("@")[0]
            widgets.button("Split by source", lambda: self._split("keys", name), "split-node")
        label = "Drop from the graph" if whole in graph else "Add to the graph"
        widgets.button(label, lambda: self._graph(whole), "to-graph")
        if whole in graph:
            self._marks(whole)

    def _marks(self, node: str) -> None:
        """A node of the graph is pinned, and has a note."""
        q = self.view.question
        label = "Unpin" if node in q.pins else "Pin"
        widgets.button(label, partial(self._pin, node), "pin", hint="Always draw its edges")
        note = widgets.field("note in the graph", "graph-note", "copies the name")
        note.set_value(notes_of(q).get(node, ""))
        for done in ("blur", "keydown.enter"):
            note.on(done, lambda: self._note(node, note.value or ""))

    async def _pin(self, node: str) -> None:
        pins = self.view.question.pins
        without = tuple(pin for pin in pins if pin != node)
        await self.propose(pins=without if node in pins else (*pins, node))

    async def _note(self, node: str, text: str) -> None:
        known = {**notes_of(self.view.question), node: " ".join(text.split())}
        await self.propose(notes=tuple(f"{at} {said}" for at, said in known.items() if said))

    async def _split(self, by: str, name: str) -> None:
        split = tuple(dict.fromkeys((*self.view.question.split, by)))
        await self.propose(split=split, find=name, tab="nodes")

    async def _act(self, operation: str, target: str) -> None:
        factor = self.factor.value if operation in intervene.NUMBERED else None
        try:
            line = intervene.line(operation, target, factor)
        except MiniGPTError as error:
            self.say(str(error))
            return
        lines = self.view.question.patches
        others = tuple(other for other in lines if intervene.target(other) != target)
        await self.propose(patches=(*others, line))

    async def _graph(self, target: str) -> None:
        graph = self.view.question.graph
        without = tuple(node for node in graph if node != target)
        await self.propose(graph=without if target in graph else (*graph, target))


def _step(step: str) -> str:
    """A step upstream in two words; the whole question is its tooltip."""
    port = step.partition("@")[0].rpartition(".")[2]
    return {"q": "its query", "k": "its key", "v": "what it takes"}.get(
        port, "why it is on" if port.startswith("n") else "query and key"
    )


def _side(side: SideDetails, named: bool) -> str:
    """What one side's node read and wrote, as tables side by side."""
    parts = [_looked(side.looked, len(side.promotes))] if side.looked else []
    parts += [_made(side.made_of)] if side.made_of else []
    parts += [_list("Switched on by", side.inputs, "for")] if side.inputs else []
    parts += [
        _list("Promotes", side.promotes, "for"),
        _list("Suppresses", side.suppresses, "against"),
    ]
    return (
        f"<div class=small-title>{escape(side.side)}</div>" if named else ""
    ) + f"<div class='lists{' four' * (len(parts) > 3)}'>{''.join(parts)}</div>"


def _made(rows: tuple[Promoted, ...]) -> str:
    """What a latent's score is the sum of, by the nodes' names."""
    cells = "".join(
        f"<tr><td class=mono>{escape(row.token)}<td class='n {numbers.sign(row.effect)}'>"
        f"{numbers.signed(row.effect)}"
        for row in rows
    )
    return f"<table><thead><tr><th>Its score is made of<th></thead>{cells}</table>"


def _looked(rows: tuple[Looked, ...], k: int) -> str:
    cells = "".join(
        f"<tr><td>{row.position} {tokens.chip(row.token)}<td class=n>{numbers.plain(row.weight)}"
        f"<i class=bar style='width:{100 * row.weight:.1f}%'></i>"
        for row in rows[:k]
    )
    return (
        "<table><thead><tr><th title='The positions with most of its attention, and their "
        f"weights.'>Looked at<th class=n></thead>{cells}</table>"
    )


def _list(title: str, rows: tuple[Promoted, ...], sign: str) -> str:
    cells = "".join(
        f"<tr><td>{tokens.chip(row.token)}<td class='n {sign}'>{numbers.signed(row.effect)}"
        for row in rows
    )
    return f"<table><thead><tr><th>{title}<th></thead>{cells}</table>"
