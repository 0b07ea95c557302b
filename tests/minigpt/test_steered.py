"""Interventions while a text is continued: at each step the token that rerunning the whole text
with the patch would choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from minigpt import Patch, sample
from minigpt.errors import MiniGPTError, PatchError
from minigpt.grown import grown
from minigpt.sample import Choice, continuation, generate
from tests.conftest import LETTERS, some
from tests.minigpt.pairs import CLEAN, CORRUPT, MODEL

PROMPT = CLEAN.tokens[0, :9]
V = torch.linspace(-3, 3, 16)
SOURCES = {"v": V, "prompt": MODEL.run(CORRUPT.tokens[0, :9])}
PATCHES = [
    "a1.1 = 0",
    "m1 *= -1",
    "a1 *= 2",
    "resid2 += v",
    "resid2@-1 += v",
    "resid1@3 += v; a2.0@-1 = 0",
    "a0.0 += v; a1.0>m2.in *= 0; m0.n3 = 4",
    "a0.1.pattern *= 0.5",
    "a0.1.pattern@-1 += 0.5",
    "a0.1.z@4 = prompt; resid3@10 += v",
    "a1.1.q = 0; a1.0.v += v",
    "a2.1@-2 = 0",
    "out.b += v",
    "hold heads = 0",
    "hold heads but a1.1@-1 = 0; m1 += v",
    "hold mlps = 0; m1.n5 *= 3",
]


def in_full(patch: Patch, n: int) -> Iterator[torch.Tensor]:
    """The logits of each step, the whole text being run and patched anew, with what is edited at
    positions that it has."""
    tokens = PROMPT
    for _ in range(n):
        width = len(tokens)
        here = (e for e in patch.edits if e.target.at is None or e.target.at < width)
        run = MODEL.rerun(MODEL.run(tokens), Patch(tuple(here), patch.holds))
        yield run.logits_at(-1)[0]
        tokens = torch.cat([tokens, run.logits_at(-1)[0].argmax()[None]])


@pytest.mark.parametrize("text", some(text for text in PATCHES if "prompt" not in text))
def test_each_step_is_that_of_the_whole_text_rerun(text):
    patch, steps = Patch.parse(text, SOURCES), []
    kept = sample._Patched(MODEL, PROMPT, patch)
    for wanted in in_full(patch, 6):
        torch.testing.assert_close(kept.logits, wanted, atol=2e-5, rtol=1e-5)
        steps.append(int(wanted.argmax()))
        kept.read(steps[-1])
    assert list(continuation(MODEL, PROMPT, 6, patch=patch)) == steps
    assert torch.equal(kept.run.tokens[0], torch.cat([PROMPT, torch.tensor(steps)]))


def test_a_value_of_another_run_is_of_the_prompt_only():
    patch = Patch.parse("a0.1.z@4 = prompt", SOURCES)
    first = MODEL.rerun(MODEL.run(PROMPT), patch)
    kept = sample._Patched(MODEL, PROMPT, patch)
    assert torch.equal(kept.logits, first.logits_at(-1)[0])
    kept.read(7)
    assert torch.equal(kept.run["a0.1.z@4"], first["a0.1.z@4"])
    with pytest.raises(PatchError, match="do not match"):
        list(continuation(MODEL, PROMPT, 3, patch=Patch.parse("a0.1 = prompt", SOURCES)))


def test_a_run_that_grew_is_the_run_of_the_longer_prompt():
    run = MODEL.run(PROMPT)
    for token in (3, 1, 4):
        run = grown(run, token)
    whole = MODEL.run(torch.cat([PROMPT, torch.tensor([3, 1, 4])]))
    for address in ("resid3", "a1.pattern", "a2.1", "m1.n3", "a0.0.q"):
        torch.testing.assert_close(run[address], whole[address], atol=1e-5, rtol=1e-5)
    assert run.batch.lengths.tolist() == [12]


def test_grown_after_an_edit_it_keeps_the_edit_where_it_was():
    edited = MODEL.rerun(MODEL.run(PROMPT), Patch.add("a1.1", V) | Patch.input("a2.0.q", 0.0))
    run = grown(edited, 3)
    assert torch.equal(run["a1.1"][:, :9], edited["a1.1"])
    torch.testing.assert_close(run["a1.1@-1"], run["a1.1.z@-1"] @ MODEL.params.blocks[1].w_o[8:])
    torch.testing.assert_close(run["a2.0.q"][:, :9], edited["a2.0.q"])


def test_vectors_are_added_by_address():
    model = replace(MODEL, tokenizer=LETTERS)
    steered = generate(model, "ABCAB", 5, add={"resid2": V, "m0@-1": 2.0})
    patch = Patch.add("resid2", V) | Patch.add("m0@-1", 2.0)
    assert steered == generate(model, "ABCAB", 5, patch=patch)
    assert steered == generate(model, model.batch("ABCAB").tokens[0], 5, patch=patch)
    assert generate(model, "ABCAB", 5) == generate(model, "ABCAB", 5, patch=Patch())


def test_chance_is_the_same_with_and_without_an_idle_patch():
    choice = Choice(temperature=1.0, seed=5)
    idle = Patch.add("resid1", torch.zeros(16))
    with pytest.warns(UserWarning, match="changed nothing"):
        steered = list(continuation(MODEL, PROMPT, 8, choice, idle))
    assert steered == list(continuation(MODEL, PROMPT, 8, choice))


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("resid1@14 += v", "positions up to @12"),
        ("resid1@NAME += v", "position @NAME"),
        ("resid1@-12 += v", "9 tokens"),
    ],
)
def test_positions_that_no_text_has_are_refused(patch, message):
    with pytest.raises(MiniGPTError, match=message):
        list(continuation(MODEL, PROMPT, 5, patch=Patch.parse(patch, SOURCES)))


def test_a_step_that_is_not_edited_would_be_seen(monkeypatch):
    """The twin: a text whose later positions are left alone goes another way."""
    patch = Patch.parse("m1 *= -1; resid2 += v", SOURCES)
    right = list(continuation(MODEL, PROMPT, 6, patch=patch))
    edit = sample._Patched._edit
    monkeypatch.setattr(sample._Patched, "_edit", lambda self, first: first or edit(self, first))
    assert list(continuation(MODEL, PROMPT, 6, patch=patch)) != right
