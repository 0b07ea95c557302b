"""The JSON API: /api/..., one POST a result, a question as its body. It calls the same functions as
the page and computes nothing itself.

Every answer is JSON, every refusal and failure too (refusal.py). Long work (totals, graph, pathmap)
also comes as a stream, a JSON record a line.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from interp.debugger import export, refusal
from interp.debugger.attention import Attention
from interp.debugger.details import Details
from interp.debugger.effort import seconds
from interp.debugger.graph import Graph, graphs
from interp.debugger.lens import LensTable
from interp.debugger.nodes import DEFINITIONS, Table
from interp.debugger.openapi_page import reference
from interp.debugger.pathmap import PathMap, pathmaps
from interp.debugger.question import Question
from interp.debugger.refusal import Refusal
from interp.debugger.session import Runs, Session
from interp.debugger.summary import Summary
from interp.debugger.totals import Totals, totals
from interp.debugger.upstream import Upstream
from interp.debugger.workers import Workers
from minigpt import GPT2
from minigpt.errors import MiniGPTError
from minigpt.params import tensors

RECORDS = {
    "summary": Summary,
    "nodes": Table,
    "details": Details,
    "attention": Attention,
    "totals": Totals,
    "upstream": Upstream,
    "graph": Graph,
    "pathmap": PathMap,
    "lens": LensTable,
}
STREAMS: dict[str, Callable[[Runs], Iterator[Any]]] = {"graph": graphs, "pathmap": pathmaps}
LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-ndjson": {}}, "description": "a record a line"}
}
Name = Literal[
    "summary", "nodes", "details", "attention", "totals", "upstream", "graph", "pathmap", "lens"
]
Format = Literal["json", "csv", "python"]
MEDIA = {"json": "application/json", "csv": "text/csv", "python": "text/x-python"}


@dataclass(frozen=True)
class Model:
    """A model that questions can be asked of."""

    name: str
    n_layer: int
    n_head: int
    d_model: int
    d_mlp: int
    n_ctx: int
    n_vocab: int
    parameters: int


# What adds routes of its own.
Part = Callable[[FastAPI, Session, Workers], None]


def build(session: Session, workers: Workers | None = None, parts: Sequence[Part] = ()) -> FastAPI:
    """The application with its OpenAPI page at /api/docs, and the routes of parts; the page is put
    onto it by page.build(app, session, workers)."""
    pool = workers or Workers()
    app = FastAPI(
        title="Why does a GPT-2 say what it says?",
        description=__doc__ or "",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={400: {"model": Refusal}, 422: {"model": Refusal}, 503: {"model": Refusal}},
    )
    _add_facts(app, session)
    for name in RECORDS:
        _add_result(app, session, pool, name)
    _add_totals(app, session, pool)
    for name in STREAMS:
        _add_stream(app, session, pool, name)
    _add_export(app, session, pool)
    for part in parts:
        part(app, session, pool)
    refusal.install(app)
    return app


def facts(session: Session) -> list[Model]:
    """The models that questions can be asked of."""
    return [_model(name, model) for name, model in session.models.items()]


def _add_facts(app: FastAPI, session: Session) -> None:
    """What needs no run: the reference, the models, the definitions of the columns, and links."""

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(app.openapi()))

    @app.get("/api/models")
    async def models() -> list[Model]:
        return facts(session)

    @app.get("/api/views")
    async def views() -> dict[str, str]:
        return {} if session.saved is None else session.saved.all()

    @app.get("/api/definitions")
    async def definitions() -> dict[str, str]:
        return DEFINITIONS

    @app.get("/api/question")
    async def question(request: Request) -> Question:
        return Question.from_url(request.query_params.multi_items())

    @app.post("/api/link")
    async def link(question: Question) -> dict[str, str]:
        return {"url": question.to_url()}


def _add_result(app: FastAPI, session: Session, workers: Workers, name: str) -> None:
    """POST /api/NAME: one result of a question."""

    @app.post(
        f"/api/{name}",
        response_model=RECORDS[name],
        name=name,
        summary=(RECORDS[name].__doc__ or "").partition("\n")[0],
    )
    async def result(question: Question, request: Request) -> Response:
        record = await _computed(session, workers, question, name, _client(request))
        return Response(export.as_json(record), media_type="application/json")


def _add_totals(app: FastAPI, session: Session, workers: Workers) -> None:
    """POST /api/totals/stream: of these addresses, as they are computed, a record a line; of every
    head and MLP where none are given."""

    @app.post(
        "/api/totals/stream",
        name="totals as a stream",
        response_class=StreamingResponse,
        responses=LINES,
    )
    async def stream(
        question: Question, addresses: Annotated[list[str] | None, Body()] = None
    ) -> StreamingResponse:
        return await _streamed(workers, lambda: totals(session.runs(question), addresses))


def _add_stream(app: FastAPI, session: Session, workers: Workers, name: str) -> None:
    """POST /api/NAME/stream: the same as it is computed, a record a line."""

    @app.post(
        f"/api/{name}/stream",
        name=f"{name} as a stream",
        response_class=StreamingResponse,
        responses=LINES,
    )
    async def stream(question: Annotated[Question, Body(embed=True)]) -> StreamingResponse:
        return await _streamed(workers, lambda: STREAMS[name](session.runs(question)))


async def _computed(
    session: Session, workers: Workers, question: Question, name: str, client: Hashable
) -> Any:
    """A result, so much at a time as a stream would give, so that others get their turns."""
    took = seconds(session.models, question, name)
    mine: dict[str, Any] = {"seconds": took, "client": client}
    runs = await workers.run(lambda: session.runs(question), **mine)
    if (items := export.stepwise(runs, name)) is None:
        return await workers.run(lambda: export.result(runs, name), **mine)
    last = None
    async for step in workers.stream(items, **mine):
        last = step
    return last


def _client(request: Request) -> Hashable:
    """Whose request it is: all of one machine's programs are one client."""
    return None if request.client is None else request.client.host


async def _streamed(workers: Workers, start: Callable[[], Iterator[Any]]) -> StreamingResponse:
    """What cannot be asked is refused before the first line."""
    return StreamingResponse(
        _lines(workers, await workers.run(start)), media_type="application/x-ndjson"
    )


async def _lines(workers: Workers, items: Iterator[Any]) -> AsyncIterator[str]:
    """Records as lines; an error on the way is the last line."""
    try:
        async for item in workers.stream(items):
            yield export.as_json(item) + "\n"
    except MiniGPTError as error:
        yield json.dumps(asdict(Refusal(str(error)))) + "\n"


def _add_export(app: FastAPI, session: Session, workers: Workers) -> None:
    """POST /api/export/NAME: a result as a file."""

    @app.post(
        "/api/export/{name}",
        name="export",
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in MEDIA.values()}}},
    )
    async def exported(
        name: Name, question: Question, request: Request, format: Format = "json"
    ) -> Response:
        if format == "python":
            text = export.as_python(question, name)
        else:
            record = await _computed(session, workers, question, name, _client(request))
            text = await workers.run(
                lambda: export.as_file(session.runs(question), name, record, format)
            )
        ending = {"python": "py"}.get(format, format)
        return Response(
            text,
            media_type=MEDIA[format],
            headers={"content-disposition": f'attachment; filename="{name}.{ending}"'},
        )


def _model(name: str, model: GPT2) -> Model:
    c = model.config
    return Model(
        name,
        c.n_layer,
        c.n_head,
        c.d_model,
        c.d_mlp,
        c.n_ctx,
        c.n_vocab,
        sum(x.numel() for x in tensors(model.params).values()),
    )
