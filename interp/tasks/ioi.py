"""Indirect object identification: "When Mary and John went to the store, John gave a drink to", and
what it is held against.

Wang et al. 2022 (arXiv 2211.00593): section 2 and App. E (templates), App. A (signals, longer
openings), App. L (extra sentences). Names, places and objects are those of the authors' code,
redwoodresearch/Easy-Transformer: 99 names where the paper says 100, 8 places and 8 objects where it
says 20. Knows nothing of models. No BOS: the paper uses none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from interp.tasks.prompts import Prompts
from interp.tasks.vocabulary import single
from minigpt import Tokenizer
from minigpt.errors import PromptError
from minigpt.shown import Shown

NAMES = """
Aaron Adam Alexander Alicia Allison Amanda Amber Amy Andrea Andrew Angela Anthony Ashley Benjamin
Bradley Brandon Brian Brittany Bryan Charles Christina Christine Christopher Cody Courtney Crystal
Daniel Danielle David Dustin Elizabeth Emily Eric Erica Erin Gregory Heather Jacob James Jamie Jason
Jeffrey Jennifer Jeremy Jesse Jessica John Jonathan Jose Joseph Joshua Justin Katherine Katie Kelly
Kenneth Kevin Kimberly Kristen Kyle Laura Lauren Lindsay Lindsey Lisa Mark Mary Matthew Megan
Melissa Michael Michelle Nathan Nicholas Nicole Patrick Paul Rachel Rebecca Richard Robert Ryan
Samantha Samuel Sara Sarah Scott Sean Shannon Stephanie Stephen Steven Thomas Tiffany Timothy Travis
Tyler Vanessa William
""".split()
PLACES = "store garden restaurant school hospital office house station".split()
OBJECTS = "ring kiss bone basketball computer necklace drink snack".split()

# [A] is the indirect object, [B] the subject that comes twice. In this order of names: BABA; with
# the first two swapped: ABBA.
TEMPLATES = (
    "Then, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] had a lot of fun at the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] were working at the [PLACE]. [B] decided to give a [OBJECT] to [A]",
    "Then, [B] and [A] were thinking about going to the [PLACE]. [B] wanted to give a [OBJECT] to "
    "[A]",
    "Then, [B] and [A] had a long argument, and afterwards [B] said to [A]",
    "After [B] and [A] went to the [PLACE], [B] gave a [OBJECT] to [A]",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give it to [A]",
    "When [B] and [A] got a [OBJECT] at the [PLACE], [B] decided to give the [OBJECT] to [A]",
    "While [B] and [A] were working at the [PLACE], [B] gave a [OBJECT] to [A]",
    "While [B] and [A] were commuting to the [PLACE], [B] gave a [OBJECT] to [A]",
    "After the lunch, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Afterwards, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]",
    "Then, [B] and [A] had a long argument. Afterwards [B] said to [A]",
    "The [PLACE] [B] and [A] went to had a [OBJECT]. [B] gave it to [A]",
    "Friends [B] and [A] found a [OBJECT] at the [PLACE]. [B] gave it to [A]",
)
# What the templates open with, made longer: S1 and S2 stay as far apart, everything stands later
# (the authors' BABA_LONG).
LONG_OPENINGS = (
    *["Then in the morning,"] * 5,
    "After taking a long break",
    *["When soon afterwards"] * 2,
    *["While spending time together"] * 2,
    "After the lunch in the afternoon,",
    "Afterwards, while spending time together",
    "Then in the morning afterwards,",
    "The local big",
    "Friends separated at birth",
)
# Sentences that name one of the two once more (App. L, figure 21).
EXTRA = (
    "[A] had a good day.",
    "[A] was enjoying the situation.",
    "[A] was tired.",
    "[A] enjoyed being with a friend.",
    "[A] was an enthusiast person.",
)
# The templates of the paper, and those that the authors' main experiments reach: half of 15 in each
# order, rounded down.
MODES = {"paper": range(1, 16), "authors": range(1, 8)}
ORDERS = {"ABBA": ("IO", "S1", "S2"), "BABA": ("S1", "IO", "S2")}
# Who stands at IO, S1 and S2: A and B as in the clean prompt, X, Y and Z none of them. The last
# five and the clean prompt are the six data sets of figure 9: the token that S2 tells kept, random
# or inverted, with the position that it tells kept or inverted.
CLEAN = "ABB"
CORRUPTIONS = {
    "ABC": "XYZ",
    "random IO": "XBB",
    "random S": "AXX",
    "random S1": "AXB",
    "random S2": "ABX",
    "S1<->IO": "BAB",
    "S2->IO": "ABA",
    "random": "XYY",
    "random, S2->IO": "XYX",
    "S1<->IO, S2->IO": "BAA",
}


@dataclass(frozen=True, repr=False)
class Draw(Shown):
    """What chance decides about one prompt: its sentence, with named slots, the group that it
    belongs to, and its words."""

    sentence: str
    group: int
    names: Mapping[str, str]
    nouns: Mapping[str, str]

    def words(self, cast: str) -> dict[str, str]:
        """What fills each slot where `cast` says who stands at IO, S1 and S2."""
        return {
            **self.nouns,
            **{
                role: self.names[letter]
                for role, letter in zip(("IO", "S1", "S2"), cast, strict=True)
            },
        }

    def text(self, cast: str) -> str:
        """The prompt with these names."""
        return _filled(self.sentence, self.words(cast))


def prompts(
    tokenizer: Tokenizer,
    n: int = 100,
    seed: int = 0,
    *,
    corrupt: str | None = "ABC",
    mode: str = "paper",
    template: int | None = None,
    order: str | None = None,
    long: bool = False,
    extra: Sequence[str] = (),
    names: Sequence[str] = NAMES,
    places: Sequence[str] = PLACES,
    objects: Sequence[str] = OBJECTS,
) -> Prompts:
    """n prompts of p_IOI with a corrupt twin each; answer IO, distractor S; positions IO, S1, S1+1,
    S2, END; a group for each template and order.

    corrupt: a key of CORRUPTIONS (p_ABC: three other names, all different), or None. The clean side
    does not depend on it, nor a prompt on how many follow; templates and orders come equally often.
    mode: "paper" (15 templates) or "authors" (7); template: 1 to 15, one only; order: "ABBA" or
    "BABA" only. long: longer openings. extra: whose name each inserted sentence repeats, "IO" or
    "S"; the authors insert two: ("IO", "IO"). Words that are not one token are left out, with a
    warning.
    """
    _known("corrupt", corrupt, [*CORRUPTIONS, None])
    _known("mode", mode, MODES)
    _known("template", template, [*range(1, 16), None])
    _known("order", order, [*ORDERS, None])
    words = {
        "names": single(tokenizer, names, "names", least=5),
        "PLACE": single(tokenizer, places, "places"),
        "OBJECT": single(tokenizer, objects, "objects"),
    }
    templates = [template] if template else MODES[mode]
    kinds = _kinds(random.Random(seed), templates, [order] if order else list(ORDERS))
    draws = [
        _draw(f"{seed}.{i}", kind, words, long, extra)
        for i, kind in zip(range(n), kinds, strict=False)
    ]
    return _prompts(tokenizer, draws, corrupt)


def sentence(
    template: int, order: str = "BABA", *, long: bool = False, extra: Sequence[str] = ()
) -> str:
    """A template (1 to 15) up to its end, its slots named by role: "When [S1] and [IO] got a
    [OBJECT] at the [PLACE], [S2] decided to give it to".

    extra: sentences with slots, put behind the last comma or full stop, as the authors' code does.
    """
    opening, rest = re.split(r"(?= \[)", TEMPLATES[template - 1].removesuffix(" [A]"), maxsplit=1)
    roles = iter(ORDERS[order])
    text = re.sub(
        r"\[[AB]\]",
        lambda _: f"[{next(roles)}]",
        (LONG_OPENINGS[template - 1] if long else opening) + rest,
    )
    end = max(text.rfind(","), text.rfind(".")) + 1
    return "".join([text[:end], *(f" {more}" for more in extra), text[end:]])


def group(template: int, order: str, extra: Sequence[int] = ()) -> int:
    """The number of a template in one order, by which means are taken: 0 to 29; more for each row
    of extra sentences.

    Prompts of a group are equally long and put every role at the same position.
    """
    own = 2 * (template - 1) + list(ORDERS).index(order)
    base = len(EXTRA) + 1
    return own + 30 * sum((i + 1) * int(base**place) for place, i in enumerate(extra))


def _kinds(
    rng: random.Random, templates: Sequence[int], orders: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Templates in rounds, each round in another order, each template in every order of names: as
    even as any number of prompts can be."""
    while True:
        for template in rng.sample(templates, len(templates)):
            yield from ((template, order) for order in orders)


