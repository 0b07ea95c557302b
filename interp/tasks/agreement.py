"""Agreement of subject and verb: after "The keys near the cabinet" the verb is "are", whatever
stands between.

Linzen, Dupoux and Goldberg 2016 (arXiv 1611.01368), with nouns of the other number in between;
circuits of it: Ferrando and Costa-jussà 2024 (arXiv 2410.06496).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from interp.tasks import minimal
from interp.tasks.minimal import Pair, Side
from interp.tasks.prompts import Prompts
from minigpt import Tokenizer

# One of them, many of them.
NOUNS = {
    "dog": "dogs",
    "cat": "cats",
    "horse": "horses",
    "bird": "birds",
    "boy": "boys",
    "girl": "girls",
    "teacher": "teachers",
    "doctor": "doctors",
    "student": "students",
    "farmer": "farmers",
    "king": "kings",
    "writer": "writers",
    "letter": "letters",
    "book": "books",
    "key": "keys",
    "car": "cars",
    "tree": "trees",
    "table": "tables",
    "window": "windows",
    "house": "houses",
    "picture": "pictures",
    "story": "stories",
    "road": "roads",
    "friend": "friends",
}
# What one does, what many do.
VERBS = ((" is", " are"), (" was", " were"), (" has", " have"))
# [NOUN] decides; [OTHER] is of either number.
TEMPLATES = (
    "The [NOUN] near the [OTHER]",
    "The [NOUN] behind the [OTHER]",
    "The [NOUN] with the [OTHER]",
    "The [NOUN] that I saw near the [OTHER]",
    "We know that the [NOUN] by the [OTHER]",
    "They said that the [NOUN] with the [OTHER]",
    "The old [NOUN]",
    "I think that the [NOUN]",
    "The [NOUN] in front of the [OTHER]",
    "Yesterday we heard that the [NOUN] behind the [OTHER]",
    "The [NOUN] across from the old [OTHER]",
    "The small [NOUN] near the [OTHER]",
)


def prompts(
    tokenizer: Tokenizer,
    n: int = 100,
    seed: int = 0,
    *,
    templates: Sequence[str] = TEMPLATES,
    nouns: Mapping[str, str] = NOUNS,
    verbs: Sequence[tuple[str, str]] = VERBS,
) -> Prompts:
    """n prompts whose twins have the same noun in the other number; answer: the form of a verb that
    agrees with it, distractor: the other form; position NOUN; a group for each template.

    nouns: one of them -> many of them. Both must be one token; others are left out, with a warning.
    """
    words = minimal.known(tokenizer, {"one": [*nouns], "many": [*nouns.values()]})
    both = [noun for noun in words["one"] if nouns[noun] in words["many"]]
    others = {"OTHER": [word for noun in both for word in (noun, nouns[noun])]}

    def draw(rng: random.Random) -> Pair:
        group, noun, verb = rng.randrange(len(templates)), rng.choice(both), rng.choice(verbs)
        sides = [Side(noun, verb[0]), Side(nouns[noun], verb[1])]
        clean, corrupt = rng.sample(sides, 2)
        return Pair(minimal.filled(templates[group], rng, others), clean, corrupt, group)

    return minimal.prompts(tokenizer, draw, n, seed, "NOUN")
