"""A model's own vocabulary: the ids of Hugging Face's tokenizer on any text, or a refusal that says
why; and names, characters and bare ids where tokens are no pieces of text."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import weights
from interp.why import why
from minigpt.errors import MiniGPTError, PromptError
from minigpt.sample import generate
from minigpt.tokenizer import gpt2
from tests.conftest import tiny
from weights import vocabulary
from weights.errors import WeightsError, WeightsWarning

REAL = Path(__file__).parents[3] / "shared" / "real" / "capp-gpt"
CACHE = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or ".")
BOOK = (
    "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía "
    "un hidalgo de los de lanza en astillero, adarga antigua, rocín flaco y galgo corredor. No "
    "meio do caminho tinha uma pedra; tinha uma pedra no meio do caminho. It's 1605, they'll say: "
    "'l'été' and naïve coöperation cost 42 000 €…\n\n\tİstanbul'da  çay  içilir. "
)
ADDED = ["<|endoftext|>", "<pad>", "<a>", "<a>b", "a pedra"]
texts = st.one_of(
    st.text(),
    st.text(alphabet="aedlmno pçéí'1€\n\t  <>b|", max_size=60),
    st.lists(st.sampled_from([*ADDED, *BOOK.split(" "), " ", "\n"]), max_size=20).map("".join),
)


def trained(size: int = 500, alphabet: bool = True, special: bool = True) -> Tokenizer:
    """Byte pairs of the book, as `tokenizers` trains them: special tokens first."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    every = pre_tokenizers.ByteLevel.alphabet() if alphabet else []
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=ADDED[:2] if special else [],
        initial_alphabet=every,
        show_progress=False,
    )
    made.train_from_iterator([BOOK], trainer)
    if special:
        made.add_special_tokens(ADDED[2:4])
        made.add_tokens([AddedToken(ADDED[4], normalized=True)])
    return made


def folder_of(made: Tokenizer, folder: Path, **changes: Any) -> Path:
    """A folder with a tokenizer.json, some of its facts changed."""
    facts = json.loads(made.to_str())
    for path, value in changes.items():
        *parts, last = path.split("__")
        inner = facts
        for part in parts:
            inner = inner[int(part)] if part.isdigit() else inner[part]
        inner[last] = value
    (folder / "tokenizer.json").write_text(json.dumps(facts))
    return folder


def shuffled(made: Tokenizer) -> Tokenizer:
    """The same with its ids in another order, as no training leaves them."""
    facts = json.loads(made.to_str())
    ids = list(range(len(facts["model"]["vocab"])))
    random.Random(0).shuffle(ids)
    old = facts["model"]["vocab"]
    facts["model"]["vocab"] = {text: ids[i] for text, i in old.items()}
    for token in facts["added_tokens"]:
        if token["content"] in old:
            token["id"] = facts["model"]["vocab"][token["content"]]
    return Tokenizer.from_str(json.dumps(facts))


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "as it is trained": trained,
    "with its ids in another order": lambda: shuffled(trained()),
    "with nothing added": lambda: trained(special=False),
}


@pytest.fixture(scope="module", params=list(KINDS))
def pair(request, tmp_path_factory):
    """Hugging Face's tokenizer, and what is read from its file."""
    theirs = KINDS[request.param]()
    return theirs, vocabulary.of(folder_of(theirs, tmp_path_factory.mktemp("own")))


@given(text=texts)
def test_the_ids_are_those_of_hugging_faces_tokenizer_on_any_text(pair, text):
    theirs, ours = pair
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == text
    assert ours.n_vocab == theirs.get_vocab_size()


def test_each_token_has_the_text_of_hugging_faces(pair):
    theirs, ours = pair
    for i in range(ours.n_vocab):
        assert ours.decode([i]) == theirs.decode([i], skip_special_tokens=False)


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """transformers' own folder of vocab.json and merges.txt, with tokens added."""
    from transformers import GPT2TokenizerFast

    folder = tmp_path_factory.mktemp("two")
    made = trained(special=False)
    made.model.save(str(folder))
    theirs = GPT2TokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    theirs.add_special_tokens({"pad_token": "<pad>"})
    theirs.add_tokens(["<a>", "<a>b"])
    theirs.save_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    added = theirs.get_added_vocab()
    (folder / "added_tokens.json").write_text(json.dumps(added))
    return theirs, vocabulary.of(folder)


