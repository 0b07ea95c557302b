"""The generators of prompts: seeded, aligned, balanced, their names where their positions say;
refusals."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import pytest
import tiktoken
import torch

import weights
from interp import heads
from interp.tasks import (
    Prompts,
    agreement,
    brackets,
    capitals,
    greater_than,
    induction,
    ioi,
    pronouns,
)
from interp.tasks.vocabulary import VocabularyWarning, single
from minigpt import Tokenizer
from minigpt.errors import PromptError
from minigpt.tokenizer import from_file, gpt2
from recipes import corpus, train

EMBEDDED = weights.load("ioi-mini").tokenizer
# Knows one word, " war"; everything else is single bytes.
BYTES = Tokenizer(
    tiktoken.Encoding(
        "bytes",
        pat_str=r" ?\w+|\W",
        special_tokens={},
        mergeable_ranks={bytes([i]): i for i in range(256)}
        | {b" w": 256, b"ar": 257, b" war": 258},
    )
)


@pytest.fixture(params=["ioi-mini", "gpt2"])
def tokenizer(request) -> Tokenizer:
    if request.param == "ioi-mini":
        return EMBEDDED
    try:
        return gpt2()
    except PromptError:
        pytest.skip(
            "GPT-2's vocabulary is not here: set TIKTOKEN_CACHE_DIR to a folder that holds "
            "tiktoken's files"
        )


def rows(given: torch.Tensor, pairs: Prompts) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(given, pairs.lengths, strict=True)]


def same(a: Prompts, b: Prompts) -> bool:
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("clean", "corrupt", "answers", "distractors", "groups")
    )


def cast(pairs: Prompts, i: int, side: str) -> list[str]:
    """The names that stand at IO, S1 and S2."""
    return [
        pairs.tokenizer.text(int(getattr(pairs, side)[i, pairs.positions[role][i]])).strip()
        for role in ("IO", "S1", "S2")
    ]


# --- indirect objects -----------------------------------------------------------------------------


def test_templates_and_words_are_those_that_the_embedded_model_was_told_are_the_papers():
    assert list(ioi.TEMPLATES) == corpus.TEMPLATES[:15]
    assert corpus.NAMES[:99] == ioi.NAMES
    assert (corpus.PLACES[:8], corpus.OBJECTS[:8]) == (ioi.PLACES, ioi.OBJECTS)
    assert len(ioi.LONG_OPENINGS) == 15


def test_sentences_by_hand():
    assert ioi.sentence(1) == "Then, [S1] and [IO] went to the [PLACE]. [S2] gave a [OBJECT] to"
    assert (
        ioi.sentence(14, "ABBA")
        == "The [PLACE] [IO] and [S1] went to had a [OBJECT]. [S2] gave it to"
    )
    assert (
        ioi.sentence(6, long=True)
        == "After taking a long break [S1] and [IO] went to the [PLACE], [S2] gave a [OBJECT] to"
    )
    assert (
        ioi.sentence(13, extra=["[IO] was tired."])
        == "Then, [S1] and [IO] had a long argument. [IO] was tired. Afterwards [S2] said to"
    )


@pytest.mark.parametrize("number", range(1, 16))
def test_a_prompt_is_its_template_filled(tokenizer, number):
    pairs = ioi.prompts(tokenizer, 4, seed=2, template=number, order="BABA")
    slots = {
        "[A]": "(?P<A>[A-Z][a-z]+)",
        "[B]": "(?P<B>[A-Z][a-z]+)",
        "[PLACE]": "(?P<P>[a-z]+)",
        "[OBJECT]": "(?P<O>[a-z]+)",
    }
    pattern, seen = ioi.TEMPLATES[number - 1], set()
    whole = re.sub(
        r"\[\w+\]",
        lambda slot: (
            slots[slot[0]]
            if slot[0] not in seen and not seen.add(slot[0])
            else f"(?P={slots[slot[0]][4]})"
        ),
        pattern,
    )
    for i, row in enumerate(rows(pairs.clean, pairs)):
        found = re.fullmatch(whole, tokenizer.decode([*row, int(pairs.answers[i, 0])]))
        assert found
        assert [found["A"], found["B"], found["B"]] == cast(pairs, i, "clean")
        assert found["A"] != found["B"]


@pytest.mark.parametrize("kind", [{}, {"long": True}, {"extra": ("IO", "S")}, {"mode": "authors"}])
def test_positions_say_where_the_names_stand(tokenizer, kind):
    pairs = ioi.prompts(tokenizer, 40, seed=1, **kind)
    for i in range(len(pairs)):
        a, b, c = cast(pairs, i, "clean")
        assert [" " + a, " " + b] == [
            tokenizer.text(int(x)) for x in (pairs.answers[i, 0], pairs.distractors[i, 0])
        ]
        assert b == c
        assert tokenizer.text(int(pairs.clean[i, pairs.positions["END"][i]])) == " to"
        assert pairs.positions["S1+1"][i] == pairs.positions["S1"][i] + 1
        first = pairs.clean[i].tolist().index
        assert [first(int(x)) for x in (pairs.answers[i, 0], pairs.distractors[i, 0])] == [
            pairs.positions[role][i] for role in ("IO", "S1")
        ]
        assert int(
            pairs.clean[i, : pairs.lengths[i]].eq(pairs.distractors[i, 0]).nonzero().max()
        ) == int(pairs.positions["S2"][i])


def test_twin_another_order_of_names_has_other_positions():
    abba, baba = (ioi.prompts(EMBEDDED, 5, template=3, order=order) for order in ("ABBA", "BABA"))
    assert torch.equal(abba.positions["IO"], baba.positions["S1"])
    assert torch.equal(abba.positions["S1"], baba.positions["IO"])
    assert not torch.equal(abba.positions["IO"], baba.positions["IO"])
    assert bool((abba.positions["IO"] < abba.positions["S1"]).all())


def test_the_same_seed_gives_the_same_prompts_and_more_prompts_begin_with_the_fewer():
    one, again, other, more = (
        ioi.prompts(EMBEDDED, n, seed=seed) for n, seed in ((40, 3), (40, 3), (40, 4), (90, 3))
    )
    assert same(one, again)
    assert not torch.equal(one.answers, other.answers)
    assert rows(more.clean, more)[:40] == rows(one.clean, one)


@pytest.mark.parametrize("name", ioi.CORRUPTIONS)
def test_corruptions_change_the_names_that_they_say_and_no_other_token(name):
    pairs, plain = ioi.prompts(EMBEDDED, 60, corrupt=name), ioi.prompts(EMBEDDED, 60)
    assert torch.equal(pairs.clean, plain.clean)
    for i in range(len(pairs)):
        clean, corrupt = cast(pairs, i, "clean"), cast(pairs, i, "corrupt")
        known = dict(zip("AB", clean[:2], strict=True))
        fresh = {
            letter: found
            for letter, found in zip(ioi.CORRUPTIONS[name], corrupt, strict=True)
            if letter in "XYZ"
        }
        assert [{**known, **fresh}[letter] for letter in ioi.CORRUPTIONS[name]] == corrupt
        assert len({*known.values(), *fresh.values()}) == len(known) + len(fresh), "names collide"
        different = (pairs.clean[i] != pairs.corrupt[i]).nonzero().flatten().tolist()
        assert set(different) <= {int(pairs.positions[role][i]) for role in ("IO", "S1", "S2")}
        assert different


def test_without_a_corrupt_side_there_is_none():
    assert ioi.prompts(EMBEDDED, 3, corrupt=None).corrupt is None


@pytest.mark.parametrize(("mode", "templates"), [("paper", 15), ("authors", 7)])
def test_templates_and_orders_come_equally_often(mode, templates):
    pairs = ioi.prompts(EMBEDDED, 4 * templates, mode=mode)
    assert Counter(pairs.groups.tolist()) == dict.fromkeys(range(2 * templates), 2)
    assert Counter((ioi.prompts(EMBEDDED, 50, mode=mode).groups % 2).tolist()) == {0: 25, 1: 25}
    assert set((ioi.prompts(EMBEDDED, 9, mode=mode, order="BABA").groups % 2).tolist()) == {1}


@pytest.mark.parametrize("kind", [{}, {"extra": ("IO", "IO")}, {"long": True}])
def test_a_group_is_of_one_length_with_each_role_in_one_place(tokenizer, kind):
    pairs = ioi.prompts(tokenizer, 300, **kind)
    for index in (pairs.lengths, *pairs.positions.values()):
        places = {(int(g), int(x)) for g, x in zip(pairs.groups, index, strict=True)}
        assert len(places) == len(set(pairs.groups.tolist()))


def test_twin_without_the_extra_sentences_in_its_number_a_group_is_of_several_lengths():
    pairs = ioi.prompts(EMBEDDED, 300, extra=("IO", "IO"))
    assert (
        len({(int(g) % 30, int(n)) for g, n in zip(pairs.groups, pairs.lengths, strict=True)}) > 30
    )


def test_a_longer_opening_moves_everything_by_as_much():
    short, long = (ioi.prompts(EMBEDDED, 30, long=long) for long in (False, True))
    moved = long.positions["S1"] - short.positions["S1"]
    assert bool((moved > 0).all())
    assert all(
        torch.equal(long.positions[role], short.positions[role] + moved)
        for role in ("IO", "S2", "END")
    )


@pytest.mark.parametrize(
    "wrong", [{"corrupt": "S2"}, {"mode": "all"}, {"template": 16}, {"order": "AABB"}]
)
def test_what_is_not_known_is_refused_with_what_is(wrong):
    with pytest.raises(PromptError, match=r"(?s)='?\S+'?\n  legal: "):
        ioi.prompts(EMBEDDED, 3, **wrong)


def test_an_extra_sentence_about_nobody_and_no_prompts_at_all_are_refused():
    with pytest.raises(PromptError, match=r"(?s)an extra sentence about 'I'.*try:   extra="):
        ioi.prompts(EMBEDDED, 3, extra="IO")
    for n in (0, -1):
        for make in (
            ioi.prompts,
            induction.prompts,
            lambda t, n: greater_than.prompts(t, n, nouns=["war"]),
        ):
            with pytest.raises(PromptError, match=r"(?s)prompts.*legal: one"):
                make(EMBEDDED, n)


def test_names_that_are_not_one_token_are_left_out_and_said_so():
    names = ["Mary", "John", "Tom", "Xavier", "Paul", "Anna", "Mary"]
    with pytest.warns(VocabularyWarning, match=r"names: 1 of 6 left out; not one token: Xavier"):
        pairs = ioi.prompts(EMBEDDED, 60, names=names)
    assert {EMBEDDED.text(int(x)) for x in pairs.answers.flatten()} == {
        " Mary",
        " John",
        " Tom",
        " Paul",
        " Anna",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ioi.prompts(EMBEDDED, 3)  # the paper's own are all there


def test_too_few_names_are_refused():
    with pytest.raises(
        PromptError,
        match=r"(?s)names: 4 of 5 are one token.*Xavier.*legal: 5 or more.*try:   names=",
    ):
        ioi.prompts(EMBEDDED, 3, names=["Mary", "John", "Tom", "Xavier", "Paul"])
    with pytest.raises(PromptError, match="names: 0 of 99"):
        ioi.prompts(BYTES, 3)
    assert single(EMBEDDED, ["Mary"], "names") == ["Mary"]


# --- induction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [None, 0])
def test_induction_prompts_repeat_and_are_cut_before_the_answer(bos):
    pairs = induction.prompts(torch.arange(15), 20, seed=1, length=6, bos=bos)
    start = 0 if bos is None else 1
    assert pairs.clean.shape == (20, start + 11)
    half = pairs.clean[:, start : start + 6]
    assert torch.equal(pairs.clean[:, start + 6 :], half[:, :-1])
    assert torch.equal(pairs.corrupt[:, start + 6 :], half[:, :-1])
    assert torch.equal(pairs.answers, half[:, -1:])
    for i in range(20):
        assert len({*pairs.corrupt[i, start : start + 6].tolist(), *half[i].tolist()}) == 12
        end, a1, b1 = (pairs.clean[i, pairs.positions[name][i]] for name in ("END", "A1", "B1"))
        assert (int(end), int(b1)) == (int(a1), int(pairs.answers[i, 0]))
    assert bos is None or bool(
        ((pairs.clean == 0) & (pairs.corrupt == 0)).sum(1).eq(1).all()
        and (pairs.clean[:, 0] == 0).all()
    )


def test_induction_prompts_from_a_tokenizer_are_words_and_seeded():
    one, again, other = (induction.prompts(EMBEDDED, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.clean, again.clean)
    assert not torch.equal(one.clean, other.clean)
    assert set(one.clean.flatten().tolist()) <= set(heads.words(EMBEDDED).tolist())
    assert "|" in one.text(one.clean[0])


@pytest.mark.parametrize(("ids", "length"), [(11, 6), (40, 1)])
def test_induction_without_tokens_enough_is_refused(ids, length):
    with pytest.raises(
        PromptError, match=rf"(?s)halves of {length} tokens, out of {ids}.*try:   length="
    ):
        induction.prompts(torch.arange(ids), 2, length=length)


# --- greater-than ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::interp.tasks.vocabulary.VocabularyWarning")
def test_years_end_later_and_the_twin_starts_in_01(tokenizer):
    pairs = greater_than.prompts(tokenizer, 80, seed=1)
    for i, (clean, corrupt) in enumerate(
        zip(rows(pairs.clean, pairs), rows(pairs.corrupt, pairs), strict=True)
    ):
        found = re.fullmatch(
            r"The (\w+) lasted from the year (1[1-7])(\d\d) to the year \2", tokenizer.decode(clean)
        )
        assert found
        assert 2 <= int(found[3]) <= 98
        assert tokenizer.decode(corrupt) == tokenizer.decode(clean).replace(
            found[2] + found[3], found[2] + "01"
        )
        assert tokenizer.text(clean[int(pairs.positions["YY"][i])]) == found[3]
        assert (
            int(tokenizer.text(int(pairs.answers[i, 0])))
            > int(found[3])
            >= int(tokenizer.text(int(pairs.distractors[i, 0])))
        )
        assert int(pairs.groups[i]) == int(found[2])
    assert torch.equal(pairs.clean, greater_than.prompts(tokenizer, 80, seed=1).clean)
    assert not torch.equal(pairs.clean, greater_than.prompts(tokenizer, 80, seed=2).clean)


def test_the_measure_is_the_probability_of_later_years_less_that_of_others():
    model, pairs = (
        weights.load("ioi-mini"),
        greater_than.prompts(EMBEDDED, 5, nouns=["war", "siege"]),
    )
    trace = model.run(pairs)
    found = greater_than.metric(pairs)(trace)
    for i in range(5):
        start = int(EMBEDDED.text(int(pairs.clean[i, pairs.positions["YY"][i]])))
        chance = trace.logits_at("END")[i].double().softmax(-1)
        by_hand = sum(
            float(chance[EMBEDDED.single(f"{year:02d}")]) * (1 if year > start else -1)
            for year in range(100)
        )
        assert abs(float(found[i]) - by_hand) < 1e-12
        own = float(chance[EMBEDDED.single(f"{start:02d}")])
        assert own > 0
        assert (
            abs(float(found[i]) - by_hand - 2 * own) > 1e-12
        )  # the twin: the start itself counted as later


def test_vocabularies_that_do_not_split_years_and_pairs_without_one_are_refused():
    with pytest.raises(
        PromptError, match=r"(?s)cuts ' 1732' into ' ' \+ '1' \+ '7'.*legal: one that cuts years"
    ):
        greater_than.prompts(BYTES, 3, nouns=["war"])
    with pytest.raises(PromptError, match="pairs without a tokenizer"):
        greater_than.metric(Prompts([[1, 2]], None, [1], positions={"YY": [0]}))


# --- minimal pairs --------------------------------------------------------------------------------

MINIMAL = {pronouns: "NAME", agreement: "NOUN", capitals: "COUNTRY", brackets: "SIGN"}


@pytest.fixture
def wide(tmp_path_factory) -> Tokenizer:
    """A vocabulary that knows the words of all tasks: GPT-2's, or that of their own text."""
    try:
        return gpt2()
    except PromptError:
        path = tmp_path_factory.mktemp("words") / "vocab.tiktoken"
        train.write_vocabulary(path, train.RECIPES["tasks-mini"])
        return from_file(path, "tasks-mini", train.PATTERN)


