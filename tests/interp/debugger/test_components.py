"""The page of a component: what the store holds, a link to the question at each example, one's own
text; the same as JSON; and in a browser."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from itertools import islice

import pytest
import torch
from starlette.testclient import TestClient

from interp.corpus.documents import documents
from interp.corpus.make import make
from interp.corpus.measure import Settings
from interp.corpus.says import neighbours
from interp.debugger import api, component_page, start
from interp.debugger.question import Question
from interp.debugger.session import Session
from interp.explain.explain import explain
from minigpt.errors import AddressError
from tests.browser import needs_chromium, served
from tests.interp.corpus.test_collate import MODEL as LETTERED
from tests.interp.debugger.questions import ASKED, MODEL
from tests.interp.debugger.tab import tab_of
from tests.interp.debugger.test_debugger_look import serious
from weights.catalog import CONCEPTS, EXPLAINED

SETTINGS = Settings(top=6, bottom=3, sample=10)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    some = list(islice(documents([CONCEPTS]), 60))
    return make(MODEL, some, tmp_path_factory.mktemp("store"), SETTINGS, progress=False)


@pytest.fixture
def explained(store):
    """As long as this lasts, the store's components are explained."""
    path = store.folder / EXPLAINED.name
    shutil.copy(EXPLAINED, path)
    yield
    path.unlink()


@pytest.fixture(scope="module")
def client(store):
    session = Session({"ioi-mini": MODEL}, stores={"ioi-mini": store})
    app = start.protected(api.build(session, parts=[component_page.build]))
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        yield client


@pytest.mark.slow
def test_each_example_leads_to_the_question_at_that_node(client, store):
    page = client.get("/component/a2.6").text
    links = re.findall(r"href='/\?([^']+)'", page)
    example = store.component("a2.6").of("top")[0]
    asked = Question.from_url(unescape(links[0]))
    assert asked.prompt == example.before
    assert asked.node == f"a2.6@{example.at}"
    assert client.post("/api/details", json={"prompt": asked.prompt, "node": asked.node}).json()
    for said in ("Where it is largest", "How its numbers are spread", "Where it looks", "copies"):
        assert said in page
    assert "Where it is smallest" not in page
    assert "Where it is smallest" in client.get("/component/m1.n3").text


def test_the_example_has_the_number_there_that_it_has_in_the_question(store):
    for name in ("m1.n3", "m3.n200"):
        example = store.component(name).of("top")[0]
        run = MODEL.run(store.windows[example.window][None])
        assert float(run.act(f"{name}@{example.at}")[0]) == example.value


def test_ones_own_text_is_lit_and_escaped(client):
    page = client.get("/component/m1.n3", params={"text": "When Mary <b> and John"}).text
    assert "Your text" in page
    assert "&lt;" in page
    assert "<b> and" not in page


def test_as_json(client, store):
    found = store.component("m2.n7")
    reply = client.get("/api/component/m2.n7").json()
    assert reply["mean"] == found.mean
    assert len(reply["examples"]) == len(found.examples)
    said = client.get("/api/explanation/m2.n7@13").json()
    expected = json.loads(json.dumps(explain(found).to_dict()).replace("NaN", "null"))
    assert said == expected
    names = [row["address"] for row in client.get("/api/components?find=%20Mary").json()]
    assert names == [name for name, _ in store.find(" Mary", k=40)]
    assert len(names) > 3


def test_explanations_that_were_made_are_searched_and_shown(client, store, explained):
    found = client.get("/api/components?words=number").json()
    assert found
    assert all("number" in row["sentence"] for row in found)
    page = client.get("/components?words=number").text
    assert all(row["address"] in page for row in found)
    assert found[0]["sentence"] in unescape(page)


