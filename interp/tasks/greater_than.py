"""Greater-than: "The war lasted from the year 1732 to the year 17", which only a year after 32 can
end.

Hanna et al. 2023 (arXiv 2305.00586), section 2: centuries 11 to 17, years 02 to 98; in the corrupt
twin the first year ends in 01. Nouns: those of the paper's FrameNet list that the ACDC repository
carries (Conmy et al. 2023), and "war", the paper's example.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.metrics import Metric
from interp.tasks.prompts import Prompts
from interp.tasks.vocabulary import single
from minigpt import Tokenizer
from minigpt.errors import PromptError

NOUNS = """
abduction accord affair agreement appraisal assaults assessment attack attempts campaign captivity
case challenge chaos clash collaboration coma competition confrontation consequence conspiracy
construction consultation contact contract convention cooperation custody deal decline decrease
demonstrations development disagreement disorder dispute domination dynasty effect effort employment
endeavor engagement epidemic evaluation exchange existence expansion expedition experiments fall
fame flights friendship growth hardship hostility illness impact imprisonment improvement
incarceration increase insurgency invasion investigation journey kingdom marriage modernization
negotiation notoriety obstruction operation order outbreak outcome overhaul patrols pilgrimage
plague plan practice process program progress project pursuit quest raids reforms reign relationship
retaliation riot rise rivalry romance rule sanctions shift siege slump stature stint strikes study
test testing tests therapy tour tradition treaty trial trip unemployment voyage war warfare work
""".split()
CENTURIES = range(11, 18)
YEARS = range(2, 99)


def prompts(
    tokenizer: Tokenizer, n: int = 100, seed: int = 0, *, nouns: Sequence[str] = NOUNS
) -> Prompts:
    """n prompts with their 01-twins; answer: a later year, distractor: one that is not later, each
    drawn at random; position YY; group: the century.

    `metric` is the paper's measure, over all 100 years. PromptError where the vocabulary does not
    split 1732 into 17 and 32.
    """
    known, years = single(tokenizer, nouns, "nouns"), legal_years(tokenizer)
    rng = random.Random(seed)
    drawn = [(rng.choice(known), rng.choice(years)) for _ in range(n)]
    ends = [(rng.randint(year % 100 + 1, 99), rng.randint(0, year % 100)) for _, year in drawn]
    later, not_later = ([f"{pair[i]:02d}" for pair in ends] for i in (0, 1))
    clean = [_text(noun, year) for noun, year in drawn]
    corrupt = [_text(noun, year // 100 * 100 + 1) for noun, year in drawn]
    starts = [tokenizer.encode(_start(noun, year // 100)) for noun, year in drawn]
    at = torch.tensor([len(start) for start in starts], dtype=torch.long)
    groups = torch.tensor([year // 100 for _, year in drawn], dtype=torch.long)
    return Prompts.from_texts(tokenizer, clean, corrupt, later, not_later, {"YY": at}, groups)


def metric(pairs: Prompts) -> Metric:
    """The probability of all later years less that of all others, 00 to 99, at END (Hanna et al.
    2023, section 2.2); needs the tokenizer."""
    if pairs.tokenizer is None:
        raise PromptError(
            "pairs without a tokenizer",
            "pairs that know their tokenizer",
            "greater_than.prompts(model.tokenizer)",
        )
    ids = torch.tensor([pairs.tokenizer.single(f"{year:02d}") for year in range(100)])
    signs = _signs(ids, pairs.batch.tokens.gather(1, pairs.positions["YY"][:, None]))
    return Metric(
        "probability difference",
        "END",
        lambda logits: (
            logits.double().softmax(-1)[:, ids.to(logits.device)] * signs.to(logits.device)
        ).sum(-1),
    )


def legal_years(tokenizer: Tokenizer) -> list[int]:
    """The years that split into their century and two more digits, as does 01 of the same century.
    PromptError where none does."""
    years = [
        100 * century + year
        for century in CENTURIES
        if _splits(tokenizer, century, 1)
        for year in YEARS
        if _splits(tokenizer, century, year)
    ]
    if not years:
        pieces = " + ".join(map(repr, tokenizer.tokens(" 1732")))
        raise PromptError(
            f"this vocabulary cuts ' 1732' into {pieces}",
            "one that cuts years into ' 17' + '32'",
            "gpt2 or ioi-mini",
        )
    return years


def _signs(
    ids: Int[Tensor, "years"], start: Int[Tensor, "prompts 1"]
) -> Float[Tensor, "prompts years"]:
    """1 for each year after the prompt's own, -1 for the others."""
    own = (start == ids).int().argmax(1, keepdim=True)
    return torch.where(torch.arange(len(ids)) > own, 1.0, -1.0).double()


def _splits(tokenizer: Tokenizer, century: int, year: int) -> bool:
    return (
        tokenizer.tokens(f" {century}{year:02d}") == [f" {century}", f"{year:02d}"]
        and len(tokenizer.encode(f"{year:02d}")) == 1
    )


def _start(noun: str, century: int) -> str:
    return f"The {noun} lasted from the year {century}"


def _text(noun: str, year: int) -> str:
    return f"{_start(noun, year // 100)}{year % 100:02d} to the year {year // 100}"
