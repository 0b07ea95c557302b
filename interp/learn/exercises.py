"""What the lessons ask. Each right answer is computed, never written down, and so is what the usual
slips would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import weights
from interp import attribution, heads, lens, metrics, patching
from interp.circuit import Circuit
from interp.numerics import ulp
from interp.tasks import Prompts, ioi
from minigpt import GPT2, Patch, Trace
from minigpt.shown import Shown
from weights.catalog import EXPLAINED

MODEL, TASKS = "ioi-mini", "tasks-mini"
PROMPT = "When Mary and John went to the store, John gave a drink to"
TWIN = "When Mary and John went to the store, Mary gave a drink to"
INDUCTION = ("a2.2", "a2.3", "a2.4", "a2.6", "a2.7")
CIRCUIT = Circuit({"name mover": "a3.4@END a3.5@END", "S-inhibition": "a2.4@END"})
Answer = float | str | set[str]


@dataclass(frozen=True, eq=False, repr=False)
class Exercise(Shown):
    """A question, its answer, what one may say then, and slips: what is off where the answer is
    that."""

    asks: str
    right: Callable[[], Answer]
    found: str
    slips: tuple[tuple[str, Callable[[], Answer]], ...] = ()


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


def strongest(scores: Tensor) -> str:
    """The head with the largest score."""
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return f"a{layer}.{head}"


def among() -> dict[str, Any]:
    """Random words are drawn from those that stand within a sentence."""
    return {"among": heads.words(model().words)}


def to_query(mlps: str) -> float:
    """The effect of a0.6 on the answer through the queries of a3.4."""
    found = patching.paths(model(), pair(), difference(), ["a0.6"], ["a3.4.q"], at="END", mlps=mlps)
    return float(found["a0.6"])


@cache
def kept() -> tuple[float, float]:
    """The mean logit difference of the model of seven tasks, and of the circuit."""
    tasks = weights.load(TASKS)
    many = ioi.prompts(tasks.words, 60, 0)
    found = CIRCUIT.faithfulness(tasks, many, metrics.logit_diff(many))
    return float(found.model.mean()), float(found.circuit.mean())


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
        lambda: str(direct().heads().top(1, 1).addresses[0]),
        "a name mover: it looks at Mary and writes her name",
        (("that node is an MLP, not a head", lambda: str(direct().top(1).addresses[0])),),
    ),
    "3.1": Exercise(
        "Which head attends most to the token after the current one's first time?",
        lambda: strongest(heads.induction(model(), **among())),
        "an induction head",
        (
            (
                "that one looks at the token before",
                lambda: strongest(heads.previous(model(), **among())),
            ),
            (
                "that one looks at the same token's first time",
                lambda: strongest(heads.duplicate(model(), **among())),
            ),
        ),
    ),
    "3.2": Exercise(
        "The loss at words that come again, without all five induction heads?",
        lambda: second_half(*INDUCTION),
        "as if nothing had been said before: these five are the whole mechanism",
        (
            ("that is with all of them", second_half),
            ("that is without one of them", lambda: second_half("a2.3")),
        ),
    ),
    "4.1": Exercise(
        "By how much does a3.4, put back from the clean run, move the corrupt run's difference?",
        lambda: float(patched("denoising")["a3.4"]),
        "enough by itself to move the answer a good part of the way",
        (
            (
                "your effect has the sign of noising: corrupt values in the clean run",
                lambda: float(patched("noising")["a3.4"]),
            ),
        ),
    ),
    "4.2": Exercise(
        "Which head moves the clean run most when its values are the corrupt run's?",
        lambda: str(patched("noising").top(1).addresses[0]),
        "what everything else needs: noising asks what is necessary",
        (
            (
                "that head lies in second place",
                lambda: str(patched("noising").top(2).addresses[1]),
            ),
        ),
    ),
    "5.1": Exercise(
        "The effect of a0.6 through the queries of a3.4, MLPs recomputed as in the paper?",
        lambda: to_query("recompute"),
        "the subject's second time reaches the name mover's queries",
        (
            ("MLPs are frozen there: the edge meaning", lambda: to_query("frozen")),
            (
                "that is all that a0.6 does, on every path",
                lambda: float(patched("noising")["a0.6"]),
            ),
        ),
    ),
    "6.1": Exercise(
        "What share of the model's difference does the circuit of three heads bring, F(C) / F(M)?",
        lambda: kept()[1] / kept()[0],
        "faithfulness: three of 32 heads do more than all, since the others hold the answer back",
        (
            ("that is the difference of the two, not the share", lambda: kept()[0] - kept()[1]),
            ("that is the circuit's difference itself", lambda: kept()[1]),
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
        lambda: max(by_latents(), key=by_latents().__getitem__),
        "and it is less than a fifth of what the MLP adds",
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