def test_neighbours_are_those_that_write_most_nearly_in_its_direction(client):
    own, every = MODEL.params.blocks[1].w_out[3], {}
    for layer, block in enumerate(MODEL.params.blocks):
        cosines = torch.cosine_similarity(block.w_out, own[None], dim=1)
        every |= {f"m{layer}.n{i}": float(x) for i, x in enumerate(cosines)}
    del every["m1.n3"]
    best = sorted(every, key=lambda name: -every[name])[:8]
    found = neighbours(MODEL, "m1.n3")
    assert [name for name, _ in found] == best
    assert [x for _, x in found] == pytest.approx([every[name] for name in best], abs=1e-6)
    assert neighbours(MODEL, "a2.6") == ()
    assert "Writes in the same direction" in client.get("/component/m1.n3").text
    assert "Writes in the same direction" not in client.get("/component/a2.6").text


def test_neighbours_of_a_latent_are_latents_and_neurons():
    names = [name for name, _ in neighbours(LETTERED, "m1.l4", k=50)]
    assert "m1.l4" not in names
    assert any(".l" in name for name in names)
    assert any(".n" in name for name in names)


def test_what_is_searched_for_is_what_is_found(store):
    share = dict(store.find(" Mary", k=2000))
    for name in list(share)[:3]:
        tops = store.component(name).of("top")
        assert share[name] == pytest.approx(
            sum(example.tokens[example.at] == " Mary" for example in tops) / len(tops)
        )
    for name, kurtosis in store.find(where="kurtosis > 20 and mean < 0", k=5):
        found = store.component(name)
        assert found.kurtosis == kurtosis > 20
        assert found.mean < 0
    for name, part in store.alike("m3.n200", 3):
        mine, theirs = ({e.window for e in store.component(n).of("top")} for n in ("m3.n200", name))
        assert part == len(mine & theirs) / len(mine)


@pytest.mark.parametrize("path", ["component/m9.n1", "component/m1", "component/x", "components"])
def test_what_cannot_be_shown_says_what_can(client, path):
    bad = {"find": "Marymary"} if path == "components" else {}
    reply = client.get(f"/{path}", params=bad)
    assert reply.status_code == 400
    assert "legal" in reply.text
    reply = client.get(f"/api/{path}", params=bad)
    assert reply.status_code == 400
    assert "legal" in reply.json()["detail"]


@pytest.mark.parametrize("where", ["drop table records", "1; select 1", "mean > (select 1)", "x"])
def test_a_search_is_comparisons_of_statistics_only(client, where):
    reply = client.get("/api/components", params={"where": where})
    assert reply.status_code == 400
    assert "comparisons of mean" in reply.json()["detail"]


def test_without_a_store_it_says_how_to_make_one(store):
    session = Session({"ioi-mini": MODEL})
    app = start.protected(api.build(session, parts=[component_page.build]))
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        assert "interp collate" in client.get("/component/a2.6").text
        assert "interp collate" in client.get("/api/component/a2.6").json()["detail"]
    with pytest.raises(AddressError, match="no component"):
        store.component("a2")


@needs_chromium
def test_in_a_browser_from_a_node_to_its_page_and_back_to_an_example(browser, store, explained):
    with (
        served("--store", str(store.folder)) as server,
        tab_of(browser, server.url, 390, 844) as tab,
    ):
        tab.page.goto(f"{server.url}/component/m1.n3?text=When+Mary+and+John")
        assert serious(tab) == []
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        tab.page.set_viewport_size({"width": 1280, "height": 800})
        tab.open(f"{server.url}/?{ASKED.to_url()}&node=a2.6@13")
        assert tab.one("explained").inner_text() == store.sentence("a2.6")
        link = tab.page.locator('[row-id="a2.6@13"] a')
        assert link.inner_text() == store.sentence("a2.6")
        assert link.get_attribute("href").startswith("/component/a2.6")
        tab.one("component").click()
        tab.page.wait_for_url("**/component/a2.6*")
        tab.page.get_by_role("link", name=re.compile(r"^\d\.\d{3}$")).first.click()
        tab.says("selected", "a2.6@")
