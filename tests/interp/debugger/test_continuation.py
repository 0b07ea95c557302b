"""How each side goes on is what generate says under the same patch."""

from __future__ import annotations

import pytest

from interp.debugger.continuation import continued
from minigpt import Patch
from minigpt.errors import MiniGPTError
from minigpt.sample import generate
from tests.interp.debugger.questions import MODEL, OTHER, PROMPT, asked


@pytest.mark.slow
def test_both_sides_go_on_under_their_own_patch():
    assert continued(asked(), 6) == {"this prompt": generate(MODEL, PROMPT, 6)}
    for line in ("a0.6 = 0", "a2.6@13 = 0", "a2.6@13<1 = 0", "a3.4 *= 0"):
        found = continued(asked(patches=(line,)), 6)
        after = generate(MODEL, PROMPT, 6, patch=Patch.parse(line, {}))
        assert found == {"before": generate(MODEL, PROMPT, 6), "after": after}
    assert continued(asked(patches=("a0.6 = 0",)), 6)["after"] != generate(MODEL, PROMPT, 6)
    assert continued(asked(other=OTHER), 3)["other prompt"] == generate(MODEL, OTHER, 3)


def test_it_ends_where_the_context_does():
    long = "the " * 123 + "end"
    found = asked(prompt=long, answers=(), distractors=())
    room = 128 - len(found.left.tokens)
    assert 0 <= room < 6
    assert len(MODEL.words.encode(continued(found, 6)["this prompt"])) <= room


def test_a_value_of_the_prompts_length_says_nothing_of_a_longer_text():
    with pytest.raises(MiniGPTError):
        continued(asked(patches=("a3.2 = x0.5",)), 3)
