"""The text that the embedded model learns from, made up sentence by sentence from a seed.

Knows words, templates and what is held out. Knows nothing of models or of training. Names, places
and templates 1 to 15 are those of the IOI paper (Wang et al. 2022, arXiv 2211.00593, App. E).
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from interp.tasks import ioi

END = "<|endoftext|>"

NAMES = [
    *ioi.NAMES,
    *"""
Alice Anna Bob Dan Eve Frank Grace Henry Jack Jane Kate Luke Martin Max Peter Rose Sam Sid Simon
Sophie Tom Vincent
""".split(),
]
PLACES = [
    *ioi.PLACES,
    *"park market beach library museum church farm bakery bridge castle harbor village".split(),
]
OBJECTS = [*ioi.OBJECTS, *"book bag ball letter flower key hat coin gift map pen bottle".split()]
NOUNS = """
war plan project journey treaty conflict reign festival expedition siege contract drought trial
famine strike voyage
""".split()
ANIMALS = "dog cat horse bird fox bear wolf rabbit mouse duck".split()
COLORS = "red blue green white black yellow brown grey".split()
ADJECTIVES = "old young small big quiet happy tired clever hungry brave".split()
VERBS = "walked ran came moved returned travelled".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COUNT = "one two three four five six seven eight nine ten eleven twelve".split()

# [A] is the indirect object, [B] the subject that comes twice; every template is also used with the
# first two swapped.
TEMPLATES = [
    *ioi.TEMPLATES,
    "When [B] and [A] went to the [PLACE], [B] gave a [OBJECT] to [A]",
    "While [B] and [A] were walking to the [PLACE], [B] wanted to give a [OBJECT] to [A]",
    "On [DAY], [B] and [A] had lunch at the [PLACE], and afterwards [B] gave the [OBJECT] to [A]",
    "At the [PLACE], [B] and [A] found a [ADJECTIVE] [ANIMAL]. [B] gave it to [A]",
    "[B] and [A] went to the [PLACE] with a [COLOR] [OBJECT], and [B] gave it to [A]",
    "[B] saw [A] at the [PLACE]. Then, [B] gave a [COLOR] [OBJECT] to [A]",
    "[B] met [A] near the [ADJECTIVE] [PLACE] on [DAY], and [B] showed the [OBJECT] to [A]",
    "When [B] met [A] at the [PLACE], the [ANIMAL] was [ADJECTIVE]. So [B] handed a [OBJECT] to "
    "[A]",
    "After the long [NOUN], [B] and [A] came to the [PLACE]. There [B] told the story to [A]",
]
# Never used in training, in either order: one of each kind of sentence, the README's own example
# among them.
HELD_OUT_TEMPLATES = [TEMPLATES[i] for i in (3, 6, 9, 11, 14, 15)]
TRAINED_TEMPLATES = [t for t in TEMPLATES if t not in HELD_OUT_TEMPLATES]

FILLERS = [
    "The [ADJECTIVE] [ANIMAL] [VERB] to the [PLACE] and found a [COLOR] [OBJECT].",
    "[A] had a good day.",
    "[A] was tired and [VERB] to the [PLACE].",
    "[A] was enjoying the situation.",
    "On [DAY], [A] found a [OBJECT] at the [PLACE] and gave it to the [ADJECTIVE] [ANIMAL].",
    "There was a [COLOR] [OBJECT] near the [PLACE], and the [ANIMAL] was [ADJECTIVE].",
    "[A] and [B] had lunch at the [PLACE] with the [ANIMAL].",
    "The [PLACE] was [ADJECTIVE], and so was the [ANIMAL] that [A] met there.",
    "When the [NOUN] was over, the [ANIMAL] [VERB] to the [ADJECTIVE] [PLACE].",
    "It was a long [NOUN], and the [ADJECTIVE] [PLACE] was [COLOR].",
]
SPANS = [
    "The [NOUN] lasted from the year [Y1] to the year [Y2].",
    "The [NOUN] lasted from [Y1] to [Y2].",
    "From [Y1] to [Y2] the [PLACE] was [COLOR].",
    "The [NOUN] began in the year [Y1] and ended in the year [Y2].",
]
SLOTS = {
    "PLACE": PLACES,
    "OBJECT": OBJECTS,
    "NOUN": NOUNS,
    "ANIMAL": ANIMALS,
    "COLOR": COLORS,
    "ADJECTIVE": ADJECTIVES,
    "VERB": VERBS,
    "DAY": DAYS,
}


def held_out(a: str, b: str) -> bool:
    """Whether training never puts these two names into one sentence: about a tenth of all pairs,
    Mary and John among them."""
    pair = "+".join(sorted((a, b)))
    return pair == "John+Mary" or zlib.crc32(pair.encode()) % 10 == 0


def vocabulary() -> list[str]:
    """Every word and sign that becomes one token, without and (for words) with the space before
    it."""
    texts = (
        TEMPLATES
        + FILLERS
        + SPANS
        + [" ".join(COUNT), END.join(DAYS), "from to it he she they the a an and is are"]
    )
    words = {
        w
        for text in texts
        for w in re.findall(r"[A-Za-z]+", re.sub(r"\[\w+\]", " ", text.replace(END, " ")))
    }
    for group in (NAMES, *SLOTS.values()):
        words.update(group)
    numbers = [f"{n:02d}" for n in range(100)]
    return sorted(words) + [" " + w for w in sorted(words)] + numbers + [" " + n for n in numbers]


def fill(template: str, rng: random.Random, **given: str) -> str:
    """The template with its slots filled: the given ones first, the others at random (one choice
    for each kind)."""
    values = {**{kind: rng.choice(words) for kind, words in SLOTS.items()}, **given}
    return re.sub(r"\[(\w+)\]", lambda slot: values[slot[1]], template)


def swapped(template: str) -> str:
    """The template with its first two names in the other order (ABBA for BABA)."""
    start, one, middle, two, rest = re.split(r"(\[[AB]\])", template, maxsplit=2)
    return start + two + middle + one + rest


def names(rng: random.Random, n: int, *, unseen: bool = False) -> list[str]:
    """n different names; no two of them a held-out pair, or (unseen) the first two a held-out
    pair."""
    while True:
        chosen = rng.sample(NAMES, n)
        pairs = [held_out(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :]]
        if pairs[0] if unseen else not any(pairs):
            return chosen


def indirect_object(
    rng: random.Random, templates: list[str] = TRAINED_TEMPLATES, *, unseen: bool = False
) -> tuple[str, str, str]:
    """A sentence that ends in its indirect object, with that name and the subject's."""
    a, b = names(rng, 2, unseen=unseen)
    template = rng.choice(templates)
    return fill(swapped(template) if rng.random() < 0.5 else template, rng, A=a, B=b), a, b


