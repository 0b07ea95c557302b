"""Gendered pronouns: after "Then Mary went to the store because" a woman is "she", a man "he".

The task of Mathwin et al. 2023 (Identifying a preliminary circuit for predicting gendered pronouns
in GPT-2 small), with other sentences. Names are those of the IOI task, by who mostly bears them;
names of both are left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from interp.tasks import ioi, minimal
from interp.tasks.minimal import Pair, Side
from interp.tasks.prompts import Prompts
from minigpt import Tokenizer

BOTH = "Ashley Cody Courtney Jamie Jesse Jose Kelly Lindsay Lindsey Shannon".split()
WOMEN = """
Alicia Allison Amanda Amber Amy Andrea Angela Brittany Christina Christine Crystal Danielle
Elizabeth Emily Erica Erin Heather Jennifer Jessica Katherine Katie Kimberly Kristen Laura Lauren
Lisa Mary Megan Melissa Michelle Nicole Rachel Rebecca Samantha Sara Sarah Stephanie Tiffany Vanessa
""".split()
MEN = [name for name in ioi.NAMES if name not in {*WOMEN, *BOTH}]
TEMPLATES = (
    "Then [NAME] went to the [PLACE] because",
    "On that day [NAME] was tired, so",
    "Yesterday [NAME] left the [PLACE] when",
    "After [NAME] came back from the [PLACE],",
    "When [NAME] was young,",
    "At the [PLACE], [NAME] said that",
    "Today [NAME] was happy because",
    "While [NAME] was at the [PLACE],",
    "Yesterday [NAME] stayed at the [PLACE] until",
    "Before [NAME] went to the [PLACE],",
    "At that time [NAME] knew that",
    "Once [NAME] had found the [PLACE],",
)


def prompts(
    tokenizer: Tokenizer,
    n: int = 100,
    seed: int = 0,
    *,
    templates: Sequence[str] = TEMPLATES,
    women: Sequence[str] = WOMEN,
    men: Sequence[str] = MEN,
    places: Sequence[str] = ioi.PLACES,
) -> Prompts:
    """n prompts about someone, whose twins are about someone of the other gender; answer: the
    pronoun, distractor: the other one; position NAME; a group for each template.

    [NAME] and [PLACE] of a template are filled. Words that are not one token are left out, with a
    warning.
    """
    words = minimal.known(tokenizer, {"PLACE": places, "women": women, "men": men})

    def draw(rng: random.Random) -> Pair:
        group = rng.randrange(len(templates))
        she, he = Side(rng.choice(words["women"]), " she"), Side(rng.choice(words["men"]), " he")
        clean, corrupt = rng.sample([she, he], 2)
        return Pair(minimal.filled(templates[group], rng, words), clean, corrupt, group)

    return minimal.prompts(tokenizer, draw, n, seed, "NAME")
