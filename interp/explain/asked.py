"""What a language model is shown and asked about a component: tokens with numbers from 0 to 10, or
pairs of tokens that a head looks from and to; with worked examples, as many as there is room for.

The form is that of Bills et al. 2023 and of the Transformer Debugger; examples and words are ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.explain.endpoint import Messages
from interp.explain.passages import Passage
from minigpt.shown import Shown

# Passages that are shown to explain from; steps into which numbers are cut; letters of a question
# that a model with a context of 4,096 tokens reads at ease.
SHOWN, STEPS, LETTERS = 5, 10, 12_000
Shot = tuple[str, str]


@dataclass(frozen=True, repr=False)
class Form(Shown):
    """How one kind of component is asked about. begins: the sentence's first words; explain and
    simulate: what is wanted; shots: worked explanations, the least useful last; example: a worked
    simulation."""

    begins: str
    explain: str
    simulate: str
    shots: tuple[Shot, ...]
    example: Shot


PART = Form(
    "it responds to",
    "A component of a language model is studied. Below are texts, one token a line, each followed "
    "by how strongly the component responds there, from 0 to 10. Say in one short sentence what it "
    "responds to. Begin with: it responds to",
    "A component of a language model responds to some tokens. Given what it responds to and a list "
    "of tokens, say for each token how strongly it responds, as an integer from 0 to 10. Answer "
    "with a JSON list of as many integers as there are tokens, and with nothing else.",
    (
        (
            "They\t0\n met\t0\n on\t0\n Monday\t10\n,\t0\n not\t0\n on\t1\n Friday\t9\n\n"
            "The\t0\n Sunday\t8\n paper\t0\n came\t0\n late\t0",
            "it responds to days of the week",
        ),
        (
            "Anna\t0\n saw\t0\n Ben\t0\n,\t0\n and\t0\n Anna\t9\n waved\t0\n\n"
            "The\t0\n mill\t0\n stood\t0\n by\t0\n the\t3\n old\t0\n mill\t10",
            "it responds to a word that has come before",
        ),
        (
            "It\t0\n costs\t0\n $\t0\n40\t10\n or\t0\n €\t0\n35\t9\n in\t0\n 1999\t1",
            "it responds to amounts of money, after the sign of a currency",
        ),
    ),
    (
        "it responds to days of the week\n" + json.dumps(["On", " Monday", " we", " met"]),
        "[0, 10, 0, 0]",
    ),
)
HEAD = Form(
    "it looks",
    "A head of a language model is studied. Below are texts, in each of which it looks from the "
    "token in [[ ]] back to the token in ** **; under each the pair once more, from -> to. Say in "
    "one short sentence from what to what it looks. Begin with: it looks",
    "A head of a language model looks from some tokens back to others. Given from what to what it "
    "looks and a list of tokens, say for each token how strongly it looks from there to such a "
    "token before it, as an integer from 0 to 10. Answer with a JSON list of as many integers as "
    "there are tokens, and with nothing else.",
    (
        (
            "The key** (**a small one[[)]] was lost\n')' -> ' ('\n\n"
            "He said:** [**no answer[[]]]\n']' -> ' ['",
            "it looks from a closing bracket to the one that it closes",
        ),
        (
            "Snow fell on the** hill**, and the old[[ hill]]\n' hill' -> ' hill'\n\n"
            "**Ben** ran, and then[[ Ben]] stopped\n' Ben' -> 'Ben'",
            "it looks from a word to the same word before",
        ),
        (
            "She gave her** sister** the book, and[[ she]]\n' she' -> ' sister'\n\n"
            "The** king** spoke; then[[ he]] left\n' he' -> ' king'",
            "it looks from a pronoun to whom it stands for",
        ),
    ),
    (
        "it looks from a closing bracket to the one that it closes\n"
        + json.dumps(["He", " (", "old", ")", " sat"]),
        "[0, 0, 0, 10, 0]",
    ),
)


def form(passages: Sequence[Passage]) -> Form:
    """A head's where there are pairs of tokens."""
    return HEAD if any(passage.pair for passage in passages) else PART


def to_explain(train: Sequence[Passage], most: float) -> Messages:
    """The question for a sentence, from the passages with the largest numbers; worked examples,
    then passages, are left out from the end where there is no room."""
    kind = form(train)
    strongest = sorted(train, key=lambda passage: -float(passage.did.max()))[:SHOWN]
    shown = [written(passage, most) if kind is PART else looking(passage) for passage in strongest]
    room = LETTERS - len(kind.explain)
    while len(shown) > 1 and _letters(shown) > room:
        shown.pop()
    shots = list(kind.shots)
    while shots and _letters(shown) + sum(map(_letters, shots)) > room:
        shots.pop()
    return messages(kind.explain, shots, "\n\n".join(shown)[:room])


def to_simulate(kind: Form, sentence: str, tokens: Sequence[str]) -> Messages:
    """The question for a number a token."""
    asked = f"{sentence}\n{json.dumps(list(tokens), ensure_ascii=False)}"
    return messages(kind.simulate, [kind.example], asked)


def written(passage: Passage, most: float) -> str:
    """A passage as it is shown: a token and its step a line."""
    steps = np.minimum(STEPS, np.floor(STEPS * passage.did / most)).astype(int)
    pairs = zip(passage.tokens, steps, strict=True)
    return "\n".join(f"{token}\t{step}" for token, step in pairs)


def looking(passage: Passage) -> str:
    """A head's passage as it is shown: where it looks from and to, in the text and below it."""
    assert passage.pair is not None
    at, to = passage.pair
    marked = list(passage.window)
    marked[to] = f"**{marked[to]}**"
    marked[at] = f"[[{marked[at]}]]"
    return f"{''.join(marked)}\n{passage.window[at]!r} -> {passage.window[to]!r}"


def sentence(kind: Form, answer: str) -> str:
    """The first line of an answer, begun as was asked for."""
    line = " ".join(answer.strip().partition("\n")[0].split()).rstrip(".")
    first = kind.begins.rpartition(" to")[0] or kind.begins
    return line if line.lower().startswith(first) else f"{kind.begins} {line}"


def messages(system: str, shots: Sequence[Shot], asked: str) -> Messages:
    """A conversation: what is wanted, worked examples, the question."""
    before = [
        message
        for question, answer in shots
        for message in (
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        )
    ]
    return [{"role": "system", "content": system}, *before, {"role": "user", "content": asked}]


def _letters(texts: Sequence[str]) -> int:
    return sum(map(len, texts))
