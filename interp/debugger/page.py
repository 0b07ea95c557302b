"""The page: one question, and a card for every way to look at its answer. It computes nothing;
every number comes from the functions beside it."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request
from nicegui import ui

from interp.debugger import cards
from interp.debugger.cards.attention import AttentionCard
from interp.debugger.cards.card import Card
from interp.debugger.cards.details import DetailsCard
from interp.debugger.cards.form import Form
from interp.debugger.cards.graph import GraphCard
from interp.debugger.cards.interventions import InterventionsCard
from interp.debugger.cards.keys import Act, keys
from interp.debugger.cards.pathmap import PathMapCard
from interp.debugger.cards.summary import SummaryCard
from interp.debugger.cards.table import TableCard
from interp.debugger.cards.upstream import UpstreamCard
from interp.debugger.cards.view import View
from interp.debugger.cards.welcome import Welcome
from interp.debugger.session import Session
from interp.debugger.workers import Workers


def build(app: FastAPI, session: Session, workers: Workers | None = None) -> None:
    """Put the page onto an application, at /. It computes in these workers, or in its own."""
    pool = workers or Workers()

    @ui.page("/", title="Ask a model why")
    async def _(request: Request) -> None:
        await _page(session, pool, request.url.query)

    ui.run_with(app, tailwind=False, show_welcome_message=False, dark=None, reconnect_timeout=10)


async def _page(session: Session, workers: Workers, query: str) -> None:
    """One tab."""
    view = View(session, workers, ui.context.client)
    _head()
    _top(view)
    with ui.element("div").classes("page"):
        _body(view)
    ui.on("address", lambda event: view.open(event.args))
    await view.client.connected()
    await view.open(query)
    view.client.on_connect(view.resume)


def _head() -> None:
    looks = {
        name: files(cards).joinpath(name).read_text("utf-8") for name in ("style.css", "script.js")
    }
    ui.add_head_html(f"<style>{looks['style.css']}</style><script>{looks['script.js']}</script>")


def _top(view: View) -> None:
    """The bar at the top: where the page is, which model, what is always at hand."""
    dark = ui.dark_mode(None)
    with ui.element("header").classes("top"):
        ui.link("minigpt debugger", "/").classes("brand")
        ui.label(", ".join(view.session.models)).classes("model")
        ui.element("div").classes("space")
        ui.button("Copy link", icon="link", on_click=lambda: _run("debuggerPage.copy()")).props(
            "flat dense no-caps"
        ).props("data-testid=copy-link")
        ui.button("API", on_click=lambda: ui.navigate.to("/api/docs")).props(
            "flat dense no-caps data-testid=api"
        )
        ui.button(icon="contrast", on_click=lambda: _run("debuggerPage.turn()")).props(
            "flat dense round aria-label='Light or dark'"
        ).props("data-testid=dark").tooltip("Light or dark (d)")
        help_ = keys(_acts())
        ui.button(icon="keyboard", on_click=help_.open).props(
            "flat dense round aria-label=Keys"
        ).props("data-testid=keys").tooltip("Keys (?)")
    ui.on("dark", lambda event: dark.set_value(event.args))


def _body(view: View) -> None:
    """The cards in the order in which they are read, which is the order in which they are
    filled."""
    with ui.element("div").classes("all"):
        form = Form(view)
    welcome = Welcome(view.session.models)
    with ui.element("div").classes("column all"):
        top: list[Card] = [SummaryCard(view), InterventionsCard(view)]
    with ui.element("div").classes("column"):
        left: list[Card] = [
            TableCard(view),
            AttentionCard(view),
            UpstreamCard(view),
            GraphCard(view),
        ]
    with ui.element("div").classes("column"):
        right: list[Card] = [DetailsCard(view), PathMapCard(view)]
    view.followers = [form, welcome, *top, left[0], right[0], *left[1:], right[1]]


def _acts() -> dict[str, tuple[str, Act]]:
    """What each key does."""
    click = "debuggerPage.click({!r})"
    return {
        "/": ("type a prompt", lambda: _run("document.querySelector('#form textarea').focus()")),
        "t": ("to the node table", lambda: _run("debuggerPage.table()")),
        "z": ("ablate the selected node", lambda: _run(click.format("act-zero"))),
        "o": ("take it from the second prompt", lambda: _run(click.format("act-other"))),
        "g": ("add it to the graph, or drop it", lambda: _run(click.format("to-graph"))),
        "u": ("undo an intervention", lambda: _run(click.format("undo"))),
        "r": ("redo it", lambda: _run(click.format("redo"))),
        "c": (
            "cancel long work",
            lambda: _run("document.querySelector('.cancel:not(.hidden)')?.click()"),
        ),
        "d": ("light or dark", lambda: _run(click.format("dark"))),
    }


def _run(script: str) -> None:
    ui.run_javascript(script)
