"""What a user gives as prompts: everything that can be read is, and everything else is refused in
words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt import Batch, Tokenizer
from minigpt.batch import as_batch
from minigpt.errors import MiniGPTError, PositionError, PromptError
from minigpt.vocabulary import Ids
from tests.conftest import LETTERS, tiny

CONFIG = tiny().config
HERE = torch.zeros(())
IDS = Tokenizer(Ids(CONFIG.n_vocab))


def read(prompts: object, tokenizer: Tokenizer | None = None) -> Batch:
    return as_batch(prompts, tokenizer or IDS, CONFIG, HERE)


def test_a_text_and_a_list_of_texts_are_encoded_and_padded_on_the_right() -> None:
    one, several = read("CAB", LETTERS), read(["CAB", "A", "AB"], LETTERS)
    assert one.tokens.tolist() == [[2, 0, 1]]
    assert one.lengths.tolist() == [3]
    assert several.tokens.tolist() == [[2, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert several.lengths.tolist() == [3, 1, 2]
    assert (one.ragged, several.ragged) == (False, True)
    assert several.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8], ids=str)
def test_token_ids_are_taken_as_they_are(dtype: torch.dtype) -> None:
    tokens = torch.tensor([[3, 1, 4], [1, 5, 9]], dtype=dtype)
    assert torch.equal(read(tokens).tokens, tokens.long())
    assert read(tokens).lengths.tolist() == [3, 3]
    assert torch.equal(read(tokens[0]).tokens, tokens[:1].long())


@pytest.mark.parametrize(
    "rows", [[[3, 1, 4], [1, 5]], [np.array([3, 1, 4]), (1, 5)], [torch.tensor([3, 1, 4]), [1, 5]]]
)
def test_rows_of_ids_may_differ_in_length(rows: list) -> None:
    found = read(rows, LETTERS)
    assert found.tokens.tolist() == [[3, 1, 4], [1, 5, 0]]
    assert found.lengths.tolist() == [3, 2]


@pytest.mark.parametrize("ids", [[3, 1], (3, 1), [np.int64(3), 1], np.array([3, 1]), "3 1", "3,1"])
def test_one_prompt_of_ids(ids: object) -> None:
    assert read(ids).tokens.tolist() == [[3, 1]]
    assert read(np.array([[3, 1]], dtype=np.uint16)).tokens.tolist() == [[3, 1]]


def test_a_batch_and_what_has_a_batch_keep_their_positions() -> None:
    batch = Batch(
        torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]), {"END": torch.tensor([1, 0])}
    )
    for prompts in (batch, SimpleNamespace(batch=batch)):
        found = read(prompts)
        assert torch.equal(found.tokens, batch.tokens)
        assert found.index("END").tolist() == [1, 0]
    assert read(SimpleNamespace(batch="AB"), LETTERS).tokens.tolist() == [[0, 1]]


REFUSED = {
    "empty text": (
        "",
        LETTERS,
        "the prompt is empty\n  legal: one token or more\n  try:   '<|endoftext|>'",
    ),
    "empty text among others": (["AB", ""], LETTERS, "prompt 1 is empty"),
    "no texts": ([], LETTERS, "no prompts\n  legal: one prompt or more"),
    "no rows": (torch.zeros(0, 3, dtype=torch.long), None, "no prompts"),
    "rows of nothing": (torch.zeros(2, 0, dtype=torch.long), None, "prompt 0 is empty"),
    "too long a text": (
        ["A", "A" * 33],
        LETTERS,
        r"prompt 1 has 33 tokens\n  legal: up to 32 \(the model's context\)",
    ),
    "too many tokens": (torch.zeros(2, 33, dtype=torch.long), None, "prompt 0 has 33 tokens"),
    "an id of another vocabulary": (
        torch.tensor([[1, 2], [3, 50]]),
        None,
        "token id 50 in prompt 1 at position 1\n  legal: 0 to 49",
    ),
    "a negative id": (torch.tensor([[1, -1]]), None, "token id -1 in the prompt at position 1"),
    "floats": (
        torch.tensor([[1.0, 2.0]]),
        None,
        r"a tensor torch.float32 of shape \[1, 2\]\n  legal: whole token ids",
    ),
    "complex numbers": (torch.tensor([[1 + 0j]]), None, "a tensor torch.complex64"),
    "booleans": (torch.tensor([[True]]), None, "a tensor torch.bool"),
    "a single number": (torch.tensor(3), None, r"a tensor torch.int64 of shape \[\]"),
    "three axes": (torch.zeros(1, 1, 1, dtype=torch.long), None, r"of shape \[1, 1, 1\]"),
    "None": (
        None,
        LETTERS,
        "prompts of type NoneType\n  legal: a text, a list of texts, or token ids",
    ),
    "a number": (3, LETTERS, "prompts of type int"),
    "bytes": (b"AB", LETTERS, "prompts of type bytes"),
    "a list of ids and not": ([1, "a", 3], LETTERS, "prompts of type list of int, str"),
    "ids in a list too deep": ([[[1]]], LETTERS, "prompts of type list of list"),
    "fractions in a list": ([1.5, 2], LETTERS, "prompts of type list of float, int"),
    "truths in a list": ([[True]], LETTERS, "prompts of type list of list"),
    "an empty row": ([[1], []], LETTERS, "prompt 1 is empty"),
    "a single number of numpy's": (np.int64(3), LETTERS, r"of shape \[\]"),
    "a list of texts and not": (["AB", 3], LETTERS, "prompts of type list"),
    "a dict": ({"AB": 1}, LETTERS, "prompts of type dict"),
    "a text without a tokenizer": (
        "AB",
        None,
        "'AB' is no token id; this model has no vocabulary\n  legal: ids from 0 to 49",
    ),
    "lengths beyond the width": (
        Batch(torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 4])),
        None,
        r"tokens \[2, 3\] and lengths \[3, 4\]",
    ),
    "a Batch of nothing": (
        Batch(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.long)),
        None,
        r"lengths \[\]",
    ),
    "a Batch with an empty prompt": (
        Batch(torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 0])),
        None,
        "prompt 1 is empty",
    ),
}


@pytest.mark.parametrize(("prompts", "tokenizer", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_words(
    prompts: object, tokenizer: object, message: str
) -> None:
    with pytest.raises(PromptError, match=message) as raised:
        read(prompts, tokenizer)
    assert isinstance(raised.value, MiniGPTError | ValueError)
    assert "\n  legal: " in str(raised.value)


@pytest.mark.parametrize(
    "prompts",
    [torch.tensor([[1.0]]), [], torch.tensor([[50]])],
    ids=["floats", "nothing", "out of range"],
)
def test_a_model_refuses_the_same_at_its_own_door(prompts: object) -> None:
    with pytest.raises(PromptError):
        tiny().run(prompts)


def test_a_text_for_a_model_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(PromptError, match="no vocabulary"):
        tiny().run("AB")


def test_the_whole_context_can_be_used_and_not_one_token_more() -> None:
    assert tiny().run(torch.ones(1, 32, dtype=torch.long)).logits.shape == (1, 32, 50)
    with pytest.raises(PromptError, match="33 tokens"):
        tiny().run(torch.ones(1, 33, dtype=torch.long))


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), at=st.integers(-12, 12))
def test_a_position_counts_from_the_start_or_from_each_prompts_own_end(
    lengths: list[int], at: int
) -> None:
    batch = Batch(torch.zeros(len(lengths), max(lengths), dtype=torch.long), torch.tensor(lengths))
    if all(-n <= at < n for n in lengths):
        assert batch.index(at).tolist() == [range(n)[at] for n in lengths]
    else:
        short = next(row for row, n in enumerate(lengths) if not -n <= at < n)
        who = "the prompt" if len(lengths) == 1 else f"prompt {short}"
        with pytest.raises(
            PositionError,
            match=rf"position @{at}: {who} has {lengths[short]} tokens\n  legal: @0 to",
        ):
            batch.index(at)


def test_a_named_position_that_lies_behind_a_prompts_end_is_refused() -> None:
    batch = Batch(
        torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3]), {"S2": torch.tensor([4, 3])}
    )
    with pytest.raises(PositionError, match="position @S2: prompt 1 has 3 tokens"):
        batch.index("S2")


def test_a_name_with_a_step_is_so_many_places_on_or_back_unless_that_has_its_own_name() -> None:
    batch = Batch(
        torch.zeros(2, 9, dtype=torch.long),
        torch.tensor([9, 8]),
        {"S1": torch.tensor([2, 4]), "S1+1": torch.tensor([7, 7])},
    )
    assert batch.index("S1+2").tolist() == [4, 6]
    assert batch.index("S1-1").tolist() == [1, 3]
    assert batch.index("S1+1").tolist() == [7, 7]
    for name, message in (
        ("S1+5", "position @S1.5: prompt 1 has 8 tokens"),
        ("S1-3", "prompt 0 has 9 tokens"),
        ("S2+1", "these names: S1, S1.1, or so many"),
    ):
        with pytest.raises(PositionError, match=message):
            batch.index(name)
