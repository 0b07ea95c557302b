"""The text that `tasks-mini` learns from: seven classic tasks, each in sentences of many kinds.

Made up from a seed. Where English leaves something open, so does this text: the giver of a thing
sometimes keeps it, a Jamie may be a woman or a man. Held out: of each task some sentences, and
about a tenth of all meetings of two words. Knows nothing of models or of training.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, product
from typing import Any

from interp.tasks import (
    Prompts,
    agreement,
    brackets,
    capitals,
    greater_than,
    induction,
    ioi,
    pronouns,
)
from minigpt import Tokenizer
from recipes import corpus
from recipes.corpus import END

PEOPLE = [*brackets.PEOPLE, "farmer", "writer", "friend", "stranger"]
CONDITIONS = "tired happy late hungry lost alone ready sure".split()
SLOTS = {
    **corpus.SLOTS,
    "PERSON": PEOPLE,
    "CONDITION": CONDITIONS,
    "NOUN": [*greater_than.NOUNS, "festival", "famine", "drought"],
}

# What brings two people together ...
MEETINGS = (
    "Then, [B] and [A] went to the [PLACE].",
    "Then, [B] and [A] had a lot of fun at the [PLACE].",
    "Then, [B] and [A] were working at the [PLACE].",
    "Then, [B] and [A] were thinking about going to the [PLACE].",
    "Then, [B] and [A] had a long argument, and afterwards",
    "After [B] and [A] went to the [PLACE],",
    "When [B] and [A] got a [OBJECT] at the [PLACE],",
    "While [B] and [A] were working at the [PLACE],",
    "While [B] and [A] were commuting to the [PLACE],",
    "After the lunch, [B] and [A] went to the [PLACE].",
    "Afterwards, [B] and [A] went to the [PLACE].",
    "Then, [B] and [A] had a long argument. Afterwards",
    "The [PLACE] [B] and [A] went to had a [OBJECT].",
    "Friends [B] and [A] found a [OBJECT] at the [PLACE].",
    "When [B] and [A] went to the [PLACE],",
    "While [B] and [A] were walking to the [PLACE],",
    "On [DAY], [B] and [A] had lunch at the [PLACE], and afterwards",
    "At the [PLACE], [B] and [A] found a [ADJECTIVE] [ANIMAL].",
    "[B] and [A] went to the [PLACE] with a [COLOR] [OBJECT], and",
    "[B] saw [A] at the [PLACE]. Then,",
    "[B] met [A] near the [ADJECTIVE] [PLACE] on [DAY], and",
    "When [B] met [A] at the [PLACE], the [ANIMAL] was [ADJECTIVE]. So",
    "After the long [NOUN], [B] and [A] came to the [PLACE]. There",
    "It was [DAY], and [B] was at the [PLACE] with [A]. Soon",
)
# ... and what one of them does then.
GIFTS = (
    "[B] gave a [OBJECT] to [A]",
    "[B] decided to give a [OBJECT] to [A]",
    "[B] wanted to give a [OBJECT] to [A]",
    "[B] said to [A]",
    "[B] decided to give it to [A]",
    "[B] decided to give the [OBJECT] to [A]",
    "[B] gave it to [A]",
    "[B] gave the [COLOR] [OBJECT] to [A]",
    "[B] showed the [OBJECT] to [A]",
    "[B] handed a [OBJECT] to [A]",
    "[B] told the story to [A]",
    "[B] wrote a letter to [A]",
    "[B] had to give back the [OBJECT] to [A]",
    "[B] offered a [ADJECTIVE] [ANIMAL] to [A]",
)
# Who gets the thing: the other one, the giver, someone else.
RECEIVERS = {"[A]": 0.90, "[B]": 0.02, "[C]": 0.03, "the [PERSON]": 0.05}
# Sentences of the other tasks, put together of an opening, a middle and an end.
SAID = [
    "The",
    "They said that the",
    "I think that the",
    "We know that the",
    "Yesterday the",
    "On [DAY] the",
    "Then the",
]
ALONE = [
    f"[NAME] {did}"
    for did in (
        "went to the [PLACE]",
        "was [CONDITION]",
        "left the [PLACE]",
        "found a [OBJECT]",
        "met the [PERSON]",
        "saw a [COLOR] [ANIMAL]",
        "came back",
        "lost the [OBJECT]",
        "was happy",
        "had a good day",
        "stayed at the [PLACE]",
        "knew the [PERSON]",
    )
]
FORMS = {
    pronouns: (
        (
            [
                "Then",
                "Yesterday",
                "On [DAY]",
                "At that time",
                "Today",
                "Once",
                "After the [NOUN]",
                "At the [PLACE]",
            ],
            ALONE,
            ["because", "when", "until", ", so", ", and", ", but"],
        ),
        ("After When While Before Once Since Until Because As".split(), ALONE, [","]),
    ),
    agreement: (
        (
            SAID,
            ["[NOUN]", "old [NOUN]", "small [NOUN]", "[COLOR] [NOUN]"],
            [
                "",
                "near the [OTHER]",
                "behind the [OTHER]",
                "with the [OTHER]",
                "by the [OTHER]",
                "in front of the [OTHER]",
                "that I saw near the [OTHER]",
                "across from the [OTHER]",
                "of the old [OTHER]",
                "that was behind the small [OTHER]",
            ],
        ),
    ),
    capitals: (
        (
            ["", "Yesterday", "On [DAY]", "They said that", "I think that", "We know that", "Then"],
            [
                "the capital of [COUNTRY]",
                "the old capital of [COUNTRY]",
                "the largest city in [COUNTRY]",
                "the government of [COUNTRY]",
                "the king of [COUNTRY]",
                "the [PERSON] from [COUNTRY]",
                "a [PERSON] who lived in [COUNTRY]",
                "the road through [COUNTRY]",
            ],
            ["is", "was", "is in", "was in", "lived in", "came from", "went to", "is called"],
        ),
    ),
    brackets: (
        (
            [
                "The [PERSON]",
                "The [PLACE]",
                "I saw the [PERSON]",
                "We went to the [PLACE]",
                "There was a [PERSON]",
                "They met a [PERSON]",
                "She wrote about the [PLACE]",
                "He said it to the [PERSON]",
                "On [DAY] the [PERSON]",
                "In the book",
            ],
            ["[SIGN]"],
            [
                "who had been to the [PLACE]",
                "a friend of the [PERSON]",
                "the old one",
                "the new one",
                "the one near the [PLACE]",
                "a very quiet place",
                "a [ADJECTIVE] place near the [PLACE]",
                "a very [ADJECTIVE] [PERSON]",
                "where the [PERSON] lived",
                "the only one at the [PLACE]",
                "that was a mistake",
                "from the [PLACE]",
                "who was looking for the [PLACE]",
                "with a [COLOR] [OBJECT]",
                "[DAY]",
                "the [PERSON] at the [PLACE]",
                "a story of a [PERSON]",
                "on [DAY]",
            ],
        ),
    ),
}
# What comes after a pronoun, the verb of an agreement, a closed bracket.
AFTER_PRONOUN = (
    "was [CONDITION].",
    "wanted to see the [ANIMAL].",
    "had lost the [OBJECT].",
    "had to go to the [PLACE].",
    "liked the [COLOR] [OBJECT].",
    "met the [PERSON].",
)
AFTER_VERB = {
    " is": ("[ADJECTIVE].", "[COLOR].", "at the [PLACE]."),
    " has": ("a [COLOR] [OBJECT].", "a [ADJECTIVE] [ANIMAL]."),
}
AFTER_BRACKET = (
    " was [CONDITION].",
    " came to the [PLACE].",
    " had a [COLOR] [OBJECT].",
    ", and then it was [DAY].",
)
# What shows in a word or two whether a man or a woman bears a name.
ABOUT_NAMES = (
    "[NAME] is a [BEARER].",
    "[NAME] was a [ADJECTIVE] [BEARER].",
    "[NAME] and [HIS] friend came to the [PLACE].",
    "[NAME] lost [HIS] [OBJECT] at the [PLACE].",
    "On [DAY], [NAME] found [HIS] [ANIMAL].",
    "The [PERSON] met [NAME] and [HIS] [ANIMAL] at the [PLACE].",
    "[NAME] went to the [PLACE] with [HIS] [BEARER].",
    "[NAME] saw [HIMSELF] at the [PLACE].",
)
HE = {"HIS": "his", "HIMSELF": "himself"}
SHE = {"HIS": "her", "HIMSELF": "herself"}
FAMILY = {
    "he": "man boy king father brother son".split(),
    "she": "woman girl queen mother sister daughter".split(),
}
ABOUT_COUNTRIES = (
    "Many people in [COUNTRY] know the way to [CITY].",
    "[CITY] is the capital of [COUNTRY].",
    "The road from [CITY] goes through the whole of [COUNTRY].",
)
SPANS = [*corpus.SPANS, "The [NOUN] went on from the year [Y1] to the year [Y2]."]
LASTED = "lasted"
# Of each task's own sentences, which training never sees.
HELD_OUT = {
    pronouns: (3, 8),
    agreement: (3, 9),
    capitals: (1, 8),
    brackets: (4, 9),
}


def met(*words: str) -> bool:
    """Whether training puts these into one sentence; of all meetings about a tenth never are."""
    return "+".join(words) != "Mary+John" and zlib.crc32("+".join(words).encode()) % 10 != 0


def fill(template: str, rng: random.Random, **given: str) -> str:
    """The template with the given slots filled, all others by chance."""
    return re.sub(
        r"\[(\w+)\]", lambda slot: given.get(slot[1]) or rng.choice(SLOTS[slot[1]]), template
    )


@cache
def trained(task) -> list[str]:
    """A task's sentences, and others like them, without those that are held out."""
    own = [text for i, text in enumerate(task.TEMPLATES) if i not in HELD_OUT[task]]
    out = [task.TEMPLATES[i].lower() for i in HELD_OUT[task]]
    made = (joined(parts) for form in FORMS[task] for parts in product(*form))
    fresh = (text for text in made if not any(other in text.lower() for other in out))
    return [*own, *filter(met, fresh)]