@given(text=texts)
def test_two_files_are_read_as_transformers_reads_them(two_files, text):
    theirs, ours = two_files
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    """GPT-2's own vocabulary as Hugging Face's two files, from tiktoken's."""
    if not (CACHE / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").is_file():
        pytest.skip(
            "GPT-2's vocabulary is not here: set TIKTOKEN_CACHE_DIR to a folder that has it"
        )
    folder, spelt = (
        tmp_path_factory.mktemp("english"),
        {i: c for c, i in vocabulary.alphabet().items()},
    )
    ranks = gpt2().vocabulary.encoding._mergeable_ranks

    def text(token: bytes) -> str:
        return "".join(spelt[byte] for byte in token)

    vocab = {text(token): rank for token, rank in ranks.items()}
    pairs = (vocabulary._last_pair(token, ranks) for token in sorted(ranks, key=ranks.get))
    merges = [" ".join(map(text, parts)) for parts in pairs if len(parts) == 2]
    (folder / "vocab.json").write_text(json.dumps({**vocab, "<|endoftext|>": len(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return vocabulary.of(folder)


@given(text=texts)
def test_gpt2s_own_two_files_are_gpt2s_vocabulary(english, text):
    assert english.encode(text) == gpt2().encode(text)


def test_gpt2s_own_two_files_have_its_end_and_size(english):
    assert (english.n_vocab, english.end, english.single(" Mary")) == (50257, 50256, 5335)


# ---- what cuts texts by other rules is refused, and a model is of use without it ---------------

OTHERS = {
    "lower case": {"normalizer": {"type": "Lowercase"}},
    "a space in front": {"pre_tokenizer__add_prefix_space": True},
    "other words": {"pre_tokenizer": {"type": "Whitespace"}},
    "no words": {"pre_tokenizer": None},
    "words of its own": {"pre_tokenizer__use_regex": False},
    "unigrams": {"model__type": "Unigram"},
    "marks at the ends of words": {"model__end_of_word_suffix": "</w>"},
    "chance": {"model__dropout": 0.1},
    "bytes one by one": {"model__byte_fallback": True},
    "white space around a token": {"added_tokens__0__lstrip": True},
    "whole words only": {"added_tokens__1__single_word": True},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_encoding_is_refused_with_its_reason(tmp_path, kind):
    folder = folder_of(trained(), weights.save(tiny(n_vocab=600), tmp_path), **OTHERS[kind])
    key = next(iter(OTHERS[kind])).rpartition("__")[2]
    with pytest.raises(WeightsError, match=rf"another encoding(.|\n)*{key}"):
        vocabulary.of(folder)
    with pytest.warns(WeightsWarning, match=rf"for token ids only(.|\n)*{key}"):
        model = weights.load(folder)
    assert model.run("3 599").tokens.tolist() == [[3, 599]]
    with pytest.raises(PromptError, match="no token id"):
        model.run("hidalgo")


def test_merges_that_no_training_makes_are_refused(tmp_path):
    """'abc' by (a, bc), though 'ab' comes first: tiktoken finds it, Hugging Face does not."""
    (tmp_path / "vocab.json").write_text(
        json.dumps({"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5})
    )
    (tmp_path / "merges.txt").write_text("a b\nb c\na bc\n")
    with pytest.raises(WeightsError, match="never come to"):
        vocabulary.of(tmp_path)
    (tmp_path / "merges.txt").write_text("a b\nb c\nab c\n")
    assert vocabulary.of(tmp_path).encode("abcbcab") == [5, 4, 3]


def test_a_byte_that_the_vocabulary_lacks_is_refused_where_others_drop_it(tmp_path):
    theirs = trained(alphabet=False, special=False)
    ours = vocabulary.of(folder_of(theirs, tmp_path))
    text = "un hidalgo de la Mancha"
    assert ours.encode(text) == theirs.encode(text).ids
    assert theirs.encode("z@").ids == theirs.encode("z").ids  # dropped without a word
    with pytest.raises(PromptError, match="no token for byte 0x40"):
        ours.encode("z@")


def test_a_model_may_have_more_ids_than_its_tokenizer_but_not_fewer(tmp_path):
    theirs = trained()
    folder = folder_of(theirs, weights.save(tiny(n_vocab=600), tmp_path / "more"))
    model = weights.load(folder)
    assert model.tokenizer.text(599) == "<599>"
    assert model.tokenizer.lacking(600) == list(range(theirs.get_vocab_size(), 600))
    folder = folder_of(theirs, weights.save(tiny(n_vocab=100), tmp_path / "fewer"))
    with pytest.raises(WeightsError, match=r"of \d+ tokens for a model of 100"):
        weights.load(folder)


def test_a_tokenizer_is_saved_with_its_model(tmp_path):
    folder = folder_of(trained(), weights.save(tiny(n_vocab=600), tmp_path / "a"))
    again = weights.load(weights.save(weights.load(folder), tmp_path / "b"))
    assert again.tokenizer.encode(BOOK) == weights.load(folder).tokenizer.encode(BOOK)
    assert (tmp_path / "b" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "b" / "tokenizer.json"))
    assert theirs.encode(BOOK).ids == again.tokenizer.encode(BOOK)


# ---- names, characters, ids ----------------------------------------------------------------------


def test_names_are_cut_at_the_longest_with_or_without_space():
    words = vocabulary.of(
        ["Milling", "5-axis Milling", "Milling Secondary", "<SOS>", None, "<EOS>"]
    )
    assert words.encode("Milling 5-axis Milling<SOS>Milling Secondary\n Milling") == [0, 1, 3, 2, 0]
    assert words.decode([0, 1, 4]) == "Milling 5-axis Milling <4>"
    assert (words.n_vocab, words.end, words.single(" Milling")) == (6, 5, 0)
    with pytest.raises(PromptError, match=r"'Miling' is no name(.|\n)*'Milling'"):
        words.encode("<SOS> Miling")


@pytest.mark.parametrize("key", [None, "token2id", "stoi"])
def test_names_by_their_ids(tmp_path, key):
    ids = {"a b": 1, "c": 0, "d": 3}
    path = tmp_path / "names.json"
    path.write_text(json.dumps(ids if key is None else {key: ids}))
    words = vocabulary.of(path)
    assert words.encode("a b c d") == [1, 0, 3]
    assert words.text(2) == "<2>"
    folder = weights.save(tiny(n_vocab=5), tmp_path / "model")
    model = weights.load(folder, tokenizer=path)
    again = weights.load(weights.save(model, tmp_path / "again"))
    assert again.tokenizer.encode("d a b") == [3, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "a list"),
        (["a", "a"], "'a' twice"),
        (["a", 3], "3 among the names"),
        (["a", ""], "'' among the names"),
        ({"a": 0, "b": 0}, "two names for the id 0"),
        ({"a": -1}, "the id -1"),
        ({"a": True}, "the id True"),
        ({"a": 10**9}, "the id 1000000000"),
        (3, "a int"),
        ("abc", "a str"),
    ],
)
def test_what_are_no_names_is_refused(tmp_path, names, message):
    (tmp_path / "vocab.json").write_text(json.dumps(names))
    with pytest.raises(WeightsError, match=f"no vocabulary: {message}"):
        vocabulary.of(tmp_path)


def test_nanogpts_characters_are_read_without_running_anything(tmp_path):
    letters = sorted(set("\n !abc"))
    facts = {
        "vocab_size": len(letters),
        "itos": dict(enumerate(letters)),
        "stoi": {c: i for i, c in enumerate(letters)},
    }
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(facts))
    words = vocabulary.of(tmp_path)
    assert words.decode(words.encode("a cab!\n ab")) == "a cab!\n ab"
    with pytest.raises(PromptError, match="'z' is no name"):
        words.encode("az")
    again = weights.load(
        weights.save(
            weights.load(weights.save(tiny(n_vocab=6), tmp_path / "model"), tokenizer=tmp_path),
            tmp_path / "again",
        )
    )
    assert again.tokenizer.encode("a b") == words.encode("a b")


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"stoi": Hostile(tmp_path / "made")}))
    with pytest.raises(WeightsError, match=r"holds code(.|\n)*vocab\.json"):
        vocabulary.of(tmp_path)
    assert not (tmp_path / "made").exists()


@given(share=st.floats(0, 0.999))
def test_a_vocabulary_cut_short_anywhere_is_refused(tmp_path_factory, share):
    folder = folder_of(trained(300), tmp_path_factory.mktemp("cut"))
    path = folder / "tokenizer.json"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MiniGPTError, match=r"tokenizer\.json"):
        vocabulary.of(folder)


@pytest.mark.parametrize("x", ["no/such", 3, None, {}, b"x"])
def test_what_is_no_vocabulary_at_all_is_refused(tmp_path, x):
    with pytest.raises(WeightsError, match="vocabulary"):
        vocabulary.of(x)


def test_a_model_that_was_really_trained_is_asked_why_milling():
    if not REAL.is_dir():
        pytest.skip("../shared/real lies beside the repository where it is tested with real files")
    model = weights.load(REAL, tokenizer=REAL / "token_mappings.json")
    part = (
        "geometry_prismatic holes_normal_threaded external_threads_no surface_finish_very_good "
        "tolerance_tight batch_size_medium <SOS>"
    )
    answer = why(model, part)
    assert (answer.answer, answer.top[0].probability > 0.99) == ("Milling", True)
    assert answer.toward_answer[0].address == "m3"
    steps = model.tokenizer.encode(part)
    plan = generate(model, part, 12, stop=model.tokenizer.end)
    assert plan.split(" <EOC> ")[0] == "Milling Drilling Tapping Grinding Superfinishing"
    assert weights.load(REAL).run(steps).logits_at(-1).argmax() == model.tokenizer.single("Milling")
