"""What the model does on the task, and which signals it goes by (sections 2, 4.4, App. A)."""

from __future__ import annotations

import torch

from interp import metrics
from interp.ioi import published
from interp.ioi.lab import Lab, joint
from interp.ioi.part import Claim, Part, Table
from interp.tasks import Prompts, ioi
from minigpt.errors import MiniGPTError

FIGURES = (">logit difference", ">probability of IO", ">S before IO")
# By (token signal, position signal): the corrupt twin that S-inhibition heads are taken from.
SIGNALS = {
    (0, 1): "random",
    (-1, 1): "S1<->IO, S2->IO",
    (1, -1): "S1<->IO",
    (0, -1): "random, S2->IO",
    (-1, -1): "S2->IO",
}
WORDS = {1: "as it is", 0: "random", -1: "inverted"}


def task(lab: Lab) -> Part:
    """How well the model does the task."""
    found, pairs = _figures(lab, lab.pairs), lab.pairs
    shown = (
        [
            pairs.tokenizer.decode(pairs.clean[i][: int(pairs.batch.lengths[i])].tolist())
            for i in range(3)
        ]
        if pairs.tokenizer
        else []
    )
    spoiled = (
        pairs.tokenizer.decode(pairs.corrupted.tokens[0][: int(pairs.batch.lengths[0])].tolist())
        if pairs.tokenizer
        else ""
    )
    names = [pairs.text([int(pairs.answers[i, 0])]) for i in range(len(shown))]
    claims = [
        Claim("mean logit difference", "section 2", found[0], published.LOGIT_DIFFERENCE),
        Claim(
            "mean probability of IO", "section 2", found[1], published.IO_PROBABILITY, within=0.05
        ),
        Claim("IO before S", "section 2", 1 - found[2], published.ACCURACY, within=0.02),
    ]
    return Part(
        "task",
        "The task",
        "section 2",
        "Two people are named, one of them does something, and the sentence stops before the "
        "other one's name: the indirect object (IO). The model has "
        "to say IO, not the subject (S), who is named twice (S1, S2). The logit difference is the "
        "logit of IO less that of S at the last token (END). "
        "Circuits are held against the same sentences with three unrelated names (ABC), in which "
        "there is nothing to find.",
        [
            Table(
                "some prompts",
                ("prompt", "answer"),
                [*zip(shown, names, strict=True), (spoiled, "(ABC: the first one's twin)")],
            ),
            Table(f"{lab.n} prompts", FIGURES, [_texts(found)]),
        ],
        claims=claims if lab.published else (),
        data={"logit_difference": found[0], "io_probability": found[1], "s_before_io": found[2]},
    )


def adversarial(lab: Lab) -> Part:
    """Sentences that name one of the two once more."""
    heading, where = "Prompts made to mislead", "section 4.4, App. L, figure 21"
    text = (
        "What tells the circuit who the subject is, is that the name is there twice. So a "
        "sentence in between that names IO once more should mislead it, "
        "and one that "
        "names S once more should not."
    )
    kinds: dict[str, tuple[str, ...]] = {
        "as they are": (),
        "S once more": ("S", "S"),
        "IO once more": ("IO", "IO"),
    }
    try:
        found = {
            name: _figures(
                lab,
                ioi.prompts(
                    lab.tokenizer, lab.n, lab.seed, corrupt=None, mode=lab.mode, extra=extra
                ),
            )
            for name, extra in kinds.items()
        }
    except MiniGPTError as error:
        return Part(
            "adversarial",
            heading,
            where,
            text,
            skipped=f"these prompts do not suit the model: {error}",
        )
    claims = [
        Claim(
            f"{name}: logit difference",
            "figure 21",
            found[name][0],
            published.ADVERSARIAL[name][0],
            within=0.4,
        )
        for name in kinds
    ]
    return Part(
        "adversarial",
        heading,
        where,
        text,
        [Table("", ("prompts", *FIGURES), [(name, *_texts(each)) for name, each in found.items()])],
        claims=claims if lab.published else (),
        data={
            name: dict(
                zip(("logit_difference", "io_probability", "s_before_io"), each, strict=True)
            )
            for name, each in found.items()
        },
    )


def signals(lab: Lab) -> Part:
    """Position and token signals that S-inhibition heads carry, by patching them from prompts that
    differ in one of the two."""
    heading, where = "Which signals tell the movers where not to look", "App. A, figure 9"
    text = (
        "S-inhibition heads could say which name not to copy (the token) or at which place it "
        "stands (the position). Their outputs at END are taken from "
        "prompts in which one of "
        "the two, or both, are random or the other way round. The fit is a sum of both signals."
    )
    heads = lab.heads(published.INHIBITION)
    if not heads:
        return Part(
            "signals",
            heading,
            where,
            text,
            skipped=f"no head of the circuit is in the role {published.INHIBITION!r}",
        )
    patches = [
        joint([f"{head}@END" for head in heads], lab.model.run(lab.against(corrupt).corrupted))
        for corrupt in SIGNALS.values()
    ]
    after = lab.difference(lab.clean, patches).mean(1).tolist()
    found = {(1, 1): float(lab.metric(lab.clean).mean()), **dict(zip(SIGNALS, after, strict=True))}
    position, token, error = _fit(found)
    rows = [(WORDS[t], *(f"{found[t, p]:+.2f}" for p in (1, -1))) for t in (1, 0, -1)]
    claims = [
        *(
            Claim(
                f"token {WORDS[t]}, position {WORDS[p]}", "figure 9", value, published.SIGNALS[t, p]
            )
            for (t, p), value in found.items()
        ),
        Claim("weight of the position signal", "App. A", position, published.FIT["position"]),
        Claim("weight of the token signal", "App. A", token, published.FIT["token"]),
    ]
    return Part(
        "signals",
        heading,
        where,
        text,
        [
            Table(
                f"logit difference, {' '.join(heads)} at END patched",
                ("token signal", ">position as it is", ">position inverted"),
                rows,
            ),
            Table(
                "",
                ("fit", ">mean error"),
                [(f"{position:.2f} x position {token:+.2f} x token", f"{error:.2f}")],
            ),
        ],
        claims=claims if lab.published else (),
        data={
            "table": [
                {"token": t, "position": p, "logit_difference": v} for (t, p), v in found.items()
            ],
            "fit": {"position": position, "token": token, "error": error},
        },
    )


def _fit(found: dict[tuple[int, int], float]) -> tuple[float, float, float]:
    """Least squares of the logit difference as a sum of both signals, and the mean error of it."""
    x = torch.tensor([[p, t] for t, p in found], dtype=torch.float64)
    y = torch.tensor(list(found.values()), dtype=torch.float64)
    weights = torch.linalg.lstsq(x, y[:, None]).solution.flatten()
    return float(weights[0]), float(weights[1]), float((x @ weights - y).abs().mean())


def _figures(lab: Lab, pairs: Prompts) -> tuple[float, float, float]:
    """Mean logit difference, mean probability of IO, and how often S comes before IO."""
    run = lab.model.run(pairs)
    difference = metrics.logit_diff(pairs)(run)
    return (
        float(difference.mean()),
        float(metrics.prob(pairs)(run).mean()),
        float((difference <= 0).double().mean()),
    )


def _texts(found: tuple[float, float, float]) -> tuple[str, str, str]:
    return f"{found[0]:+.3f}", f"{found[1]:.1%}", f"{found[2]:.1%}"
