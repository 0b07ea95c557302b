"""The server: the API and the page on one application, behind the guard, on one socket."""

from __future__ import annotations

import socket
import threading
import time
import warnings
import webbrowser

import uvicorn
from fastapi import FastAPI

from interp.debugger import api
from interp.debugger.guard import Guard
from interp.debugger.session import Session
from interp.debugger.workers import Workers
from minigpt.errors import MiniGPTError, NoEffectWarning


def application(session: Session, workers: Workers, host: str = "127.0.0.1") -> FastAPI:
    """The API and the page, answering to the loopback's names and to `host`."""
    # NiceGUI changes a process on import: only one that serves pages has it.
    from interp.debugger import page

    app = api.build(session, workers)
    page.build(app, session, workers)
    app.add_middleware(Guard, names=[host])
    return app


def serve(
    session: Session, host: str = "127.0.0.1", port: int = 8080, *, show: bool = True
) -> None:
    """Serve until interrupted. MiniGPTError where the port cannot be had."""
    bound, workers = _socket(host, port), Workers()
    _quiet()
    server = uvicorn.Server(
        uvicorn.Config(
            application(session, workers, host),
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    if show:
        url = f"http://{host}:{bound.getsockname()[1]}/"
        threading.Thread(target=_open, args=(server, url), daemon=True).start()
    try:
        server.run(sockets=[bound])
    finally:
        workers.close()


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


def _open(server: uvicorn.Server, url: str) -> None:
    """Open the page in a browser, once there is something to see."""
    while not server.started:
        time.sleep(0.05)
    webbrowser.open(url)
