"""The API's own description as a page that loads nothing from elsewhere, as FastAPI's would:
operations, then records with their fields."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from interp.show.page import STYLE


def reference(schema: Mapping[str, Any]) -> str:
    """One HTML document from an OpenAPI schema."""
    rows = [
        _operation(path, method, each)
        for path, methods in schema["paths"].items()
        for method, each in methods.items()
    ]
    records = [
        _record(name, each)
        for name, each in schema["components"]["schemas"].items()
        if "properties" in each
    ]
    table = f"<table><tr><th>request<th>body<th>answer<th>{''.join(rows)}</table>"
    return (
        "<!doctype html><html lang=en><meta "
        f"charset=utf-8><title>{escape(schema['info']['title'])}</title><style>{STYLE}</style>"
        f"<h1>{escape(schema['info']['title'])}</h1><p "
        f"style='white-space:pre-line'>{escape(schema['info']['description'])}</p>"
        "<p>For programs: <a "
        f"href=openapi.json>openapi.json</a></p>{table}{''.join(records)}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [_media(operation.get("requestBody", {})), _media(operation["responses"]["200"])]
    cells = "".join(f"<td>{part}" for part in parts)
    return (
        f"<tr><td><code>{method.upper()} "
        f"{escape(path)}</code>{cells}<td>{escape(operation.get('summary', ''))}"
    )


def _media(body: Mapping[str, Any]) -> str:
    """What a request or an answer holds, by its types."""
    return "<br>".join(
        _type(media.get("schema", {})) or escape(kind)
        for kind, media in body.get("content", {}).items()
    )


def _record(name: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(_field(field, kind) for field, kind in schema["properties"].items())
    text = f"<p style='white-space:pre-line'>{escape(schema.get('description', ''))}</p>"
    table = f"<table><tr><th>field<th>type<th>default{rows}</table>"
    return f"<h2 id={escape(name)}>{escape(name)}</h2>{text}{table}"


def _field(name: str, kind: Mapping[str, Any]) -> str:
    default = escape(repr(kind["default"])) if "default" in kind else ""
    return f"<tr><td><code>{escape(name)}</code><td>{_type(kind)}<td><code>{default}</code>"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words, a record as a link to it."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href=#{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    return escape(str(schema.get("type", "")))
