"""The text of the model of seven tasks: every word is a token; what is held out is not in it."""

from __future__ import annotations

import json
import random
import re
from itertools import islice

import pytest
from safetensors.torch import save_file

import weights
from interp import attribution, metrics
from interp.card import measure_tasks
from interp.tasks import agreement, brackets, capitals, ioi, pronouns
from minigpt.tokenizer import from_file
from recipes import corpus, embed, english, train
from tests.interp.test_cli import interp as interp


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "vocab.tiktoken"
    train.write_vocabulary(path, train.RECIPES["tasks-mini"])
    return from_file(path, "tasks-mini", train.PATTERN)


def text(n: int = 4000) -> list[str]:
    return list(islice(english.sentences(random.Random(5)), n))


def test_every_word_is_one_token(words):
    signs = {ord(c) for c in '.,()[]"'}
    for sentence in text(1500):
        ids = words.encode(sentence)
        assert all(i >= 256 or i in signs or words.text(i) in "IaA" for i in ids), sentence
        assert words.decode(ids) == sentence


def test_every_word_is_learned_from(words):
    seen = {i for sentence in text(6000) for i in words.encode(sentence)}
    spaced = [i for i in range(256, words.n_vocab) if words.text(i).startswith(" ")]
    assert [words.text(i) for i in spaced if i not in seen] == []


def test_what_is_said_of_someone_fits_the_name():
    rng = random.Random(8)
    for sentence in (english.bearer(rng) for _ in range(2000)):
        said = set(re.findall(r"\w+", sentence))
        he, she = (said & {pronoun, f"{pronoun}self"} for pronoun in ("him", "her"))
        he |= said & {"his"}
        assert not (he and she)
        if names := said & {*pronouns.WOMEN, *english.WOMEN}:
            assert not he, (names, sentence)
        if names := said & {*pronouns.MEN, *english.MEN}:
            assert not she, (names, sentence)


def test_a_seed_gives_the_same_text_and_every_kind_comes():
    assert text(50) == text(50)
    assert text(50) != list(islice(english.sentences(random.Random(6)), 50))
    assert sum(english.KINDS.values()) == pytest.approx(1)


@pytest.mark.parametrize("task", english.HELD_OUT, ids=lambda task: task.__name__)
def test_held_out_sentences_are_never_made(task):
    known = [text for text in english.trained(task)]
    out = [task.TEMPLATES[i] for i in english.HELD_OUT[task]]
    assert not set(known) & set(out)
    forms = [re.sub(r"\\\[\w+\\\]", r"[\\w(]+", re.escape(text)) for text in out]
    for sentence in text():
        assert not any(re.search(form, sentence) for form in forms), sentence


def test_held_out_names_never_meet_and_prompts_of_them_are_not_in_the_text(words):
    names, rng = set(corpus.NAMES), random.Random(7)
    for sentence in (english.indirect_object(rng) for _ in range(1000)):
        here = {w for w in re.findall("[A-Z][a-z]+", sentence.split(".")[0]) if w in names}
        if len(here) == 2:
            assert english.met(*sorted(here, reverse=True)), sentence
    pairs = english.held_out_pairs(words, 40)
    assert set(pairs) >= {"indirect objects", "induction", "greater than", "pronouns", "brackets"}
    for record in pairs["indirect objects"].records():
        two = sorted(words.text(record[s][0]).strip() for s in ("answers", "distractors"))
        assert not english.met(*two[::-1])


def test_the_papers_held_out_sentences_are_no_gifts():
    assert not set(corpus.HELD_OUT_TEMPLATES) & set(english.gifts())
    assert len(english.gifts()) > 400
    assert sum(english.RECEIVERS.values()) == pytest.approx(1)


def test_names_are_women_men_or_both_and_all_countries_have_a_capital():
    both = {*pronouns.WOMEN, *english.WOMEN} & {*pronouns.MEN, *english.MEN}
    assert not both
    assert len(set(capitals.CAPITALS.values())) == len(capitals.CAPITALS)
    assert set(ioi.NAMES) <= set(corpus.NAMES)
    assert len(agreement.VERBS) == len(brackets.SIGNS) == 3


@pytest.mark.slow
def test_a_model_of_several_tasks_is_measured_on_its_own_held_out_prompts(interp, tmp_path):
    recipe, training = train.RECIPES["tasks-mini"], tmp_path / "training"
    training.mkdir()
    train.write_vocabulary(training / "vocab.tiktoken", recipe)
    n_vocab = train.read_vocabulary(training / "vocab.tiktoken", recipe.name).n_vocab
    config = recipe.config(n_vocab)
    save_file(train.start(config, seed=1), training / "model.safetensors")
    model = embed.embed(training, tmp_path / "own", recipe=recipe)
    assert model.config == config
    loaded = weights.load(tmp_path / "own")
    assert loaded.name == "own"
    assert loaded.words.n_vocab == n_vocab
    status, said, _ = interp("card", "--model", str(tmp_path / "own"), "--prompts", "8", "--json")
    assert status == 0
    found = json.loads(said)
    assert len(found["tasks"]) == 7
    assert all(task["prompts"] == 8 for task in found["tasks"].values())
    assert set(found["direct_effect"]) == {"heads", "mlps"}
    status, said, _ = interp("card", "--model", str(tmp_path / "own"), "--prompts", "4")
    assert (status, "indirect objects" in said, "name movers" in said) == (0, True, True)


def test_shares_of_the_direct_effect_are_those_of_the_rows():
    model = weights.load("ioi-mini")
    pairs = {"indirect objects": ioi.prompts(model.words, 6, 0, template=2)}
    found = measure_tasks(model, pairs)
    trace, metric = (
        model.run(pairs["indirect objects"]),
        metrics.logit_diff(pairs["indirect objects"]),
    )
    rows = dict(attribution.direct(trace, metric))
    mlps = sum(x for name, x in rows.items() if re.fullmatch(r"m\d(\.b)?", name))
    assert found["direct_effect"]["mlps"] == pytest.approx(mlps / float(metric(trace).mean()))
    assert found["tasks"]["indirect objects"]["accuracy"] == 1
    assert next(iter(found["induction"])) == "a2.3"
