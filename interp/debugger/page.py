"""The page: one question in a strip that stays, its answer in views one of which is in front, and
an inspector beside them. It computes nothing; every number comes from the functions beside it."""

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
from interp.debugger.cards.lens import LensCard
from interp.debugger.cards.next import NextCard
from interp.debugger.cards.pathmap import PathMapCard
from interp.debugger.cards.saved import SavedViews
from interp.debugger.cards.strip import StripCard
from interp.debugger.cards.table import TableCard
from interp.debugger.cards.tabs import Tabs
from interp.debugger.cards.upstream import UpstreamCard
from interp.debugger.cards.view import View
from interp.debugger.cards.welcome import Welcome
from interp.debugger.session import Session
from interp.debugger.workers import Workers

# On the left, one in front; on the right, one below the other.
VIEWS: tuple[type[Card], ...] = (TableCard, UpstreamCard, GraphCard, PathMapCard, LensCard)
INSPECTOR: tuple[type[Card], ...] = (DetailsCard, AttentionCard, NextCard)


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
        if (saved := view.session.saved) is not None:
            views = SavedViews(view, saved)
            ui.button("Views", icon="bookmarks", on_click=views.open).props(
                "flat dense no-caps data-testid=views"
            )
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
    """The question, the strip that stays, the views on the left, the inspector on the right; filled
    in the order in which they are read."""
    with ui.element("div").classes("strip-place"), ui.element("div").classes("broad"):
        form = Form(view)
        strip: list[Card] = [StripCard(view), InterventionsCard(view)]
    welcome = Welcome(view.session)
    with ui.element("main").classes("page"):
        with ui.element("div").classes("column main-views"):
            tabs = Tabs(view)
            views = [make(view) for make in VIEWS]
        with ui.element("aside").classes("column inspector").props("aria-label=Inspector"):
            inspector = [make(view) for make in INSPECTOR]
    view.followers = [form, welcome, tabs, *reversed(strip), *views, *inspector]


def _acts() -> dict[str, tuple[str, Act]]:
    """What each key does."""
    click = "debuggerPage.click({!r})"
    return {
        "/": ("change the question", lambda: _run("debuggerPage.edit()")),
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
