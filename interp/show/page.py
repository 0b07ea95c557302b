"""A document as a page that needs nothing but itself: one HTML file with its script, styles and
data inside. What it comes to stands first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from interp import figures
from interp.figures.figure import html, script
from interp.show.document import (
    Attention,
    Block,
    Document,
    HeatMap,
    Paragraph,
    Picture,
    Prompt,
    Section,
    Span,
    Table,
    Text,
    Texts,
    Words,
    spans,
)
from minigpt.shown import table as rows

STYLE = """
.document {
  color-scheme: light dark;
  --ink: #1d2733; --soft: #5b6875; --line: #dfe4ea; --paper: #fff; --panel: #f6f8fa;
  --for: 33,102,172; --against: 178,24,43; --good: #1a7f37; --warn: #9a6700;
}
@media (prefers-color-scheme: dark) {
  .document {
    --ink: #e6edf3; --soft: #9aa7b4; --line: #2e3843; --paper: #11161c; --panel: #1a2129;
    --for: 88,166,235; --against: 235,110,110; --good: #3fb950; --warn: #d29922;
  }
}
.document {
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 980px; padding: 0 1.2rem;
  & h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem }
  & h2 { font-size: 1.1rem; margin: 2.4rem 0 .5rem }
  & h3 { font-size: .95rem; margin: 1.2rem 0 .3rem }
  & p { margin: .4rem 0 }
  & table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
  & th { text-align: left; font-weight: 600; color: var(--soft) }
  & :is(th, td) {
    padding: .28rem .7rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top
  }
  & .n { text-align: right; white-space: nowrap }
  & :is(code, .code, .t) { font-family: ui-monospace, monospace; font-size: .92em }
  & .t { white-space: pre; border-radius: 3px; padding: .05em .15em; background: var(--panel) }
  & a { color: rgb(var(--for)) }
  & .strong { font-weight: 600 }
  & .soft { color: var(--soft) }
  & .for { color: rgb(var(--for)) }
  & .good { color: var(--good) }
  & .warn { color: var(--warn) }
  & :is(.against, .bad) { color: rgb(var(--against)) }
  & .bad { font-weight: 600 }
  & .prompt { font-family: ui-monospace, monospace; line-height: 2; white-space: pre-wrap }
  & .prompt span { border-radius: 3px; padding: .15em 0 }
  & .wide { overflow-x: auto }
  & .lit { display: flex; gap: .8rem; padding: .35rem 0; border-bottom: 1px solid var(--line) }
  & .lit > :first-child { flex: 0 0 4.5rem; text-align: right; color: var(--soft) }
  & .lit > :last-child {
    font-family: ui-monospace, monospace; font-size: .88em; white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  & .lit b { font-weight: inherit; border-bottom: 2px solid var(--ink) }
  & .lit i { font-style: normal; border-bottom: 2px dotted var(--ink) }
}
body.document { margin: 2.5rem auto }
"""
# A document with more headings than this begins with a list of them.
CONTENTS = 9


def document(shown: Document, above: str = "") -> str:
    """One self-contained HTML document. Whatever text it is given is escaped, but for what stands
    above it, which is HTML."""
    blocks = [block for section in shown.sections for block in section.blocks]
    drawn = any(isinstance(block, HeatMap | Attention | Picture) for block in blocks)
    return plain(shown.title, above + _body(shown), script() if drawn else "")


def plain(title: str, body: str, head: str = "") -> str:
    """A page of HTML in the look of documents."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style>{head}"
        f"<body class=document>{body}</html>"
    )


def fragment(shown: Document) -> str:
    """The same as a part of another page, which has plotly's script."""
    return f"<style>{STYLE}</style><div class=document>{_body(shown)}</div>"


