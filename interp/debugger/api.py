"""The JSON API: /api/..., one POST a result, a question as its body. It calls the same functions as the page and computes nothing itself."""

from __future__ import annotations

from fastapi import FastAPI

from interp.debugger.session import Session


def build(session: Session) -> FastAPI:
    """The application with its OpenAPI page at /api/docs; the page is put onto it by page.build(app, session)."""
    raise NotImplementedError
