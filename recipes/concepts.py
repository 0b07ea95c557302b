"""Text whose truth is known, token by token: which concept of the generator's each token is, for
the card to ask which latent knows it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence

from minigpt.tokenizer import Tokenizer
from recipes import corpus

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
    """n sentences as lines of JSON: text, and by concept the positions of its tokens."""
    rng = random.Random(seed)
    for i in range(n):
        text, truth = _indirect_object(rng, tokenizer) if i % 2 else _other(rng, tokenizer)
        yield json.dumps({"text": text, "concepts": truth}) + "\n"


def _indirect_object(rng: random.Random, tokenizer: Tokenizer) -> tuple[str, dict[str, list[int]]]:
    """One of whose names it is known which is which, held out of training."""
    text, a, b = corpus.indirect_object(rng, corpus.HELD_OUT_TEMPLATES, unseen=True)
    text += "."
    words = _words(text, tokenizer)
    first, second = ([i for i, word in enumerate(words) if word == name] for name in (a, b))
    structure = {
        "indirect object": first[:1],
        "subject, first time": second[:1],
        "subject again": second[1:2],
        "answer": first[1:],
        "before the answer": [first[1] - 1],
    }
    return text, {**_groups(words), **structure}


def _other(rng: random.Random, tokenizer: Tokenizer) -> tuple[str, dict[str, list[int]]]:
    kind = rng.choice([kind for kind in corpus.KINDS if kind.__name__ != "_indirect_object"])
    text = kind(rng)
    words = _words(text, tokenizer)
    again = {}
    if kind.__name__ == "_repetition":
        again = {"seen before in a repeated row": _again(words)}
    return text, {**_groups(words), **again}


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


def _again(words: Sequence[str]) -> list[int]:
    """From where a row begins anew."""
    length = next(n for n in range(1, len(words)) if _repeats(words, n))
    return list(range(length, len(words)))


def _repeats(words: Sequence[str], n: int) -> bool:
    return len(words) % n == 0 and list(words[:n]) * (len(words) // n) == list(words)


def _words(text: str, tokenizer: Tokenizer) -> list[str]:
    return [piece.strip() for piece in tokenizer.pieces(tokenizer.encode(text))]


def refuse_overlap(groups: Mapping[str, Sequence[str]] = GROUPS) -> None:
    """ValueError where a word is of two groups, so that nothing is known of it."""
    seen: dict[str, str] = {}
    for group, members in groups.items():
        for word in members:
            if seen.setdefault(word, group) != group:
                raise ValueError(f"{word!r} is of {seen[word]} and of {group}")