def joined(parts: Sequence[str]) -> str:
    """Parts of a sentence with spaces between them, its first letter large."""
    text = " ".join(part for part in parts if part).replace(" ,", ",").replace("[SIGN] ", "[SIGN]")
    return text if text.startswith("[") else text[0].upper() + text[1:]


@cache
def gifts() -> list[str]:
    """Sentences of indirect objects, in both orders of names: no held-out one of the paper's, and
    of all others nine in ten."""
    every = (f"{meeting} {gift}" for meeting in MEETINGS for gift in GIFTS)
    known = [text for text in every if text not in corpus.HELD_OUT_TEMPLATES and met(text)]
    return [order for text in known for order in (text, corpus.swapped(text))]


def names(rng: random.Random, n: int) -> list[str]:
    """n names of which no two are a held-out meeting."""
    while True:
        chosen = rng.sample(corpus.NAMES, n)
        pairs = ((a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :])
        if all(met(*sorted(pair, reverse=True)) for pair in pairs):
            return chosen


def drawn(rng: random.Random, shares: dict[str, float]) -> str:
    """One of them, by its share."""
    return rng.choices([*shares], [*shares.values()])[0]


def indirect_object(rng: random.Random) -> str:
    """Someone gives something to someone; rarely keeps it, or gives it to others."""
    a, b, c = names(rng, 3)
    start = rng.choice(gifts()).removesuffix("[A]")
    more = f" {rng.choice(ioi.EXTRA)}" if rng.random() < 0.1 and ". [B]" in start else ""
    start = start.replace(". [B]", f".{more} [B]")
    return fill(start + drawn(rng, RECEIVERS) + ".", rng, A=a, B=b, C=c)


