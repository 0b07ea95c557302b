"""What docs/latents.md shows runs as it stands there, and each number in it is what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "latents.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict:
    found: dict = {}
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    exec(compile(code, "docs/latents.md", "exec"), found)
    return found


def said(pattern: str) -> float:
    """The number that the page says."""
    return float(re.search(pattern, PAGE)[1])


def test_what_the_mlp_adds_and_its_largest_latents(names):
    rows = dict(names["m3"])
    assert said(r"`m3` adds \+([0-9.]+)\.") == pytest.approx(names["whole"], abs=0.005)
    largest = sorted((e for n, e in rows.items() if ".l" in n), reverse=True)[:3]
    for latent, effect in re.findall(r"`(m3\.l\d+)` with \+([0-9.]+)", PAGE):
        assert rows[latent] == pytest.approx(float(effect), abs=0.005)
        assert rows[latent] in largest
    assert names["name"] == "m3.l325"
    assert largest[0] < names["whole"] / 5
    assert said(r"the error adds \+([0-9.]+)\.") == pytest.approx(rows["m3.e"], abs=0.005)
    trace = names["trace"]
    assert int((trace.act("m3.l@-1") > 0).sum()) == said(r"latents (\d+) are on")
    assert (trace.act("m3.l325")[0] > 0).nonzero().flatten().tolist() == [13]


def test_each_claim_is_what_an_intervention_says(names):
    assert said(r"falls by ([0-9.]+): less") == pytest.approx(names["lost"], abs=0.005)
    assert names["lost"] < names["effect"]
    assert said(r"dropped it is ([0-9.]+),") == pytest.approx(names["replaced"], abs=0.005)
    assert said(r"with it ([0-9.]+)\.") == pytest.approx(names["clean"], abs=0.005)


def test_why_it_is_on(names):
    made, heads = names["made"], names["heads"]
    assert float(made.per_prompt.sum()) == pytest.approx(float(made.base[0]), abs=1e-6)
    assert said(r"the score of ([0-9.]+) falls") == pytest.approx(float(made.base[0]), abs=0.005)
    assert heads.top(1).addresses == ("a0.6",)
    assert said(r"falls by ([0-9.]+), without the name") == pytest.approx(-heads["a0.6"], abs=0.005)
    assert said(r"`a3\.4` by ([0-9.]+)\.") == pytest.approx(-heads["a3.4"], abs=0.005)


def test_the_feature_graph_and_where_it_disagrees(names):
    edges = {(e.sender, e.receiver): e for e in names["drawn"].edges}
    edge = edges["m3.l279@13", "out"]
    assert said(r"is worth ([0-9.]+) to the answer") == pytest.approx(edge.exact, abs=0.05)
    assert said(r"answer, ([0-9.]+) by the linear") == pytest.approx(edge.linear, abs=0.05)
