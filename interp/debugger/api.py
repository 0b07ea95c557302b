"""The JSON API: /api/..., one POST a result, a question as its body. It calls the same functions as
the page and computes nothing itself.

Every answer is JSON, every refusal too: {"detail": what was given, what is legal, what to type}.
Long work (totals, graph, pathmap) also comes as a stream, a JSON record a line; when the client
goes away, nothing more of it is computed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from interp.debugger import export
from interp.debugger.attention import Attention
from interp.debugger.details import Details
from interp.debugger.graph import Graph, graphs
from interp.debugger.lens import LensTable
from interp.debugger.nodes import DEFINITIONS, Table
from interp.debugger.openapi_page import reference
from interp.debugger.pathmap import PathMap, pathmaps
from interp.debugger.question import MAX_PROMPTS, MAX_TOKENS, Question
from interp.debugger.session import Runs, Session
from interp.debugger.summary import Summary
from interp.debugger.totals import Totals, totals
from interp.debugger.upstream import Upstream
from interp.debugger.workers import Busy, Workers
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


@dataclass(frozen=True)
class Refusal:
    """Why a request was refused: what was given, what is legal, what to type."""

    detail: str


def build(session: Session, workers: Workers | None = None) -> FastAPI:
    """The application with its OpenAPI page at /api/docs; the page is put onto it by
    page.build(app, session, workers)."""
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
    app.add_exception_handler(MiniGPTError, _refused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    _add_facts(app, session)
    for name in RECORDS:
        _add_result(app, session, pool, name)
    _add_totals(app, session, pool)
    for name in STREAMS:
        _add_stream(app, session, pool, name)
    _add_export(app, session, pool)
    return app


def _add_facts(app: FastAPI, session: Session) -> None:
    """What needs no run: the reference, the models, the definitions of the columns, and links."""

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(app.openapi()))

    @app.get("/api/models")
    async def models() -> list[Model]:
        return [_model(name, model) for name, model in session.models.items()]

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
    async def result(question: Question) -> Response:
        text = await workers.run(
            lambda: export.as_json(export.result(session.runs(question), name))
        )
        return Response(text, media_type="application/json")


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
        request: Request, question: Question, addresses: Annotated[list[str] | None, Body()] = None
    ) -> StreamingResponse:
        return await _streamed(request, workers, lambda: totals(session.runs(question), addresses))


def _add_stream(app: FastAPI, session: Session, workers: Workers, name: str) -> None:
    """POST /api/NAME/stream: the same as it is computed, a record a line."""

    @app.post(
        f"/api/{name}/stream",
        name=f"{name} as a stream",
        response_class=StreamingResponse,
        responses=LINES,
    )
    async def stream(
        request: Request, question: Annotated[Question, Body(embed=True)]
    ) -> StreamingResponse:
        return await _streamed(request, workers, lambda: STREAMS[name](session.runs(question)))


async def _streamed(
    request: Request, workers: Workers, start: Callable[[], Iterator[Any]]
) -> StreamingResponse:
    """What cannot be asked is refused before the first line."""
    return StreamingResponse(
        _lines(request, workers, await workers.run(start)), media_type="application/x-ndjson"
    )


async def _lines(request: Request, workers: Workers, items: Iterator[Any]) -> AsyncIterator[str]:
    """Records as lines while somebody listens; an error on the way is the last line."""
    try:
        async for item in workers.stream(items):
            if await request.is_disconnected():
                return
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
    async def exported(name: Name, question: Question, format: Format = "json") -> Response:
        def file() -> str:
            runs = session.runs(question)
            return export.as_file(runs, name, export.result(runs, name), format)

        python = format == "python"
        text = export.as_python(question, name) if python else await workers.run(file)
        ending = {"python": "py"}.get(format, format)
        return Response(
            text,
            media_type=MEDIA[format],
            headers={"content-disposition": f'attachment; filename="{name}.{ending}"'},
        )


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(asdict(Refusal(str(error))), 503 if isinstance(error, Busy) else 400)


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    """What does not fit the schema: where, and why; never what was sent, which may be no text at
    all."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:8]]
    legal = (
        f"a question as /api/docs has it: up to {MAX_TOKENS:,} tokens a prompt, {MAX_PROMPTS} "
        "prompts"
    )
    return JSONResponse(
        asdict(
            Refusal("; ".join(found).encode("utf-8", "replace").decode() + f"\n  legal: {legal}")
        ),
        422,
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
