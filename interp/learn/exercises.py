"""What the lessons ask. Each right answer is computed, never written down, and so is what the usual
slips would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import weights
from interp import attribution, heads, lens, metrics, patching
from interp.circuit import Circuit
from interp.circuit.criteria import Faithfulness
from interp.numerics import ulp
from interp.tasks import Prompts, ioi
from minigpt import GPT2, Patch, Trace
from minigpt.shown import Shown
from weights.catalog import EXPLAINED

MODEL, TASKS = "ioi-mini", "tasks-mini"
PROMPT = "When Mary and John went to the store, John gave a drink to"
TWIN = "When Mary and John went to the store, Mary gave a drink to"
INDUCTION = ("a2.2", "a2.3", "a2.4", "a2.6", "a2.7")
TWO, MISSED = ("a3.4@END", "a2.4@END"), "a3.5@END"
Answer = float | str | set[str]


@dataclass(frozen=True, eq=False, repr=False)
class Exercise(Shown):
    """A question, its answer, what one may say then, and slips: what is off where the answer is
    that. Of a question for the first of a list, the list: what each address has."""

    asks: str
    right: Callable[[], Answer]
    found: str
    slips: tuple[tuple[str, Callable[[], Answer]], ...] = ()
    ranked: Callable[[], Mapping[str, float]] | None = None


@cache
def model() -> GPT2:
    """The model of the course."""
    return weights.load(MODEL)


@cache
def pair() -> Prompts:
    """Its prompt, and the twin in which Mary gives."""
    return Prompts.from_texts(model().words, [PROMPT], [TWIN], [" Mary"], [" John"])


@cache
def run(side: str = "clean") -> Trace:
    """The run of the prompt or of its twin."""
    return model().run(pair() if side == "clean" else pair().corrupted)


@cache
def difference() -> metrics.Metric:
    """Mary's logit less John's."""
    return metrics.logit_diff(pair())


@cache
def direct() -> Any:
    """What every node adds to the difference."""
    return attribution.direct(run(), difference())


@cache
def patched(direction: str) -> Any:
    """Activation patching of all heads."""
    return patching.nodes(model(), pair(), difference(), "heads", direction)


@cache
def repeated() -> Trace:
    """Rows of 25 random words, said twice."""
    return model().run(heads.repeated(model().config, among=heads.words(model().words)))


def second_half(*without: str) -> float:
    """The loss at words that were there before, without some heads."""
    trace = repeated()
    if without:
        trace = model().rerun(trace, Patch.all(Patch.zero(head) for head in without))
    return float(lens.losses(trace)[:, 25:-1].mean())


def by_head(scores: Tensor) -> dict[str, float]:
    """Scores [layer, head] by the head's address."""
    return {
        f"a{layer}.{head}": float(score)
        for layer, row in enumerate(scores)
        for head, score in enumerate(row)
    }


def first(ranked: Mapping[str, float]) -> str:
    """The address with the largest number."""
    return max(ranked, key=ranked.__getitem__)


def looking(score: Callable[..., Tensor]) -> dict[str, float]:
    """A head score on random words, drawn from those that stand within a sentence."""
    return by_head(score(model(), among=heads.words(model().words)))


def to_query(port: str, mlps: str) -> float:
    """The effect of a0.6 on the answer through a head's queries."""
    found = patching.paths(model(), pair(), difference(), ["a0.6"], [port], at="END", mlps=mlps)
    return float(found["a0.6"])


@cache
def kept(*nodes: str) -> Faithfulness:
    """The logit differences of the model of seven tasks, and of a circuit."""
    tasks = weights.load(TASKS)
    many = ioi.prompts(tasks.words, 60, 0)
    return Circuit({"kept": nodes}).faithfulness(tasks, many, metrics.logit_diff(many))


@cache
def in_float64() -> Tensor:
    """The logits at the end, in float64."""
    wide = weights.load(MODEL, dtype=torch.float64)
    return wide.run(PROMPT).logits[0, -1]


def ulps() -> float:
    """How far the answer's logit in float32 is from the true one, in units of its last place."""
    to = model().words.single(" Mary")
    return float(ulp.error(run().logits[0, -1, to], in_float64()[to]))


@cache
def with_latents() -> Trace:
    """The run whose last MLP is cut into latents."""
    lit = model().with_dictionaries(*weights.load_dictionaries(f"{MODEL}:m3", model=model()))
    return lit.run(pair())


def on_at_the_end() -> float:
    """How many latents of m3 are on where the name is due."""
    return float((with_latents().act("m3.l")[0, -1] > 0).sum())


def by_latents() -> dict[str, float]:
    """What each latent of m3 adds to the difference."""
    rows = attribution.direct(with_latents(), difference(), latents=["m3"])
    return {name: effect for name, effect in rows if name.startswith("m3.l")}


@cache
def sentences() -> pd.DataFrame:
    """What explains each neuron on text of the model's own kind, with its scores."""
    every = pd.read_parquet(EXPLAINED)
    return every[every.address.str.contains(r"\.n")]


def better_than(baseline: str) -> float:
    """The share of neurons whose sentence is better than a baseline."""
    return float((sentences().simulation > sentences()[baseline]).mean())


