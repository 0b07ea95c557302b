"""Text to token ids and back."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

import weights
from minigpt import Tokenizer
from minigpt.errors import PromptError
from minigpt.tokenizer import END, from_file, gpt2

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
WORDS = [b"th", b"the", b" the", b"ma", b"mar", b"mary", b" m", b"lo", "é".encode()]
VOCABULARY = (
    Path(os.environ.get("TIKTOKEN_CACHE_DIR") or ".") / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee"
)


def write(path: Path, words: list[bytes]) -> Path:
    rows = [*(bytes([i]) for i in range(256)), *words]
    path.write_bytes(
        b"\n".join(base64.b64encode(row) + b" %d" % i for i, row in enumerate(rows)) + b"\n\n"
    )
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """All bytes, and nine words."""
    return from_file(
        write(tmp_path_factory.mktemp("vocabulary") / "small.tiktoken", WORDS), "small", PATTERN
    )


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    """GPT-2's own."""
    if not VOCABULARY.is_file():
        pytest.skip(
            "GPT-2's vocabulary is not here: set TIKTOKEN_CACHE_DIR to a folder that holds "
            "tiktoken's files"
        )
    return gpt2()


texts = st.one_of(st.text(), st.text(alphabet="thmaryloé '\n\t1<|end|>", max_size=60))


@given(text=texts)
def test_any_text_comes_back_from_a_small_vocabulary(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == text


@given(text=texts)
def test_any_text_comes_back_from_gpt2s_vocabulary(real: Tokenizer, text: str) -> None:
    assert real.decode(real.encode(text)) == text


@given(text=texts)
def test_gpt2s_ids_are_tiktokens(real: Tokenizer, text: str) -> None:
    assert real.encode(text) == tiktoken.get_encoding("gpt2").encode(text, allowed_special="all")


def test_gpt2s_ids_are_those_that_everybody_knows(real: Tokenizer) -> None:
    assert real.encode("When Mary and John went to the store") == [
        2215,
        5335,
        290,
        1757,
        1816,
        284,
        262,
        3650,
    ]
    assert real.tokens(" Mary gave") == [" Mary", " gave"]
    assert (real.n_vocab, real.single(" Mary"), real.single(END)) == (50257, 5335, 50256)


def test_no_token_is_added_and_the_end_of_text_is_one_token(small: Tokenizer) -> None:
    assert small.encode("") == []
    assert small.encode("the") == [257]
    assert small.encode(f"the{END}the") == [257, 265, 257]
    assert small.decode([257, 265]) == f"the{END}"
    assert small.n_vocab == 256 + 9 + 1


def test_a_text_is_shown_cut_into_its_tokens(small: Tokenizer) -> None:
    assert small.tokens("the the maryé") == ["the", " the", " ", "mary", "é"]
    assert small.text(0xC3) == "\\xc3"


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "themary": r"'themary' is 2 tokens: 'the' \+ 'mary'\n  legal: one token$",
        " mary": (
            r"' mary' is 2 tokens: ' ' \+ 'mary'\n  legal: one token\n  try:   'mary' \(mind "
            r"the space\)"
        ),
        "": r"'' is 0 tokens: nothing\n  legal: one token",
        f"the{END}": r"is 2 tokens: 'the' \+ '<\|endoftext\|>'",
    }.items(),
)
def test_a_text_of_several_tokens_is_no_answer_and_is_shown_why(
    small: Tokenizer, text: str, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        small.single(text)


@pytest.mark.parametrize(
    ("text", "token"), {"mary": 261, " the": 258, "é": 264, "x": 120, END: 265}.items()
)
def test_a_text_of_one_token_is_its_id(small: Tokenizer, text: str, token: int) -> None:
    assert small.single(text) == token


def test_a_vocabulary_file_is_read_anew_and_nothing_is_left_in_tiktokens_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tiktoken's own reader keeps a copy by the file's name, so that a changed file would be read
    as it was."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    path = tmp_path / "vocabulary"
    assert from_file(write(path, [b"the"]), "one", PATTERN).tokens("the lot") == [
        "the",
        " ",
        "l",
        "o",
        "t",
    ]
    assert from_file(write(path, [b"lo"]), "two", PATTERN).tokens("the lot") == [
        "t",
        "h",
        "e",
        " ",
        "lo",
        "t",
    ]
    assert not cache.exists()


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("a wrong hash")], ids=repr)
def test_without_gpt2s_vocabulary_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def absent(name: str) -> None:
        raise error

    monkeypatch.setattr(tiktoken, "get_encoding", absent)
    with pytest.raises(
        PromptError,
        match=(
            rf"could not be had: {type(error).__name__}: {error}\n  legal: .*\n  try:   "
            "TIKTOKEN_CACHE_DIR=FOLDER"
        ),
    ):
        gpt2()


@pytest.mark.parametrize("missing", [1060, 1061, 50259])
def test_an_id_that_the_vocabulary_lacks_has_a_name_and_is_found_by_it(missing):
    tokenizer = weights.load("ioi-mini").tokenizer
    assert tokenizer.text(missing) == f"<{missing}>"
    assert tokenizer.single(f"<{missing}>") == missing
    assert tokenizer.decode([*tokenizer.encode("Mary"), missing]) == f"Mary<{missing}>"
    assert tokenizer.single("<7>") == 7
    with pytest.raises(PromptError):
        tokenizer.single("<seven>")
