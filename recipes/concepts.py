"""Text whose truth is known, token by token: which concept of the generator's each token is, for
the card to ask which latent knows it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from minigpt.tokenizer import Tokenizer
from recipes import corpus

LONGEST = 40
# What is known of the places of words.
Structure: TypeAlias = Callable[[Sequence[str]], dict[str, list[int]]]
# Words by what they are; a word is of one group only.
GROUPS: dict[str, Sequence[str]] = {
    "name": corpus.NAMES,
    "place": corpus.PLACES,
    "object": corpus.OBJECTS,
    "noun of time": corpus.NOUNS,
    "animal": corpus.ANIMALS,
    "color": corpus.COLORS,
    "adjective": corpus.ADJECTIVES,
    "verb of motion": corpus.VERBS,
    "day": corpus.DAYS,
    "count": corpus.COUNT,
}


def lines(tokenizer: Tokenizer, n: int, seed: str = "concepts") -> Iterator[str]:
    """n sentences of the generator, of at most LONGEST tokens, as lines of JSON: text, and by
    concept the positions of its tokens."""
    rng, kinds, shares = random.Random(seed), list(corpus.KINDS), list(corpus.KINDS.values())
    made = 0
    while made < n:
        text, structure = _sentence(rng, rng.choices(kinds, shares)[0].__name__.strip("_"))
        words = [piece.strip() for piece in tokenizer.pieces(tokenizer.encode(text))]
        if len(words) <= LONGEST:
            truth = {**_groups(words), **structure(words)}
            yield json.dumps({"text": text, "concepts": truth}) + "\n"
            made += 1


def _sentence(rng: random.Random, kind: str) -> tuple[str, Structure]:
    """A sentence, and what makes of its words what is known of their places."""
    if kind == "indirect_object":
        text, a, b = corpus.indirect_object(rng)
        return text + ".", partial(_who_is_who, a, b)
    text = next(make for make in corpus.KINDS if make.__name__ == f"_{kind}")(rng)
    return text, _again if kind == "repetition" else _nothing


def _who_is_who(a: str, b: str, words: Sequence[str]) -> dict[str, list[int]]:
    first, second = ([i for i, word in enumerate(words) if word == name] for name in (a, b))
    return {
        "indirect object": first[:1],
        "subject, first time": second[:1],
        "subject again": second[1:2],
        "answer": first[1:],
        "before the answer": [first[1] - 1],
    }


def _nothing(_: Sequence[str]) -> dict[str, list[int]]:
    return {}


def _again(words: Sequence[str]) -> dict[str, list[int]]:
    """From where a row begins anew."""
    length = next(n for n in range(1, len(words)) if _repeats(words, n))
    return {"seen before in a repeated row": list(range(length, len(words)))}


def _groups(words: Sequence[str]) -> dict[str, list[int]]:
    found = {
        group: [i for i, word in enumerate(words) if word in members]
        for group, members in GROUPS.items()
    }
    signs = {
        "full stop": [i for i, word in enumerate(words) if word == "."],
        "comma": [i for i, word in enumerate(words) if word == ","],
        "number": [i for i, word in enumerate(words) if word.isdigit()],
        "first token": [0],
    }
    return {concept: places for concept, places in {**found, **signs}.items() if places}


def _repeats(words: Sequence[str], n: int) -> bool:
    return len(words) % n == 0 and list(words[:n]) * (len(words) // n) == list(words)


def refuse_overlap(groups: Mapping[str, Sequence[str]] = GROUPS) -> None:
    """ValueError where a word is of two groups, so that nothing is known of it."""
    seen: dict[str, str] = {}
    for group, members in groups.items():
        for word in members:
            if seen.setdefault(word, group) != group:
                raise ValueError(f"{word!r} is of {seen[word]} and of {group}")
