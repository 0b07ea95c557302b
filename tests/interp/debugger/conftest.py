"""A client of the debugger's API, without a network."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from interp.debugger import api
from interp.debugger.guard import Guard
from interp.debugger.session import Session
from tests.interp.debugger.questions import MODEL


@pytest.fixture(scope="module")
def client():
    app = api.build(Session({"ioi-mini": MODEL}))
    with TestClient(Guard(app), base_url="http://127.0.0.1:8080") as client:
        yield client