EXERCISES = {
    "1.1": Exercise(
        "The length of what a2.6 writes at the last position?",
        lambda: float(run()["a2.6@-1"].norm()),
        "an arrow of that length, in 128 dimensions: all that this head can say there",
        (
            ("that is at all positions together", lambda: float(run()["a2.6"].norm())),
            ("that is all heads of layer 2 together", lambda: float(run()["a2@-1"].norm())),
            ("that is the stream that it reads", lambda: float(run()["resid2@-1"].norm())),
        ),
    ),
    "1.2": Exercise(
        "The address of the stream point that layer 3's heads read?",
        lambda: "resid3",
        "it is the sum of all that was written before layer 3",
        (
            ("that is what its MLP reads: the heads have written by then", lambda: "resid3.mid"),
            ("that is what layer 3 leaves behind", lambda: "resid4"),
            ("that is what layer 2 finds; layers count from 0", lambda: "resid2"),
        ),
    ),
    "2.1": Exercise(
        "What do all heads together add to the logit difference?",
        lambda: float(direct().heads().values.sum()),
        "little: they bring the name, and the MLPs make an answer of it",
        (
            (
                "that is everything: heads, MLPs, input and biases",
                lambda: float(direct().values.sum()),
            ),
            (
                "that is of heads for Mary only; the others count too",
                lambda: float(direct().heads().values.clamp(min=0).sum()),
            ),
        ),
    ),
    "2.2": Exercise(
        "Which head adds most?",
        lambda: first(dict(direct().heads())),
        "a name mover: it looks at Mary and writes her name",
        (("that node is an MLP, not a head", lambda: str(direct().top(1).addresses[0])),),
        lambda: dict(direct().heads()),
    ),
    "3.1": Exercise(
        "Which head attends most to the token after the current one's first time?",
        lambda: first(looking(heads.induction)),
        "an induction head",
        (
            (
                "that one looks at the token before",
                lambda: first(looking(heads.previous)),
            ),
            (
                "that one looks at the same token's first time",
                lambda: first(looking(heads.duplicate)),
            ),
        ),
        lambda: looking(heads.induction),
    ),
    "3.2": Exercise(
        "The loss at words that come again, when a2.7 alone is left of the five induction heads?",
        lambda: second_half(*INDUCTION[:-1]),
        "one head of five keeps the loss under what guessing costs, and little more",
        (
            ("that is without all five", lambda: second_half(*INDUCTION)),
            ("that is with all of them", second_half),
            ("that is without one of them", lambda: second_half("a2.6")),
        ),
    ),
    "4.1": Exercise(
        "By how much does a2.1, put back from the clean run, move the corrupt run's difference?",
        lambda: float(patched("denoising")["a2.1"]),
        "hardly at all: alone it is not enough",
        (
            (
                "your effect has the sign of noising: corrupt values in the clean run",
                lambda: float(patched("noising")["a2.1"]),
            ),
        ),
    ),
    "4.2": Exercise(
        "Which head, after a0.6, moves the clean run most when its values are the corrupt run's?",
        lambda: str(patched("noising").top(2).addresses[1]),
        "what it says is needed, and by 4.1 not enough",
        (
            (
                "that head is the first; asked for is the second",
                lambda: str(patched("noising").top(1).addresses[0]),
            ),
            (
                "that head is second in what it brings back: denoising",
                lambda: str(patched("denoising").top(2).addresses[1]),
            ),
        ),
        lambda: {head: abs(effect) for head, effect in patched("noising")},
    ),
    "5.1": Exercise(
        "The effect of a0.6 through the queries of a2.6, MLPs recomputed as in the paper?",
        lambda: to_query("a2.6.q", "recompute"),
        "four times what it does through those of a3.4: a layer nearer, it is heard better",
        (
            ("that is through the queries of a3.4", lambda: to_query("a3.4.q", "recompute")),
            ("MLPs are frozen there: the edge meaning", lambda: to_query("a2.6.q", "frozen")),
            (
                "that is all that a0.6 does, on every path",
                lambda: float(patched("noising")["a0.6"]),
            ),
        ),
    ),
    "6.1": Exercise(
        "What share of the model's difference do a3.4@END and a2.4@END bring, F(C) / F(M)?",
        lambda: kept(*TWO).share,
        "faithfulness: two of 32 heads do more than all, since the others hold the answer back",
        (
            ("that is with a3.5 as well", lambda: kept(*TWO, MISSED).share),
            ("that is how far apart the two are, not the share", lambda: kept(*TWO).gap),
            ("that is the model's by the circuit's", lambda: 1 / kept(*TWO).share),
            ("that is the circuit's difference itself", lambda: float(kept(*TWO).circuit.mean())),
            (
                "that is the mean of each prompt's ratio; asked for is the ratio of the means",
                lambda: kept(*TWO).mean_of_ratios,
            ),
        ),
    ),
    "7.1": Exercise(
        "How many ULP is the logit of Mary, in float32, from its value in float64?",
        ulps,
        "a few units in the last place: what float32 costs here",
    ),
    "8.1": Exercise(
        "How many latents of m3 are on at the last position?",
        on_at_the_end,
        "of 512: a TopK dictionary keeps sixteen",
        (
            (
                "that is at all positions together",
                lambda: float((with_latents().act("m3.l")[0] > 0).any(0).sum()),
            ),
        ),
    ),
    "8.2": Exercise(
        "Which latent of m3 adds most to the difference?",
        lambda: first(by_latents()),
        "and it is less than a fifth of what the MLP adds",
        ranked=by_latents,
    ),
    "9.1": Exercise(
        "The share of neurons whose sentence predicts better, by correlation, than their top "
        "tokens alone?",
        lambda: better_than("its_top_tokens"),
        "a sentence must be held against what costs nothing, and not every one stands",
        (("that is better than predicting nothing", lambda: better_than("nothing")),),
    ),
    "10.1": Exercise(
        "With three heads of width 8: how wide is the stream?",
        lambda: 24.0,
        "heads side by side make up the width",
        (("that is one head", lambda: 8.0),),
    ),
}
