"""One document, two renderers: what is read on a page is read in a terminal, but for pictures."""

from __future__ import annotations

import io
import re
from html import unescape

import plotly.graph_objects as go
import pytest
import torch
from rich.console import Console

from interp.show import document as doc
from interp.show import page, terminal

WORDS = ["one ", doc.Span("two", "good", hint="a <hint>"), doc.Span(" three", "token")]
MAP = doc.HeatMap("a map", torch.tensor([[1.0, -0.5], [torch.nan, 0.0]]))
FIGURE = go.Figure(go.Bar(x=[1], y=[2]))


def shown(*blocks: doc.Block, **fields) -> doc.Document:
    return doc.Document("a title", [doc.Section("a heading", "a text", blocks)], **fields)


def in_a_terminal(document: doc.Document) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(terminal.document(document))
    return console.file.getvalue()


def on_a_page(document: doc.Document) -> str:
    """What a reader sees of it: no scripts, no styles, no tags."""
    html = re.sub(r"<(script|style)>.*?</\1>", "", page.document(document), flags=re.S)
    return unescape(re.sub(r"<[^>]*>", " ", html))


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (doc.Paragraph(WORDS), ["one", "two", "three"]),
        (doc.Prompt(["When", " Mary"]), ["When", "Mary"]),
        (
            doc.Table("rows", ("left", ">right"), [("a", "1.5"), (WORDS, "")]),
            ["rows", "1.5", "two"],
        ),
    ],
)
def test_words_and_tables_are_read_on_both(block, parts):
    document = shown(block, verdict=["it holds"], about="of a model")
    for text in (in_a_terminal(document), on_a_page(document)):
        for part in ("a title", "a heading", "a text", "it holds", "of a model", *parts):
            assert part in text


def test_a_twin_that_draws_less_is_noticed():
    """Were a block left out, the comparison above would fail."""
    assert "one" not in in_a_terminal(shown())
    assert "one" not in on_a_page(shown())


def test_a_picture_is_a_pages_and_its_heading_with_it():
    document = shown(doc.Picture(FIGURE))
    assert "a heading" not in in_a_terminal(document)
    assert "Plotly.newPlot" in page.document(document)
    assert "a heading" in on_a_page(document)


def test_what_a_terminal_shows_instead_of_a_picture():
    text = in_a_terminal(shown(doc.Picture(FIGURE, MAP)))
    assert "a heading" in text
    assert "+1.00" in text


def test_a_map_has_its_numbers_and_signs_costs_have_none():
    text = in_a_terminal(shown(MAP))
    assert [*re.findall(r"[+-]?\d\.\d\d", text)] == ["+1.00", "-0.50", "+0.00"]
    assert "nan" not in text
    costs = in_a_terminal(shown(doc.HeatMap("costs", torch.tensor([[2.0]]), digits=0, costs=True)))
    assert re.search(r"^ +0 +2$", costs, re.M)


def test_where_heads_look_is_drawn_on_both():
    looks = doc.Attention(["When", " Mary"], {"a2.6": [0.1, 0.9]})
    assert "a2.6   When Mary" in in_a_terminal(shown(looks))
    assert "a2.6" in page.document(shown(looks))


def test_a_terminal_shows_as_many_columns_as_it_is_said_to():
    table = doc.Table("", ("first", "second"), [("a", "b")], narrow=1)
    assert "second" not in in_a_terminal(shown(table))
    assert "second" in on_a_page(shown(table))


def test_whatever_text_is_given_is_escaped():
    evil = "<img src=x onerror='1'>"
    table = doc.Table(evil, (evil,), [(doc.Span(evil, "code", hint=evil),)])
    html = page.document(
        doc.Document(evil, [doc.Section(evil, evil, [table, doc.Prompt([evil])])], [evil], evil)
    )
    assert "<img" not in html
    assert on_a_page(shown(table)).count(evil) == 3


def test_a_long_document_begins_with_its_headings():
    sections = [doc.Section(f"part {i}", "") for i in range(page.CONTENTS + 1)]
    html = page.document(doc.Document("long", sections))
    for i in range(len(sections)):
        assert f"<a href='#part-{i}'>part {i}</a>" in html
        assert f"<h2 id='part-{i}'>" in html
    assert "href" not in page.document(doc.Document("short", sections[:-1])).split("</script>")[-1]


def test_a_table_as_plain_values_is_its_text():
    table = doc.Table("rows", ("left",), [(WORDS,)])
    assert table.to_dict() == {"title": "rows", "columns": ["left"], "rows": [["one two three"]]}


def test_a_heat_map_wider_than_the_terminal_comes_in_parts(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    values = torch.arange(12.0).view(2, 6)
    shown = doc.HeatMap("map", values, rows=["first", "second"], columns=list("abcdef"))
    text = terminal.heat_map(shown).plain
    assert text.splitlines() == [
        "map",
        "             a      b      c      d",
        " first   +0.00  +1.00  +2.00  +3.00",
        "second   +6.00  +7.00  +8.00  +9.00",
        "             e      f",
        " first   +4.00  +5.00",
        "second  +10.00 +11.00",
    ]
