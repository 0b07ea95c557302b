"""Figures where no script runs: the still picture says what the figure does, and comes with it."""

from __future__ import annotations

import re
from base64 import b64decode
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest
import torch

from interp import figures
from interp.audit import charts
from interp.figures import figure as shown
from interp.figures.still import KINDS, svg
from interp.show import document as doc
from interp.show import here
from tests.test_architecture import OURS

EVIL = "<script>alert('1')</script>"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(figure: go.Figure, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg(figure)).iter(SVG + kind))


def words(figure: go.Figure) -> list[str]:
    return [text.text or "" for text in drawn(figure, "text")]


def wide(rect: ElementTree.Element) -> float:
    return float(rect.get("width"))


def test_bars_are_as_long_as_their_values_and_coloured_by_their_sign():
    figure = figures.bars({"a0.1": 4.0, "m3": -2.0, "emb": 1.0}, "logit difference", "effects")
    long, back, short = drawn(figure, "rect")
    assert wide(long) == pytest.approx(2 * wide(back), abs=0.2)
    assert wide(long) == pytest.approx(4 * wide(short), abs=0.2)
    assert [bar.get("fill") for bar in (long, back, short)] == [
        figures.FOR,
        figures.AGAINST,
        figures.FOR,
    ]
    assert float(back.get("x")) + wide(back) == pytest.approx(float(long.get("x")), abs=0.2)
    assert {"a0.1", "m3", "emb", "logit difference", "effects", "0"} <= {*words(figure)}


def test_cells_have_their_numbers_colours_and_nan_has_none():
    values = torch.tensor([[1.0, -1.0], [torch.nan, 0.0]])
    cells = [rect for rect in drawn(figures.grid(values, "map"), "rect") if wide(rect) > 20]
    assert [cell.get("fill") for cell in cells] == [figures.FOR, figures.AGAINST, "#f7f7f7"]
    first, right, below = cells
    assert first.get("y") == right.get("y") < below.get("y")
    assert right.get("x") == below.get("x")


def test_on_a_logarithmic_axis_equal_factors_are_equally_far():
    figure = charts.growth({"float32": {"a": 1e-7, "b": 1e-5, "c": 1e-3}}, "growth")
    heights = [float(point.get("cy")) for point in drawn(figure, "circle")]
    first, second = (a - b for a, b in pairwise(heights))
    assert first == pytest.approx(second, abs=0.2)
    assert first > 20
    assert {"1e-7", "1e-3"} <= {*words(figure)}


def test_what_has_no_place_on_an_axis_is_left_out():
    growth = {"a": 1e-7, "b": 0.0, "c": None, "d": 1e-3}
    assert len(drawn(charts.growth({"float32": growth}, "growth"), "circle")) == 2


@pytest.mark.parametrize(
    "figure",
    [
        figures.bars({}, "logit", "nothing"),
        figures.bars({"m3": 0.0}, "logit", "nothing"),
        figures.diagram({}, [], "nothing"),
        figures.grid(torch.zeros(1, 1), "nothing"),
        figures.grid(torch.full((1, 2), torch.nan), "nothing"),
        go.Figure(),
    ],
)
def test_a_figure_of_nothing_is_a_picture_of_nothing(figure):
    signs = (figures.FOR, figures.AGAINST)
    assert not [r for r in drawn(figure, "rect") if wide(r) > 20 and r.get("fill") in signs]
    assert "nan" not in svg(figure)


def test_the_heads_of_a_circuit_are_named_and_an_arrow_ends_short_of_both():
    roles = {"a0.1@S2": "early", "a2.6@END": "mover"}
    figure = figures.diagram(roles, [("a0.1@S2", "a2.6@END")], "circuit")
    assert {"a0.1", "a2.6", "early", "mover", "S2", "END"} <= {*words(figure)}
    (arrow,) = [path for path in drawn(figure, "path") if path.get("marker-end")]
    ends = [float(x) for x in re.findall(r"-?[\d.]+", arrow.get("d"))]
    spots = [float(x) for c in drawn(figure, "circle") for x in (c.get("cx"), c.get("cy"))]
    assert ends != pytest.approx(spots, abs=5)
    assert ends == pytest.approx(spots, abs=13)


