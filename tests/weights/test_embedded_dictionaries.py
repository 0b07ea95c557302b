"""The embedded model's dictionaries: made by their recipe, checked when they are read, and as good
as their card says."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import weights
from interp import card
from recipes import concepts, dictionaries, embed
from weights import catalog
from weights.dictionaries import inside
from weights.dictionaries.place import EMBEDDED

FOLDER = catalog.EMBEDDED / EMBEDDED
SITES = tuple(dictionaries.SITES)


@pytest.fixture(scope="module")
def figures():
    model = weights.load("ioi-mini")
    lines = [json.loads(line) for line in catalog.CONCEPTS.read_text().splitlines()]
    return card.measure_dictionaries(model, weights.load_dictionaries("ioi-mini"), lines)


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
def test_each_fits_on_text_that_did_not_train_it(figures, site):
    found = figures["dictionaries"][site]
    assert found["explained"] >= 0.90
    assert found["l0"] <= 16
    assert found["dead"] < 0.05
    assert found["recovered"] >= 0.95
    assert found["tokens"] > 10_000


@pytest.mark.slow
def test_concepts_have_latents_of_their_own_and_shuffled_ones_have_none(figures):
    assert figures["concepts"] == 20
    assert len(figures["concepts_with_a_latent"]) >= 5
    assert all(x["f1"] >= 0.9 for x in figures["concepts_with_a_latent"].values())
    assert figures["best_shuffled_f1"] < 0.5


def test_they_are_small_and_have_names():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4e6
    assert sorted(path.name for path in inside(FOLDER)) == sorted(SITES)
    model = weights.load("ioi-mini")
    every = weights.load_dictionaries("ioi-mini", model=model)
    assert {known.explains for known in every} == set(SITES)
    one = weights.load_dictionary("ioi-mini:m3", model=model)
    assert one.hash == next(known for known in every if known.explains == "m3").hash
    assert one.encoder.dtype == torch.float32
    with pytest.raises(weights.WeightsError, match=r"no dictionary of 'm9'\n.*ioi-mini:m0"):
        weights.load_dictionary("ioi-mini:m9")


def test_a_changed_byte_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(catalog.EMBEDDED, tmp_path / "copy")
    monkeypatch.setattr(catalog, "embedded", lambda _name: tmp_path / "copy")
    path = tmp_path / "copy" / EMBEDDED / "m1" / "sae_weights.safetensors"
    weights.load_dictionary("ioi-mini:m1")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for name in ("ioi-mini:m1", "ioi-mini"):
        with pytest.raises(weights.WeightsError, match="checksum"):
            weights.load_dictionaries(name)
    weights.load_dictionary("ioi-mini:m0")


@pytest.mark.slow
def test_the_recipe_gives_the_same_bytes_again_and_what_it_gives_is_read(tmp_path):
    model = weights.load("ioi-mini")
    sizes = dict.fromkeys(SITES, 64)
    two = dict.fromkeys(SITES, 2)
    made = [dictionaries.train_all(model, 0, some, two) for some in (sizes, sizes, {"m2": 64})]
    for site, p in made[0].items():
        assert all(torch.equal(x, made[1][site][name]) for name, x in p.items())
        assert torch.allclose(p["W_dec"].norm(dim=1), torch.ones(64))
        dictionaries.write(p, site, tmp_path / site)
        known = weights.load_dictionary(tmp_path / site, model=model)
        assert (known.explains, known.n_latents, known.centred) == (site, 64, True)
    assert all(torch.equal(x, made[0]["m2"][name]) for name, x in made[2]["m2"].items())
    other = dictionaries.train_all(model, 1, {"m0": 64}, two)
    assert not torch.equal(other["m0"]["W_enc"], made[0]["m0"]["W_enc"])


def test_silent_latents_learn_what_is_left_over():
    """Of a latent that is never on, the auxiliary loss alone has a slope."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    p = dictionaries.start(x, 64, 0)
    p["b_enc"][40:] = -10.0
    p = {name: value.requires_grad_() for name, value in p.items()}
    dictionaries.loss(p, x, x.var()).backward()
    assert p["W_dec"].grad[50:].any()
    assert float(dictionaries.kept(torch.tensor([[3.0, 1.0, 2.0]]), 2).sum()) == 5.0


def test_the_text_whose_truth_is_known_is_made_again_word_for_word():
    concepts.refuse_overlap()
    model = weights.load("ioi-mini")
    lines = catalog.CONCEPTS.read_text()
    assert lines == "".join(concepts.lines(model.tokenizer, 1000))
    told = [json.loads(line) for line in lines.splitlines()]
    known = [each for each in told if "before the answer" in each["concepts"]]
    assert 400 < len(known) < 700
    for each in known[::60]:
        places, encoded = each["concepts"], model.tokenizer.encode(each["text"])
        words = [piece.strip() for piece in model.tokenizer.pieces(encoded)]
        (at,), (again,) = places["before the answer"], places["subject again"]
        assert words[at + 1] == words[places["indirect object"][0]]
        assert words[again] == words[places["subject, first time"][0]] != words[at + 1]
    with pytest.raises(ValueError, match="'red'"):
        concepts.refuse_overlap({"a": ["red"], "b": ["red"]})


def test_embedding_writes_checksums(tmp_path):
    sizes, one = dict.fromkeys(SITES, 32), dict.fromkeys(SITES, 1)
    made = dictionaries.train_all(weights.load("ioi-mini"), 0, sizes, one)
    for site, p in made.items():
        dictionaries.write(p, site, tmp_path / "trained" / site)
    shutil.copytree(catalog.EMBEDDED, tmp_path / "copy", ignore=shutil.ignore_patterns(EMBEDDED))
    embed.embed_dictionaries(tmp_path / "trained", tmp_path / "copy", n=4)
    facts = json.loads((tmp_path / "copy" / EMBEDDED / "m0" / "manifest.json").read_text())
    assert set(facts["files"]) == {"cfg.json", "sae_weights.safetensors"}
    assert len((tmp_path / "copy" / "concepts.jsonl").read_text().splitlines()) == 4