def _body(shown: Document) -> str:
    lines = "".join(f"<p>{_words(words)}" for words in shown.verdict)
    about = f"<p class=soft>{escape(shown.about)}" if shown.about else ""
    sections = "".join(map(_section, shown.sections))
    return f"<h1>{escape(shown.title)}</h1>{lines}{about}{_contents(shown)}{sections}"


def save(made: str, path: Path) -> None:
    """Write a page to a file."""
    path.write_text(made, encoding="utf-8")


def table(shown: Table) -> str:
    """A table as HTML."""
    title = f"<h3>{escape(shown.title)}</h3>" if shown.title else ""
    cells = ([_words(cell) for cell in row] for row in shown.rows)
    return title + rows(shown.columns, cells)


def _section(section: Section) -> str:
    heading = f"<h2 id='{_anchor(section)}'>{escape(section.heading)}</h2>"
    aside = f"<p class=soft>{escape(section.aside)}" if section.aside else ""
    text = f"<p class=soft>{escape(section.text)}" if section.text else ""
    blocks = "".join(
        f"<div class=wide tabindex=0>{_block(shown)}</div>" for shown in section.blocks
    )
    return f"<section>{heading if section.heading else ''}{aside}{text}{blocks}</section>"


def _contents(shown: Document) -> str:
    headed = [section for section in shown.sections if section.heading]
    links = (f"<a href='#{_anchor(s)}'>{escape(s.heading)}</a>" for s in headed)
    return f"<p>{' · '.join(links)}" if len(headed) > CONTENTS else ""


def _anchor(section: Section) -> str:
    return "".join(c if c.isalnum() else "-" for c in section.heading.lower())


def _block(shown: Block) -> str:
    match shown:
        case Paragraph(words):
            return f"<p>{_words(words)}"
        case Prompt(tokens):
            return _tokens(tokens)
        case Table():
            return table(shown)
        case HeatMap(title, values):
            return html(figures.grid(values, title, shown.rows, shown.columns))
        case Attention(tokens, weights):
            return html(figures.attention(tokens, weights))
        case Texts(rows):
            return f"<div class=texts>{''.join(map(_lit, rows))}</div>"
        case Picture(figure):
            return html(figure)


def _words(words: Words) -> str:
    return "".join(map(_span, spans(words)))


def _span(span: Span) -> str:
    if span.link:
        return f"<a href='{escape(span.link, quote=True)}'>{_span(span._replace(link=''))}</a>"
    if not span.style and not span.hint:
        return escape(span.text)
    style = "t" if span.style == "token" else span.style
    hint = f" title='{escape(span.hint, quote=True)}'" if span.hint else ""
    return f"<span class='{style}'{hint}>{escape(span.text)}</span>"


def _tokens(tokens: Sequence[str]) -> str:
    shades = (
        f"<span style='background:var(--{'panel' if i % 2 else 'line'})' title='position {i}'>"
        f"{escape(token)}</span>"
        for i, token in enumerate(tokens)
    )
    return f"<div class=prompt>{''.join(shades)}</div>"


def _lit(row: Text) -> str:
    """A text on the colours of its tokens, the one that is meant underlined."""
    label = escape(row.label)
    if row.link:
        label = f"<a href='{escape(row.link, quote=True)}'>{label}</a>"
    pieces = zip(row.tokens, row.shares, strict=True)
    words = "".join(_piece(row, i, token, share) for i, (token, share) in enumerate(pieces))
    return f"<div class=lit><span>{label}</span><span>{words}</span></div>"


def _piece(row: Text, i: int, token: str, share: float) -> str:
    """A token; NaN has no colour."""
    kind = "b" if i == row.at else "i" if i == row.to else "span"
    side, depth = ("for" if share > 0 else "against"), min(1.0, abs(share))
    known = share == share and depth >= 0.02
    colour = f" style='background:rgba(var(--{side}),{0.5 * depth:.2f})'" if known else ""
    shown = escape(token.replace("\n", "\u21b5"))
    return f"<{kind}{colour} title='position {i}'>{shown}</{kind}>"