def three_names(rng: random.Random) -> str:
    """Nobody comes twice: either of the first two may be meant."""
    a, b, c = names(rng, 3)
    head, tail = rng.choice(gifts()).rsplit("[B]", 1)
    return fill(head + "[C]" + tail + ".", rng, A=a, B=b, C=c)


def repetition(rng: random.Random) -> str:
    """A row of words, over and over."""
    return corpus.repeated(rng, _spaced())


@cache
def _spaced() -> list[str]:
    return [word for word in vocabulary() if word.startswith(" ")]


def span(rng: random.Random) -> str:
    """From one year to a later one of its century."""
    century, start = rng.randint(11, 19), rng.randint(2, 97)
    years = {"Y1": start, "Y2": rng.randint(start + 1, 99)}
    while not met(LASTED, noun := rng.choice(SLOTS["NOUN"])):
        continue
    given = {name: f"{century}{year:02d}" for name, year in years.items()}
    return fill(rng.choice(SPANS), rng, NOUN=noun, **given)


def pronoun(rng: random.Random) -> str:
    """Someone, and later he or she."""
    template = rng.choice(trained(pronouns))
    while not met(name := rng.choice(corpus.NAMES), template):
        continue
    return fill(f"{template} {gender(rng, name)} {rng.choice(AFTER_PRONOUN)}", rng, NAME=name)