def _draw(
    seed: str,
    kind: tuple[int, str],
    words: Mapping[str, Sequence[str]],
    long: bool,
    extra: Sequence[str],
) -> Draw:
    rng = random.Random(seed)
    names = dict(zip("ABXYZ", rng.sample(words["names"], 5), strict=True))
    nouns = {slot: rng.choice(words[slot]) for slot in ("PLACE", "OBJECT")}
    chosen = [rng.randrange(len(EXTRA)) for _ in extra]
    more = [
        EXTRA[i].replace("[A]", f"[{_role(whose)}]") for i, whose in zip(chosen, extra, strict=True)
    ]
    return Draw(sentence(*kind, long=long, extra=more), group(*kind, chosen), names, nouns)


def _role(whose: str) -> str:
    if whose not in ("IO", "S"):
        raise PromptError(
            f"an extra sentence about {whose!r}",
            "'IO' or 'S' for each sentence",
            'extra=("IO", "IO")',
        )
    return "S1" if whose == "S" else whose


def _prompts(tokenizer: Tokenizer, draws: Sequence[Draw], corrupt: str | None) -> Prompts:
    spoiled = None if corrupt is None else [draw.text(CORRUPTIONS[corrupt]) for draw in draws]
    at = {
        role: torch.tensor([_position(tokenizer, draw, role) for draw in draws], dtype=torch.long)
        for role in ("IO", "S1", "S2")
    }
    answers, distractors = ([" " + draw.names[letter] for draw in draws] for letter in "AB")
    return Prompts.from_texts(
        tokenizer,
        [draw.text(CLEAN) for draw in draws],
        spoiled,
        answers,
        distractors,
        {"IO": at["IO"], "S1": at["S1"], "S1+1": at["S1"] + 1, "S2": at["S2"]},
        torch.tensor([draw.group for draw in draws], dtype=torch.long),
    )


def _position(tokenizer: Tokenizer, draw: Draw, role: str) -> int:
    """How many tokens stand before the role's first slot: the name and the space before it are one
    token, which begins there."""
    return len(
        tokenizer.encode(
            _filled(draw.sentence[: draw.sentence.index(f" [{role}]")], draw.words(CLEAN))
        )
    )


def _filled(sentence: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\[(\w+)\]", lambda slot: words[slot[1]], sentence)


def _known(name: str, value: object, legal: Collection[object]) -> None:
    """PromptError unless the value is one of those that are legal for it."""
    if value not in legal:
        raise PromptError(f"{name}={value!r}", ", ".join(map(repr, legal)))
