"""What the model does on the task, and which signals it goes by (sections 2, 4.4, App. A)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from interp import metrics
from interp.ioi import published, words
from interp.ioi.lab import Lab, joint
from interp.ioi.part import Claim, Part
from interp.show.document import Table
from interp.tasks import Prompts, ioi
from minigpt.errors import MiniGPTError

# Whose name each sentence that is put in repeats.
EXTRA: dict[str, tuple[str, ...]] = {
    "as they are": (),
    "S once more": ("S", "S"),
    "IO once more": ("IO", "IO"),
}
# By (token signal, position signal): the corrupt twin that S-inhibition heads are taken from.
SIGNALS = {
    (0, 1): "random",
    (-1, 1): "S1<->IO, S2->IO",
    (1, -1): "S1<->IO",
    (0, -1): "random, S2->IO",
    (-1, -1): "S2->IO",
}
WORDS = {1: "as it is", 0: "random", -1: "inverted"}


class Scores(NamedTuple):
    """Means over prompts: the logit difference, the probability of IO, and how often S comes before
    IO."""

    logit_difference: float
    io_probability: float
    s_before_io: float

    @property
    def texts(self) -> tuple[str, str, str]:
        """As a table's row shows them."""
        return (
            f"{self.logit_difference:+.3f}",
            f"{self.io_probability:.1%}",
            f"{self.s_before_io:.1%}",
        )


COLUMNS = (">logit difference", ">probability of IO", ">S before IO")


class Fit(NamedTuple):
    """The logit difference as a sum of both signals: their weights, and the mean error."""

    position: float
    token: float
    error: float


def task(lab: Lab) -> Part:
    """How well the model does the task."""
    scores = _scores(lab, lab.pairs)
    return replace(
        words.TASK,
        tables=[
            Table("some prompts", ("prompt", "answer"), _examples(lab)),
            Table(f"{lab.n} prompts", COLUMNS, [scores.texts]),
        ],
        claims=lab.claims(_task_claims(scores)),
        data=scores._asdict(),
    )


def _examples(lab: Lab, n: int = 3) -> list[tuple[str, str]]:
    """The first prompts, each with its answer, and the first one's corrupt twin."""
    pairs = lab.pairs

    def text(tokens: torch.Tensor, i: int) -> str:
        return lab.tokenizer.decode(tokens[i][: int(pairs.lengths[i])].tolist())

    rows = [(text(pairs.clean, i), pairs.text(pairs.answers[i, :1])) for i in range(n)]
    return [*rows, (text(pairs.corrupted.tokens, 0), "(ABC: the first one's twin)")]


def _task_claims(scores: Scores) -> Iterator[Claim]:
    difference, probability, s_first = scores
    where = "section 2"
    yield Claim("mean logit difference", where, difference, published.LOGIT_DIFFERENCE)
    yield Claim("mean probability of IO", where, probability, published.IO_PROBABILITY, within=0.05)
    yield Claim("IO before S", where, 1 - s_first, published.ACCURACY, within=0.02)


def adversarial(lab: Lab) -> Part:
    """Sentences that name one of the two once more."""
    try:
        scores = {name: _scores(lab, _prompts(lab, extra)) for name, extra in EXTRA.items()}
    except MiniGPTError as error:
        return replace(words.ADVERSARIAL, skipped=f"these prompts do not suit the model: {error}")
    rows = [(name, *score.texts) for name, score in scores.items()]
    return replace(
        words.ADVERSARIAL,
        tables=[Table("", ("prompts", *COLUMNS), rows)],
        claims=lab.claims(_adversarial_claims(scores)),
        data={name: score._asdict() for name, score in scores.items()},
    )


def _prompts(lab: Lab, extra: Sequence[str]) -> Prompts:
    return ioi.prompts(lab.tokenizer, lab.n, lab.seed, corrupt=None, extra=extra)


def _adversarial_claims(scores: Mapping[str, Scores]) -> Iterator[Claim]:
    for name, score in scores.items():
        paper, _, _ = published.ADVERSARIAL[name]
        what = f"{name}: logit difference"
        yield Claim(what, "figure 21", score.logit_difference, paper, within=0.4)


def signals(lab: Lab) -> Part:
    """Position and token signals that S-inhibition heads carry, by patching them from prompts that
    differ in one of the two."""
    heads = lab.heads(published.INHIBITION)
    if not heads:
        return replace(words.SIGNALS, skipped=words.no_head(published.INHIBITION))
    differences = _by_signal(lab, heads)
    fit = _fit(differences)
    rows = [{"token": t, "position": p, "logit_difference": v} for (t, p), v in differences.items()]
    return replace(
        words.SIGNALS,
        tables=[_signal_table(heads, differences), _fit_table(fit)],
        claims=lab.claims(_signal_claims(differences, fit)),
        data={"table": rows, "fit": fit._asdict()},
    )


def _by_signal(lab: Lab, heads: Sequence[str]) -> dict[tuple[int, int], float]:
    """The mean logit difference with the heads at END from each kind of prompt."""
    places = [f"{head}@END" for head in heads]
    runs = [lab.model.run(lab.against(corrupt).corrupted) for corrupt in SIGNALS.values()]
    patched = lab.difference(lab.clean, [joint(places, run) for run in runs]).mean(1).tolist()
    return {(1, 1): float(lab.metric(lab.clean).mean()), **dict(zip(SIGNALS, patched, strict=True))}


def _fit(differences: Mapping[tuple[int, int], float]) -> Fit:
    """Least squares over (token signal, position signal)."""
    x = torch.tensor([[p, t] for t, p in differences], dtype=torch.float64)
    y = torch.tensor(list(differences.values()), dtype=torch.float64)
    weights = torch.linalg.lstsq(x, y[:, None]).solution.flatten()
    return Fit(float(weights[0]), float(weights[1]), float((x @ weights - y).abs().mean()))


def _signal_table(heads: Sequence[str], differences: Mapping[tuple[int, int], float]) -> Table:
    return Table(
        f"logit difference, {' '.join(heads)} at END patched",
        ("token signal", ">position as it is", ">position inverted"),
        [(WORDS[t], *(f"{differences[t, p]:+.2f}" for p in (1, -1))) for t in (1, 0, -1)],
    )


def _fit_table(fit: Fit) -> Table:
    terms = f"{fit.position:.2f} x position {fit.token:+.2f} x token"
    return Table("", ("fit", ">mean error"), [(terms, f"{fit.error:.2f}")])


def _signal_claims(differences: Mapping[tuple[int, int], float], fit: Fit) -> Iterator[Claim]:
    for (t, p), value in differences.items():
        what = f"token {WORDS[t]}, position {WORDS[p]}"
        yield Claim(what, "figure 9", value, published.SIGNALS[t, p])
    for signal, weight in (("position", fit.position), ("token", fit.token)):
        what = f"weight of the {signal} signal"
        yield Claim(what, "App. A", weight, published.FIT[signal])


def _scores(lab: Lab, pairs: Prompts) -> Scores:
    run = lab.model.run(pairs)
    difference = metrics.logit_diff(pairs)(run)
    return Scores(
        float(difference.mean()),
        float(metrics.prob(pairs)(run).mean()),
        float((difference <= 0).double().mean()),
    )