def test_weighted_arrows_are_blue_for_and_red_against_and_as_wide_as_they_are_strong():
    roles = dict.fromkeys(("emb@0", "m0.l3@0", "m0.l5@0", "m2.l7@1"), "node") | {"out@1": "output"}
    edges = {("emb@0", "m0.l3@0"): 2.0, ("m0.l3@0", "out@1"): -1.0, ("m0.l5@0", "m2.l7@1"): 0.0}
    figure = figures.diagram(roles, edges, "graph", {"0": "0 'a'", "1": "1 ' b'"})
    assert {"l3", "l5", "l7", "emb", "out", "tokens", "output", "1 ' b'", "1"} <= {*words(figure)}
    arrows = [path for path in drawn(figure, "path") if path.get("marker-end")]
    assert [a.get("stroke") for a in arrows[:2]] == [figures.FOR, figures.AGAINST]
    widths = [float(a.get("stroke-width")) for a in arrows]
    assert widths[0] > widths[1] > widths[2] > 0
    places = {(c.get("cx"), c.get("cy")) for c in drawn(figure, "circle")}
    assert len(places) >= len(roles)


def test_a_layer_s_mlp_is_drawn_above_its_heads():
    roles = dict.fromkeys(("a1.0@0", "m1.l3@0", "a2.0@0"), "node")
    figure = figures.diagram(roles, [("a1.0@0", "m1.l3@0")], "graph")
    early, latent, late = (float(c.get("cy")) for c in drawn(figure, "circle")[:3])
    assert early > latent > late


def test_patterns_side_by_side_have_a_panel_each_under_its_name():
    heads = {name: torch.eye(3) for name in ("a0.1", "a1.0")}
    figure = figures.patterns(["x", " y", "z"], heads)
    cells = [rect for rect in drawn(figure, "rect") if wide(rect) > 20]
    assert len(cells) == 18
    assert {"a0.1", "a1.0", "1 ' y'"} <= {*words(figure)}


def test_every_kind_of_mark_that_the_project_draws_is_drawn_still():
    used = {kind for text in OURS.values() for kind in re.findall(r"\bgo\.([A-Z]\w*)\(", text)}
    assert {kind.lower() for kind in used} == {*KINDS}


def test_twin_a_kind_that_is_not_says_so():
    assert "pie: drawn only where scripts run" in words(go.Figure(go.Pie(values=[1, 2])))


def test_whatever_text_is_given_is_escaped():
    figure = figures.bars({EVIL: 1.0}, EVIL, EVIL)
    assert words(figure).count(EVIL) == 3
    assert EVIL not in svg(figure)
    assert EVIL not in shown.html(figure)


def test_a_figure_shows_with_its_still_picture_and_fetches_nothing():
    figure = figures.bars({"m3": 1.0}, "logit", "effects")
    bundle = figure._repr_mimebundle_()
    assert [*bundle] == ["text/html", "image/svg+xml", "text/plain"]
    still = re.search(r"src=\"data:image/svg\+xml;base64,([^\"]*)", bundle["text/html"])[1]
    assert b64decode(still).decode() == bundle["image/svg+xml"] == svg(figure)
    assert bundle["text/plain"] == repr(figure) == "Figure('effects')"
    assert not re.search(r"<(script|img|link)[^>]*(src|href)=.?http", bundle["text/html"])


class Kernel:
    """As much of a notebook's kernel as a figure asks."""

    def __init__(self) -> None:
        self.ran = 0

    def runs(self, cell: str | None) -> None:
        self.ran, self.cell = self.ran + 1, cell

    def get_parent(self) -> dict:
        return {"metadata": {"cellId": self.cell}, "header": {"msg_id": str(self.ran)}}


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(shown, "kernel", lambda: kernel)
    return kernel


def test_plotlys_script_is_in_a_notebook_once(kernel):
    for cell, there in [("a", True), ("b", False), ("a", True), ("c", False)]:
        kernel.runs(cell)
        assert [bool(shown.library()) for _ in range(3)] == [there, False, False]


def test_where_cells_have_no_ids_the_first_brings_it(kernel):
    for there in (True, False):
        kernel.runs(None)
        assert bool(shown.library()) == there


def test_a_figure_is_shown_below_the_cell_and_so_is_a_document(kernel, monkeypatch):
    below: list = []
    display = SimpleNamespace(display=below.append, HTML=lambda html: html)
    monkeypatch.setitem(shown.sys.modules, "IPython", SimpleNamespace(display=display))
    kernel.runs("a")
    figure = figures.bars({"m3": 1.0}, "logit", "effects")
    figure.show()
    here.show(doc.Document("a title", [doc.Section("", "", [doc.Picture(figure)])]))
    assert below[0] is figure
    assert "<h1>a title</h1>" in below[1]
    assert "data-figure" in below[1]


def test_elsewhere_a_document_is_printed(capsys):
    here.show(doc.Document("a title", [], ["it holds"]))
    assert "a title" in (said := capsys.readouterr().out)
    assert "it holds" in said