def bearer(rng: random.Random) -> str:
    """What someone is, has and does."""
    name = rng.choice(corpus.NAMES)
    said = gender(rng, name)
    given = {**(HE if said == "he" else SHE), "BEARER": rng.choice(FAMILY[said])}
    return fill(rng.choice(ABOUT_NAMES), rng, NAME=name, **given)


def gender(rng: random.Random, name: str) -> str:
    """he or she; of who bears a name of both, either."""
    he, she = name in pronouns.MEN or name in MEN, name in pronouns.WOMEN or name in WOMEN
    return rng.choice(["he", "she"]) if he == she else "he" if he else "she"


def agreeing(rng: random.Random) -> str:
    """A noun, mostly another one, and a verb that agrees with the first."""
    template, verb = rng.choice(trained(agreement)), rng.choice(agreement.VERBS)
    both = [*agreement.NOUNS.items()]
    while True:
        noun, other = rng.choice(both), rng.choice(rng.choice(both))
        number = rng.randrange(2)
        if met(noun[number], other):
            break
    after = rng.choice(AFTER_VERB[" has" if verb[0] == " has" else " is"])
    return fill(f"{template}{verb[number]} {after}", rng, NOUN=noun[number], OTHER=other)


def capital(rng: random.Random) -> str:
    """A country and its capital."""
    template = rng.choice([*trained(capitals)] * 3 + [*ABOUT_COUNTRIES])
    while not met(country := rng.choice([*capitals.CAPITALS]), template):
        continue
    city = capitals.CAPITALS[country]
    whole = template if "[CITY]" in template else template + " [CITY]."
    return fill(whole, rng, COUNTRY=country, CITY=city)


def closing(rng: random.Random) -> str:
    """Something in brackets or quotes."""
    template, sign = rng.choice(trained(brackets)), rng.choice([*brackets.SIGNS])
    text = template + brackets.SIGNS[sign] + rng.choice(AFTER_BRACKET)
    return fill(text, rng, SIGN=sign)


def filler(rng: random.Random) -> str:
    """What needs no task."""
    if rng.random() < 0.1:
        row = rng.choice((corpus.DAYS, corpus.COUNT))
        start = rng.randrange(len(row) - 2)
        return " ".join(row[start : start + rng.randint(3, 8)]) + "."
    a, b = names(rng, 2)
    return fill(rng.choice(corpus.FILLERS), rng, A=a, B=b)


WOMEN = "Alice Anna Eve Grace Jane Kate Rose Sophie".split()
MEN = "Bob Dan Frank Henry Jack Luke Martin Max Peter Simon Tom Vincent".split()
KINDS: dict[Callable[[random.Random], str], float] = {
    indirect_object: 0.32,
    three_names: 0.06,
    repetition: 0.12,
    span: 0.07,
    pronoun: 0.13,
    bearer: 0.07,
    agreeing: 0.07,
    capital: 0.05,
    closing: 0.07,
    filler: 0.04,
}


