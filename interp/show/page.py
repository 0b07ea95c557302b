"""Pages that need nothing but themselves: one HTML file with its script, styles and data inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from interp import figures
from interp.effects import Effects
from interp.why import Push, Token, Why

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --line: #dfe4ea; --paper: #fff; --panel: #f6f8fa; --for: 33,102,172; --against: 178,24,43 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa7b4; --line: #2e3843; --paper: #11161c; --panel: #1a2129; --for: 88,166,235; --against: 235,110,110 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 980px; margin: 2.5rem auto; padding: 0 1.2rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem } h2 { font-size: 1.1rem; margin: 2.4rem 0 .5rem } h3 { font-size: .95rem; margin: 1.2rem 0 .3rem } p { margin: .4rem 0 } .soft { color: var(--soft) }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums } th { text-align: left; font-weight: 600; color: var(--soft) }
th, td { padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top } .n { text-align: right; white-space: nowrap } code, .t { font-family: ui-monospace, monospace; font-size: .92em }
.t { white-space: pre; border-radius: 3px; padding: .05em .15em; background: var(--panel) } .for { color: rgb(var(--for)) } .against { color: rgb(var(--against)) }
.prompt { font-family: ui-monospace, monospace; line-height: 2; white-space: pre-wrap } .prompt span { border-radius: 3px; padding: .15em 0 } .wide { overflow-x: auto }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence that says what is to be seen, and HTML or a figure."""

    heading: str
    text: str
    body: str | go.Figure


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """One self-contained HTML document. Title and text are escaped; bodies are HTML already."""
    parts = [
        f"<section>{f'<h2>{escape(s.heading)}</h2>' if s.heading else ''}{f'<p class=soft>{escape(s.text)}</p>' if s.text else ''}<div "
        f"class=wide>{_body(s.body)}</div></section>"
        for s in sections
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        f"content='width=device-width'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script><h1>{escape(title)}</h1><p "
        f"class=soft>{escape(subtitle)}</p>{''.join(parts)}</html>"
    )


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML; columns that begin with '>' are set to the right. Everything is escaped."""
    side = ["n" if column.startswith(">") else "" for column in columns]
    head = "".join(
        f"<th class='{s}'>{escape(column.lstrip('>'))}"
        for column, s in zip(columns, side, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td class='{s}'>{escape(cell)}" for cell, s in zip(row, side, strict=True))
        for row in rows
    )
    return f"{f'<h3>{escape(title)}</h3>' if title else ''}<table><tr>{head}{body}</table>"


def save(html: str, path: Path) -> None:
    """Write a page to a file."""
    path.write_text(html, encoding="utf-8")


def why_page(found: Why) -> str:
    """The answer to `interp why` as a page."""
    title = f"Why does {found.model} say {found.answer!r} rather than {found.over!r}?"
    count = len(found.effects)
    return page(
        title,
        f"Logit difference {found.difference:+.3f}. {' '.join(found.notes)}",
        [
            Section(
                "The prompt",
                f"{len(found.tokens)} tokens; the model is asked for the next one.",
                _tokens(found.tokens),
            ),
            Section(
                "What the model says next", "The most probable tokens.", _predictions(found.top)
            ),
            Section(
                f"What pushes for {found.answer!r}",
                "Direct effects: what each node's write adds to the logit difference.",
                _pushes(found.toward_answer, "for"),
            ),
            Section(
                f"What pushes for {found.over!r}",
                "The same, against the answer.",
                _pushes(found.toward_other, "against"),
            ),
            Section(
                "Every head",
                "Layers from top to bottom, heads from left to right. Hover for the number.",
                figures.grid(found.effects.grid(), "direct effect of each head"),
            ),
            Section(
                "Every node",
                "The largest of all nodes; an MLP counts as one.",
                found.effects.top(20).figure(),
            ),
            Section(
                "Where the top heads look",
                "Attention from the last position.",
                figures.attention(found.tokens, found.attention),
            ),
            Section(
                "When the answer takes shape",
                "The metric as it would be if the model stopped there.",
                figures.lens(dict(found.lens), found.lens.metric),
            ),
            Section(
                "Does it add up?",
                "Every bias is a node, so nothing is left over but rounding.",
                f"<p>Sum of {count} direct effects <b>{found.closure.total:+.6f}</b>, logit "
                f"difference <b>{found.closure.metric:+.6f}</b>; gap "
                f"{found.closure.gap:.1e}, at most {found.closure.bound:.1e} by the rounding "
                "bound.</p>",
            ),
        ],
    )


def effects_page(found: Effects, prompts: Sequence[str]) -> str:
    """Effects of any method as a page: prompts, heat map, bars, receipt."""
    base = float(found.base.mean())
    sections = [
        Section(
            "The prompts",
            "Clean, then corrupt; the first pair, cut into its tokens.",
            "".join(f"<p class=prompt>{escape(p)}</p>" for p in prompts),
        )
    ]
    if len(found.heads()):
        sections.append(
            Section(
                "Every head",
                "Change of the metric; layers from top to bottom.",
                figures.grid(found.grid(), found.method),
            )
        )
    sections.append(
        Section(
            "The largest",
            "Mean over prompts.",
            figures.bars(dict(found.top(24)), found.metric, found.method),
        )
    )
    if found.receipt:
        sections.append(
            Section(
                "Receipt",
                "What was really done.",
                f"<p>{len(found)} patches: {escape(str(found.receipt))}</p>",
            )
        )
    return page(
        f"{found.method}",
        f"{found.metric} {base:+.4f} in the run that is patched, mean over prompts: "
        f"{found.per_prompt.shape[1]}",
        sections,
    )


def _body(body: str | go.Figure) -> str:
    return (
        body
        if isinstance(body, str)
        else body.to_html(
            full_html=False,
            include_plotlyjs=False,
            config={"displayModeBar": False, "responsive": True},
        )
    )


def _token(text: str) -> str:
    return f"<span class=t>{escape(text)}</span>"


def _tokens(tokens: Sequence[str]) -> str:
    shades = [
        f"<span style='background:var(--{'panel' if i % 2 else 'line'})' title='position "
        f"{i}'>{escape(t)}</span>"
        for i, t in enumerate(tokens)
    ]
    return f"<div class=prompt>{''.join(shades)}</div>"


def _predictions(top: Sequence[Token]) -> str:
    rows = [
        f"<tr><td>{_token(t.text)}<td class=n>{t.probability:.1%}<td class=n>{t.logit:.3f}"
        "<td style='width:60%'><div "
        f"style='height:.9em;width:{100 * t.probability:.2f}%;background:rgb(var(--for))'></div>"
        for t in top
    ]
    return (
        f"<table><tr><th>token<th class=n>probability<th class=n>logit<th>{''.join(rows)}</table>"
    )


def _pushes(pushes: Sequence[Push], side: str) -> str:
    rows = [
        f"<tr><td><code>{p.address}</code><td class='n {side}'>{p.effect:+.3f}"
        f"<td>{', '.join(f'{_token(t.text)} {t.probability:.2f}' for t in p.looked) or '<span class=soft>no attention</span>'}"
        f"<td>{' '.join(map(_token, p.promotes))}<td>{' '.join(map(_token, p.suppresses))}"
        for p in pushes
    ]
    return (
        "<table><tr><th>node<th class=n>effect<th>looked "
        f"at<th>promotes<th>suppresses{''.join(rows)}</table>"
    )
