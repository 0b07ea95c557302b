"""Brackets and quotes: what was opened, "(", "[" or a quote, must be closed by its like.

"The old man (who had been to the store" ends in ")". Models of programs are known to keep count of
brackets; here one is open, and the question is which.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from interp.tasks import ioi, minimal
from interp.tasks.minimal import Pair, Side
from interp.tasks.prompts import Prompts
from minigpt import Tokenizer

SIGNS = {"(": ")", "[": "]", '"': '"'}
PEOPLE = "man woman boy girl king doctor teacher student".split()
TEMPLATES = (
    "The [PERSON] [SIGN]who had been to the [PLACE]",
    "The [PERSON] [SIGN]a friend of the [PERSON]",
    "I saw the [PERSON] [SIGN]the old one",
    "We went to the [PLACE] [SIGN]the one near the [PLACE]",
    "The [PERSON] at the [PLACE] [SIGN]a very big place",
    "In the book [SIGN]a story of a [PERSON]",
    "She wrote about the [PLACE] [SIGN]where the [PERSON] lived",
    "There was a [PERSON] [SIGN]the only one at the [PLACE]",
    "He said it to the [PERSON] [SIGN]that was a mistake",
    "They met a [PERSON] [SIGN]who was looking for the [PLACE]",
    "The [PLACE] [SIGN]the new one",
    "On the table was a letter [SIGN]from the [PERSON] at the [PLACE]",
)


def prompts(
    tokenizer: Tokenizer,
    n: int = 100,
    seed: int = 0,
    *,
    templates: Sequence[str] = TEMPLATES,
    signs: Mapping[str, str] = SIGNS,
    people: Sequence[str] = PEOPLE,
    places: Sequence[str] = ioi.PLACES,
) -> Prompts:
    """n prompts in which a sign is open, whose twins open another; answer: what closes it,
    distractor: what closes the other; position SIGN; a group for each template.

    signs: what opens -> what closes. Words that are not one token are left out, with a warning.
    """
    words = minimal.known(tokenizer, {"PERSON": people, "PLACE": places})
    sides = [Side(opens, closes) for opens, closes in signs.items()]

    def draw(rng: random.Random) -> Pair:
        group = rng.randrange(len(templates))
        clean, corrupt = rng.sample(sides, 2)
        return Pair(minimal.filled(templates[group], rng, words), clean, corrupt, group)

    return minimal.prompts(tokenizer, draw, n, seed, "SIGN")