@pytest.mark.parametrize("task", MINIMAL, ids=lambda task: task.__name__.rpartition(".")[2])
def test_pairs_differ_in_one_token_and_its_place_has_a_name(wide, task):
    pairs = task.prompts(wide, 60, 3)
    assert set(pairs.positions) == {"END", MINIMAL[task]}
    place = pairs.positions[MINIMAL[task]]
    for clean, corrupt, at in zip(
        rows(pairs.clean, pairs), rows(pairs.corrupt, pairs), place.tolist(), strict=True
    ):
        assert [i for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b] == [at]
    assert bool((pairs.answers != pairs.distractors).all())
    assert len(pairs.groups.unique()) == len(task.TEMPLATES)


@pytest.mark.parametrize("task", MINIMAL, ids=lambda task: task.__name__.rpartition(".")[2])
def test_a_pair_does_not_depend_on_how_many_there_are(wide, task):
    few, many = task.prompts(wide, 5, 1), task.prompts(wide, 9, 1)
    assert many.rows(range(5)).records() == few.records()
    assert task.prompts(wide, 5, 2).records() != few.records()


@pytest.mark.parametrize("task", MINIMAL, ids=lambda task: task.__name__.rpartition(".")[2])
def test_the_word_that_decides_and_the_answer_belong_together(wide, task):
    pairs = task.prompts(wide, 80, 0)
    leads = {
        pronouns: {**dict.fromkeys(pronouns.WOMEN, " she"), **dict.fromkeys(pronouns.MEN, " he")},
        capitals: {country: f" {city}" for country, city in capitals.CAPITALS.items()},
        brackets: brackets.SIGNS,
    }
    for i in range(len(pairs)):
        for side, answer in (("clean", "answers"), ("corrupt", "distractors")):
            word = wide.text(int(getattr(pairs, side)[i, pairs.positions[MINIMAL[task]][i]]))
            said = wide.text(int(getattr(pairs, answer)[i, 0]))
            if task is agreement:
                number = int(word.strip() in agreement.NOUNS.values())
                assert said in {verb[number] for verb in agreement.VERBS}
            else:
                assert leads[task][word.strip()] == said


def test_no_name_is_of_both_and_of_one():
    assert not set(pronouns.WOMEN) & set(pronouns.MEN)
    assert not set(pronouns.BOTH) & {*pronouns.WOMEN, *pronouns.MEN}
    assert {*pronouns.WOMEN, *pronouns.MEN, *pronouns.BOTH} == set(ioi.NAMES)


def test_words_of_ones_own_are_taken_and_those_of_several_tokens_left_out_and_said(wide):
    own = {"France": "Paris", "Japan": "Tokyo", "Liechtenstein": "Vaduz"}
    with pytest.warns(VocabularyWarning, match="1 of 3 left out"):
        pairs = capitals.prompts(wide, 20, capitals=own, templates=["[COUNTRY] is ruled from"])
    said = {wide.text(int(x)) for x in pairs.answers[:, 0]}
    assert said == {" Paris", " Tokyo"}


def test_one_country_makes_no_pair(wide):
    with pytest.raises(PromptError, match="1 countries with a capital"):
        capitals.prompts(wide, 5, capitals={"France": "Paris"})
