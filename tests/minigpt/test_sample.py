"""Continuing a text: the kept keys and values change nothing, and draws follow the probabilities
and the seed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import weights
from minigpt import GPT2, build
from minigpt.errors import PromptError
from minigpt.params import tensors
from minigpt.sample import Choice, continuation, generate
from tests.conftest import LETTERS, tiny


@pytest.fixture
def writer(model: GPT2) -> GPT2:
    """A model that reads and writes the letters from A on."""
    return dataclasses.replace(model, tokenizer=LETTERS)


@settings(max_examples=10)
@given(prompt=st.lists(st.integers(0, 49), min_size=1, max_size=20), n=st.integers(0, 12))
def test_greedy_text_with_kept_keys_is_greedy_text_by_recomputing_everything(
    prompt: list[int], n: int
) -> None:
    model = tiny(dtype=torch.float64)
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(int(model.forward(torch.tensor([tokens]))[0, -1].argmax()))
    assert list(continuation(model, torch.tensor(prompt), n)) == tokens[len(prompt) :]


def test_the_logits_with_kept_keys_are_those_of_the_whole_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = tiny(dtype=torch.float64), []

    def draw(choice: Choice, logits: torch.Tensor, generator: torch.Generator) -> int:
        seen.append(logits)
        return int(logits.argmin())

    monkeypatch.setattr(Choice, "draw", draw)
    prompt = torch.tensor([3, 1, 4, 1, 5])
    tokens = torch.cat([prompt, torch.tensor(list(continuation(model, prompt, 10)))])
    whole = model.forward(tokens[None])[0]
    torch.testing.assert_close(torch.stack(seen[:10]), whole[4:14], rtol=1e-11, atol=1e-11)


KNOWN = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def frequencies(choice: Choice, n: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(choice.seed)
    return (
        torch.bincount(torch.tensor([choice.draw(KNOWN, generator) for _ in range(n)]), minlength=4)
        / n
    )


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(temperature=1), [0.5, 0.25, 0.125, 0.125]),
        (Choice(temperature=0.5), [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (Choice(temperature=1, top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (Choice(temperature=1, top_k=1), [1, 0, 0, 0]),
        (Choice(temperature=1, top_k=99), [0.5, 0.25, 0.125, 0.125]),
        (Choice(temperature=0, top_k=3), [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_draws_follow_the_probabilities(choice: Choice, expected: list[float]) -> None:
    """Within five standard deviations of 4,000 draws; what has no probability is never drawn."""
    expected, found = torch.tensor(expected), frequencies(choice)
    assert bool(((found - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt()).all())


def test_twin_the_test_of_frequencies_tells_temperatures_apart() -> None:
    other = torch.tensor([16 / 22, 4 / 22, 1 / 22, 1 / 22])
    assert not bool(
        (
            (frequencies(Choice(temperature=1)) - other).abs()
            <= 5 * (other * (1 - other) / 4000).sqrt()
        ).all()
    )


def test_a_seed_repeats_and_another_seed_does_not(model: GPT2) -> None:
    prompt = torch.tensor([3, 1, 4])
    one, again, other = (
        list(continuation(model, prompt, 20, Choice(temperature=1, seed=seed)))
        for seed in (7, 7, 8)
    )
    assert one == again != other


def test_drawing_does_not_touch_torchs_own_generator(model: GPT2) -> None:
    before = torch.random.get_rng_state()
    list(continuation(model, torch.tensor([3, 1, 4]), 5, Choice(temperature=1)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_context_is_used_to_the_last_token_and_no_further(model: GPT2) -> None:
    prompt = torch.arange(20)
    assert len(list(continuation(model, prompt, 12))) == 12
    with pytest.raises(
        PromptError, match="20 tokens and 13 more\n  legal: 32 together\n  try:   n=12"
    ):
        list(continuation(model, prompt, 13))


def test_text_comes_back_as_text_and_ends_before_the_stop_token(writer: GPT2) -> None:
    text = generate(writer, "HELLO", 10)
    ids = list(continuation(writer, torch.tensor(LETTERS.encode("HELLO")), 10))
    assert text == LETTERS.decode(ids)
    stop = ids[4]
    assert generate(writer, "HELLO", 10, stop=stop) == LETTERS.decode(ids[: ids.index(stop)])
    assert generate(writer, "HELLO", 10, stop=49 if 49 not in ids else 48) == text
    assert generate(writer, "HELLO", 0) == ""


@pytest.mark.parametrize("choice", [{"temperature": -1.0}, {"top_k": -1}], ids=str)
def test_a_negative_choice_is_refused(choice: dict[str, float]) -> None:
    with pytest.raises(PromptError, match="legal: numbers from 0 up"):
        Choice(**choice)


def test_what_cannot_be_read_cannot_be_continued(model: GPT2, writer: GPT2) -> None:
    with pytest.raises(PromptError, match="no vocabulary"):
        generate(model, "HELLO")
    with pytest.raises(PromptError, match="the prompt is empty"):
        generate(writer, "")


def test_ids_without_a_text_are_drawn_only_if_asked_for():
    """A model with 8 ids more than its vocabulary, one of which it always prefers."""
    small = weights.load("ioi-mini")
    held = {name: x.clone() for name, x in tensors(small.params).items()}
    more = torch.cat([held["wte.weight"], 9 * held["wte.weight"][:8].abs()])
    config = dataclasses.replace(small.config, n_vocab=len(more))
    untied = {**held, "wte.weight": more, "lm_head.weight": more}
    untied["ln_f.bias"] = more[-1]
    model = GPT2(build(config, untied), small.tokenizer, "resized")
    known = small.config.n_vocab
    tokens = model.batch("Mary and John").tokens[0]
    for temperature in (0.0, 1.0):
        named, free = (
            list(continuation(model, tokens, 6, Choice(temperature, unnamed=unnamed)))
            for unnamed in (False, True)
        )
        assert max(named) < known
        assert max(free) >= known
        assert f"<{max(free)}>" in model.tokenizer.decode(free)