def _indirect_object(rng: random.Random) -> str:
    return indirect_object(rng)[0] + "."


def _distractor(rng: random.Random) -> str:
    """Three names, so that no name comes twice before the end, and either of the first two may be
    the last word."""
    a, b, c = names(rng, 3)
    head, tail = rng.choice(TRAINED_TEMPLATES).rsplit("[B]", 1)
    return fill(head + "[C]" + tail + ".", rng, A=a, B=b, C=c)


def _repetition(rng: random.Random) -> str:
    return repeated(rng, _spaced())


def repeated(rng: random.Random, words: list[str]) -> str:
    """A row of words, over and over."""
    once = "".join(rng.choice(words) for _ in range(rng.randint(3, 24)))
    return once * rng.randint(2, 4)


@cache
def _spaced() -> list[str]:
    """The tokens that begin with a space: any row of them is read back as the same tokens."""
    return [word for word in vocabulary() if word.startswith(" ")]


def _span(rng: random.Random) -> str:
    century, start = rng.randint(11, 19), rng.randint(2, 97)
    end = rng.randint(start + 1, 99)
    return fill(rng.choice(SPANS), rng, Y1=f"{century}{start:02d}", Y2=f"{century}{end:02d}")


def _filler(rng: random.Random) -> str:
    if rng.random() < 0.15:
        row = rng.choice((DAYS, COUNT))
        start = rng.randrange(len(row) - 2)
        return " ".join(row[start : start + rng.randint(3, 8)]) + "."
    a, b = names(rng, 2)
    return fill(rng.choice(FILLERS), rng, A=a, B=b)


KINDS: dict[Callable[[random.Random], str], float] = {
    _indirect_object: 0.56,
    _distractor: 0.10,
    _repetition: 0.12,
    _span: 0.10,
    _filler: 0.12,
}


def sentences(rng: random.Random) -> Iterator[str]:
    """Sentences without end, each of a kind drawn by its share."""
    kinds, shares = list(KINDS), list(KINDS.values())
    while True:
        yield rng.choices(kinds, shares)[0](rng)