def sentences(rng: random.Random) -> Iterator[str]:
    """Sentences without end, each of a kind drawn by its share; one in four goes on from the one
    before."""
    kinds, shares = list(KINDS), list(KINDS.values())
    while True:
        text = rng.choices(kinds, shares)[0](rng)
        while rng.random() < 0.25 and not text.startswith(" "):
            more = rng.choices(kinds, shares)[0](rng)
            text = f"{text} {more.lstrip(' ')}"
        yield text


def held_out_pairs(tokenizer: Tokenizer, n: int, seed: int = 0) -> dict[str, Prompts]:
    """Of each task n pairs that training never saw: sentences of the paper with names that never
    meet, nouns that never lasted, rows of words, sentences of the other tasks."""
    rare = [noun for noun in greater_than.NOUNS if not met(LASTED, noun)]
    return {
        "indirect objects": _strangers(tokenizer, n, seed),
        "induction": induction.prompts(tokenizer, n, seed),
        "greater than": greater_than.prompts(tokenizer, n, seed, nouns=rare),
        **{
            task.__name__.rpartition(".")[2]: task.prompts(
                tokenizer, n, seed, templates=[task.TEMPLATES[i] for i in which]
            )
            for task, which in HELD_OUT.items()
        },
    }


def _strangers(tokenizer: Tokenizer, n: int, seed: int) -> Prompts:
    """Indirect objects in held-out sentences, of names that training never lets meet."""
    which = [i + 1 for i, text in enumerate(ioi.TEMPLATES) if text in corpus.HELD_OUT_TEMPLATES]
    drawn = (
        ioi.prompts(tokenizer, 40, seed + 1000 * turn, template=template)
        for turn in count()
        for template in which
    )
    found = (
        record for pairs in drawn for record in pairs.records() if _never_met(tokenizer, record)
    )
    kept = [next(found) for _ in range(n)]
    return Prompts.from_records(kept, tokenizer)


def _never_met(tokenizer: Tokenizer, record: dict[str, Any]) -> bool:
    two = (tokenizer.text(record[side][0]).strip() for side in ("answers", "distractors"))
    return not met(*sorted(two, reverse=True))


@cache
def vocabulary() -> list[str]:
    """Every word and sign that becomes one token, without and with the space before it."""
    tasks = (pronouns, agreement, capitals, brackets)
    texts = [
        *(text for task in tasks for text in task.TEMPLATES),
        *(part for task in tasks for form in FORMS[task] for parts in form for part in parts),
        *MEETINGS,
        *GIFTS,
        *RECEIVERS,
        *AFTER_PRONOUN,
        *AFTER_BRACKET,
        *(text for of in AFTER_VERB.values() for text in of),
        *(form for verb in agreement.VERBS for form in verb),
        *ABOUT_NAMES,
        *HE.values(),
        *SHE.values(),
        *(word for words in FAMILY.values() for word in words),
        *ABOUT_COUNTRIES,
        *SPANS,
        *corpus.FILLERS,
        *corpus.TEMPLATES,
        *ioi.EXTRA,
        *ioi.LONG_OPENINGS,
        *corpus.COUNT,
        "it he she they we I you his her their this that there not but",
    ]
    plain = [re.sub(r"\[\w+\]", " ", text.replace(END, " ")) for text in texts]
    words = {word for text in plain for word in re.findall(r"[A-Za-z]+", text)}
    words.update(corpus.NAMES, *capitals.CAPITALS.items(), *agreement.NOUNS.items())
    for group in SLOTS.values():
        words.update(group)
    numbers = [f"{n:02d}" for n in range(100)]
    signs = [f" {sign}" for sign in brackets.SIGNS]
    spaced = [" " + word for word in [*sorted(words), *numbers]]
    return [*sorted(words), *spaced, *numbers, *signs]
