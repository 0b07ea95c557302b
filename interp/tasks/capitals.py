"""Capitals of countries: "The capital of France is", then " Paris".

Recall of a fact, as in Meng et al. 2022 (arXiv 2202.05262), on the relation that their data set
counts among its first; countries and capitals that are one token each in GPT-2's vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from interp.tasks import minimal
from interp.tasks.minimal import Pair, Side
from interp.tasks.prompts import Prompts
from minigpt import Tokenizer
from minigpt.errors import PromptError

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Russia": "Moscow",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Ireland": "Dublin",
    "Poland": "Warsaw",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Austria": "Vienna",
    "Cuba": "Havana",
    "Iraq": "Baghdad",
    "Iran": "Tehran",
    "Syria": "Damascus",
    "Turkey": "Ankara",
    "Finland": "Helsinki",
    "Belgium": "Brussels",
    "Portugal": "Lisbon",
    "Hungary": "Budapest",
    "Ukraine": "Kiev",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Thailand": "Bangkok",
    "Afghanistan": "Kabul",
    "Lebanon": "Beirut",
    "Canada": "Ottawa",
    "England": "London",
    "Scotland": "Edinburgh",
    "Denmark": "Copenhagen",
    "Libya": "Tripoli",
    "Indonesia": "Jakarta",
}
TEMPLATES = (
    "The capital of [COUNTRY] is",
    "The capital city of [COUNTRY] is called",
    "In [COUNTRY], the government sits in",
    "We went to [COUNTRY] and saw the capital,",
    "She was born in the capital of [COUNTRY],",
    "The king of [COUNTRY] lives in",
    "When we were in [COUNTRY], we stayed in the city of",
    "They moved to [COUNTRY] and found a house in",
    "The largest city in [COUNTRY] is",
    "He came from [COUNTRY], where he had lived in",
)


def prompts(
    tokenizer: Tokenizer,
    n: int = 100,
    seed: int = 0,
    *,
    templates: Sequence[str] = TEMPLATES,
    capitals: Mapping[str, str] = CAPITALS,
) -> Prompts:
    """n prompts about a country, whose twins are about another; answer: its capital, distractor:
    the other's; position COUNTRY; a group for each template.

    capitals: country -> capital. Where one of them is not one token, both are left out, with a
    warning.
    """
    both = {"countries": [*capitals], "capitals": [*capitals.values()]}
    words = minimal.known(tokenizer, both)
    sides = [
        Side(country, " " + capitals[country])
        for country in words["countries"]
        if capitals[country] in words["capitals"]
    ]
    if len(sides) < 2:
        raise PromptError(f"{len(sides)} countries with a capital", "two that are one token each")

    def draw(rng: random.Random) -> Pair:
        group = rng.randrange(len(templates))
        clean, corrupt = rng.sample(sides, 2)
        return Pair(templates[group], clean, corrupt, group)

    return minimal.prompts(tokenizer, draw, n, seed, "COUNTRY")
