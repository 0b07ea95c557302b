"""The server: the API and the page on one application, behind the guard, on one socket."""

from __future__ import annotations

import socket
import threading
import time
import warnings
import webbrowser
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from interp.debugger import api, component_page
from interp.debugger.arrival import Arrival, Punctual
from interp.debugger.departure import Departure
from interp.debugger.guard import Guard
from interp.debugger.session import Session
from interp.debugger.workers import Workers
from minigpt.errors import MiniGPTError, NoEffectWarning


def application(session: Session, workers: Workers, host: str = "127.0.0.1") -> FastAPI:
    """The API and the page, answering to the loopback's names and to `host`."""
    # NiceGUI changes a process on import: only one that serves pages has it.
    from interp.debugger import handshake, page

    app = api.build(session, workers, [component_page.build])
    page.build(app, session, workers)
    handshake.check()
    return protected(app, host)


def protected(app: FastAPI, host: str = "127.0.0.1") -> FastAPI:
    """The same behind the guard; from the outside in: who, what, and for how long."""
    app.add_middleware(Departure)
    app.add_middleware(Arrival)
    app.add_middleware(Guard, names=[host])
    return app


def serve(
    load: Callable[[], Session],
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    show: bool = True,
    at: str = "/",
) -> None:
    """Listen, say where, load the models, and serve until interrupted; at: the page to begin with.
    MiniGPTError where the port cannot be had."""
    bound, workers = _socket(host, port), Workers()
    url = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}{at}"
    print(f"{url} listens; the model is still loading", flush=True)
    with bound:
        _run(application(load(), workers, host), bound, workers, url, show)


def _run(app: FastAPI, bound: socket.socket, workers: Workers, url: str, show: bool) -> None:
    made = server(app)
    threading.Thread(target=_once_up, args=(made, url, show), daemon=True).start()
    try:
        made.run(sockets=[bound])
    finally:
        workers.close()


def server(app: FastAPI) -> uvicorn.Server:
    """The server of an application."""
    _quiet()
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Punctual,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )


def _quiet() -> None:
    """Two warnings that tell nobody anything here."""
    # A patch that changes nothing says so on the page, in its receipt.
    warnings.filterwarnings("ignore", category=NoEffectWarning)
    # NiceGUI looks through every living object for its server; torch warns of some that are merely
    # looked at.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")


def _socket(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise MiniGPTError(
            f"--host {host} --port {port}: {error.strerror or error}",
            "an address of this machine, a port that is free",
            f"--port {port + 1}",
        ) from error


def _once_up(server: uvicorn.Server, url: str, show: bool) -> None:
    """Say so once there is something to see, and open it in a browser."""
    while not server.started:
        time.sleep(0.05)
    print(f"{url} is ready; Ctrl+C ends it", flush=True)
    if show:
        webbrowser.open(url)
