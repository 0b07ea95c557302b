"""The API against requests that nobody would type: schemathesis makes them up from the OpenAPI
page, malformed ones and well-formed nonsense."""

from __future__ import annotations

from collections import Counter

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.testclient import TestClient

import weights
from interp.debugger import api, export
from interp.debugger.session import Session

pytestmark = pytest.mark.filterwarnings(
    "ignore::minigpt.errors.NoEffectWarning", "ignore::DeprecationWarning"
)

APP = api.build(Session({"ioi-mini": weights.load("ioi-mini")}))
OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_asgi("/api/openapi.json", APP).get_all_operations()
]
POSTS = [operation for operation in OPERATIONS if operation.method.upper() == "POST"]
GENERATED = hypothesis.settings(
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
    database=None,
)


def bombard(operation, mode: GenerationMode, requests: int) -> Counter[int]:
    """Send so many made-up requests; how often each status came back."""
    seen: Counter[int] = Counter()

    @hypothesis.settings(GENERATED, max_examples=requests)
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def send(case):
        reply = case.call()
        seen[reply.status_code] += 1
        case.validate_response(reply, checks=[not_a_server_error, response_schema_conformance])

    send()
    assert TestClient(APP).get("/api/models").status_code == 200
    return seen


def test_every_result_is_bombarded():
    paths = {operation.path for operation in POSTS}
    assert {f"/api/{name}" for name in export.RESULTS} <= paths
    assert {"/api/totals/stream", "/api/export/{name}", "/api/link"} <= paths


@pytest.mark.parametrize("mode", GenerationMode, ids=str)
@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.path)
def test_made_up_requests_are_answered_or_refused(operation, mode):
    assert max(bombard(operation, mode, 12)) < 500


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode, ids=str)
@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.path)
def test_ten_thousand_made_up_requests_are_answered_or_refused(operation, mode):
    seen = bombard(operation, mode, -(-10_000 // (2 * len(POSTS))))
    assert max(seen) < 500
    assert seen.total() * 2 * len(POSTS) >= 8_000


def test_twin_a_server_that_breaks_is_seen():
    app = api.build(Session({}))

    @app.post("/api/broken")
    async def broken(question: dict) -> dict:
        raise RuntimeError(str(question))

    # Before the road that answers for whatever is not there.
    app.router.routes.insert(0, app.router.routes.pop())
    (operation,) = [
        o
        for o in (
            found.ok()
            for found in schemathesis.openapi.from_asgi(
                "/api/openapi.json", app
            ).get_all_operations()
        )
        if o.path == "/api/broken"
    ]
    with pytest.raises(RuntimeError):
        bombard(operation, GenerationMode.POSITIVE, 3)
