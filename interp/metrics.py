"""A metric: one number for each prompt, read off a run at one position or at all of them.

Linear ones (logit, logit_diff) are sums of products with the output, taken in float64; direct
attribution splits those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from minigpt import GPT2, Params, Patch, Receipt, Trace, ops
from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

# Where a prompt has fewer answers than another has.
ABSENT = -1
Ids = Int[Tensor, "_batch _choices"]


class MetricError(MiniGPTError):
    """A metric that cannot be formed from what was given, or does not suit the method."""


@dataclass(frozen=True, eq=False)
class Metric(Shown):
    """A name, where it reads (`at`; None: at every position), and how: `read` of the logits [batch,
    vocab] (of every position: [batch, pos, vocab]), or `direction` where it is linear in them."""

    name: str
    at: int | str | None
    read: Callable[[Float[Tensor, "batch *pos vocab"]], Float[Tensor, "batch"]] | None = None
    answers: Ids | None = None
    distractors: Ids | None = None

    def __repr__(self) -> str:
        return f"Metric({self.name} at {'every position' if self.at is None else self.at})"

    @property
    def position(self) -> int | str:
        """Where it reads; MetricError if that is everywhere."""
        if self.at is None:
            raise MetricError(f"{self.name} at every position", "a metric that reads at one")
        return self.at

    @property
    def want(self) -> str:
        """The address that it reads."""
        return self.of_site("out")

    def of_site(self, site: object) -> str:
        """A stream point's address where the metric reads."""
        return str(site) if self.at is None else f"{site}@{self.at}"

    def __call__(self, trace: Trace) -> Float[Tensor, "batch"]:
        """One number for each prompt of the run, in float64."""
        return self.of_output(trace[self.want], trace.params)

    def of_output(
        self, out: Float[Tensor, "batch *pos d_model"], params: Params
    ) -> Float[Tensor, "batch"]:
        """The same from what the unembedding reads at the metric's position, or at all."""
        self.check(len(out), params)
        if self.read is None:
            return (out.double() * self.direction(params)).sum(-1)
        return self._per_prompt(self.read(ops.logits(out, params.unembed)), len(out))

    def of_many(
        self, out: Float[Tensor, "variants batch *pos d_model"], params: Params
    ) -> Float[Tensor, "variants batch"]:
        """The same for many runs of the same prompts."""
        self.check(out.shape[1], params)
        if self.read is None:
            return (out.double() * self.direction(params)).sum(-1)
        return torch.stack([self.of_output(variant, params) for variant in out])

    def check(self, prompts: int, params: Params) -> None:
        """MetricError unless every id is one of the model's, and there is one row of ids for all
        prompts or one for each."""
        n_vocab = len(params.unembed)
        for name, ids in (("answers", self.answers), ("distractors", self.distractors)):
            if ids is None:
                continue
            if bool(((ids < ABSENT) | (ids >= n_vocab)).any()):
                wrong = sorted({i for i in ids.flatten().tolist() if not ABSENT <= i < n_vocab})
                raise MetricError(f"{name} {wrong[:8]}", f"token ids 0 to {n_vocab - 1}")
            if len(ids) not in (1, prompts):
                raise MetricError(
                    f"{name} of {len(ids)} prompts for a run of {prompts}",
                    "one row of token ids for each prompt of the run, or one for all",
                    "the prompts that the answers belong to",
                )

    def _per_prompt(self, values: Tensor, prompts: int) -> Float[Tensor, "batch"]:
        if values.shape != (prompts,):
            raise MetricError(
                f"the metric {self.name} gave numbers of shape {list(values.shape)} for a run of "
                f"{prompts} prompts",
                "one number a prompt",
            )
        return values.double()

    def after(
        self, model: GPT2, base: Trace, patches: Sequence[Patch], *, progress: bool = False
    ) -> tuple[Float[Tensor, "patches batch"], Receipt]:
        """The metric of a run after each patch, and the bill of all these runs. An interrupted call
        starts anew."""
        swept = model.rerun(base, patches, self.want, progress=progress)
        return swept.map(lambda out: self.of_many(out, model.params)), swept.receipt

    @property
    def linear(self) -> bool:
        """Whether it is a sum of products with the logits."""
        return self.read is None

    def direction(self, params: Params) -> Float[Tensor, "batch d_model"]:
        """The vector whose product with the output is the metric: mean answer row of W_U less mean
        distractor row. float64."""
        if self.answers is None or not self.linear:
            raise MetricError(
                f"the metric {self.name} is not linear in the logits",
                "logit and logit_diff have a direction",
            )
        means = [
            _mean_row(params.unembed, ids.to(params.unembed.device))
            for ids in (self.answers, self.distractors)
            if ids is not None
        ]
        return means[0] - means[1] if len(means) == 2 else means[0]


def logit_diff(
    pairs: Any = None, *, answers: Any = None, distractors: Any = None, at: int | str | None = None
) -> Metric:
    """Logit of the answer less logit of the distractor; the mean over each where there are several.

    pairs: anything with `answers`, `distractors` and `positions`; or give token ids [batch],
    [batch, choices] or one id for all.
    """
    right, wrong, at = _question(pairs, answers, distractors, at)
    if wrong is None:
        raise MetricError(
            "logit_diff without distractors",
            "answers and distractors",
            "metrics.logit(...) for the answers alone",
        )
    return Metric("logit difference", at, answers=right, distractors=wrong)


def logit(pairs: Any = None, *, answers: Any = None, at: int | str | None = None) -> Metric:
    """Logit of the answer (the mean over several)."""
    right, _, at = _question(pairs, answers, None, at)
    return Metric("logit", at, answers=right)


def prob(pairs: Any = None, *, answers: Any = None, at: int | str | None = None) -> Metric:
    """Probability of the answer (the sum over several)."""
    right, _, at = _question(pairs, answers, None, at)
    return Metric(
        "probability",
        at,
        lambda x: _pick(x.double().softmax(-1), right, 0.0).sum(-1),
        answers=right,
    )


def rank(pairs: Any = None, *, answers: Any = None, at: int | str | None = None) -> Metric:
    """How many tokens the model puts before the best answer; 0 means that it is the top one."""
    right, _, at = _question(pairs, answers, None, at)
    return Metric(
        "rank", at, lambda x: (x > _pick(x, right).amax(-1, keepdim=True)).sum(-1), answers=right
    )


def accuracy(
    pairs: Any = None, *, answers: Any = None, distractors: Any = None, at: int | str | None = None
) -> Metric:
    """1 where the best answer beats every distractor, else 0; its name says so. Where there are no
    distractors: against every other token, as `top1`."""
    right, wrong, at = _question(pairs, answers, distractors, at)
    if wrong is None:
        return top1(answers=right, at=at)

    def read(x: Tensor) -> Tensor:
        return _pick(x, right).amax(-1) > _pick(x, wrong).amax(-1)

    return Metric("accuracy against the distractors", at, read, answers=right, distractors=wrong)


def top1(pairs: Any = None, *, answers: Any = None, at: int | str | None = None) -> Metric:
    """1 where the model puts an answer before every other token, else 0."""
    right, _, at = _question(pairs, answers, None, at)

    def read(x: Tensor) -> Tensor:
        return _pick(x, right).amax(-1) > x.scatter(1, _rows(right, x), -torch.inf).amax(-1)

    return Metric("accuracy against every other token", at, read, answers=right)


def loss(pairs: Any = None, *, answers: Any = None, at: int | str | None = None) -> Metric:
    """Cross-entropy of the answer in nats (of the answers together, where there are several)."""
    chance = prob(pairs, answers=answers, at=at)
    read = chance.read
    assert read is not None
    return Metric("loss", chance.at, lambda logits: -read(logits).log(), answers=chance.answers)


def kl(reference: Trace, *, at: int | str | None = -1) -> Metric:
    """KL divergence in nats of a run's prediction from the reference run's: sum of p_ref (log p_ref
    - log p). at=None: the mean over a prompt's positions."""
    logits = reference.logits if at is None else reference.logits_at(at)
    wanted = logits.double().log_softmax(-1)

    def read(x: Tensor) -> Tensor:
        _check_places(x, wanted)
        found = x.double().log_softmax(-1)
        apart = F.kl_div(found, wanted, log_target=True, reduction="none").sum(-1)
        return apart if at is not None else _mean(apart, reference.batch.mask)

    return Metric("KL", at, read)


def token_loss(reference: Trace) -> Metric:
    """How little the reference run's tokens were expected, each from those before it: the mean
    cross-entropy over a prompt's tokens but the first, in nats.

    It reads at every position. The tokens are those of the reference, also where the run that is
    patched has others.
    """
    following, known = reference.tokens[:, 1:, None], reference.batch.mask[:, 1:]
    if not bool(known.any(1).all()):
        raise MetricError("the loss of the next tokens of a prompt of one token", "two or more")

    def read(x: Tensor) -> Tensor:
        _check_places(x, reference.tokens)
        chances = x[:, :-1].double().log_softmax(-1)
        return _mean(-chances.gather(-1, following)[..., 0], known)

    return Metric("loss per token", None, read)


def _check_places(x: Tensor, like: Tensor) -> None:
    """MetricError unless a run has the prompts and positions of the reference."""
    if x.shape[: x.ndim - 1] != like.shape[: x.ndim - 1]:
        raise MetricError(
            f"a run of {list(x.shape[:-1])} prompts and positions beside a reference of "
            f"{list(like.shape[: x.ndim - 1])}",
            "a run and a reference of the same prompts' shape",
        )


def _mean(x: Float[Tensor, "batch pos"], inside: Tensor) -> Float[Tensor, "batch"]:
    """The mean over a prompt's own positions, whatever stands behind its end."""
    return x.where(inside, 0).sum(-1) / inside.sum(-1)


def _question(
    pairs: Any, answers: Any, distractors: Any, at: int | str | None
) -> tuple[Ids, Ids | None, int | str]:
    if pairs is not None:
        answers, distractors = (
            pairs.answers,
            (pairs.distractors if distractors is None else distractors),
        )
        at = (
            ("END" if "END" in (getattr(pairs, "positions", None) or {}) else -1)
            if at is None
            else at
        )
    if answers is None:
        raise MetricError(
            "a metric without answers",
            "pairs, or answers=token ids",
            "metrics.logit_diff(answers=..., distractors=...)",
        )
    return (
        _ids(answers, "answers"),
        None if distractors is None else _ids(distractors, "distractors"),
        -1 if at is None else at,
    )


def _ids(given: Any, name: str) -> Ids:
    """[batch, choices]; one id or one row of ids serves every prompt by broadcasting. ABSENT stands
    where a prompt has fewer than another, never first."""
    try:
        ids = torch.as_tensor(given)
    except (ValueError, TypeError, RuntimeError) as error:
        legal = "whole token ids: one, [batch] or [batch, choices]"
        raise MetricError(f"{name} {given!r}"[:200], legal) from error
    if ids.is_floating_point() or ids.dtype == torch.bool or not ids.numel() or ids.ndim > 2:
        raise MetricError(f"{name} {given!r}", "whole token ids: one, [batch] or [batch, choices]")
    ids = ids.long().reshape(len(ids) if ids.ndim else 1, -1)
    if wrong := sorted({i for i in ids[:, 0].tolist() if i < 0}):
        raise MetricError(f"{name} {wrong[:8]}", "token ids from 0 up")
    return ids


def _rows(ids: Ids, logits: Tensor) -> Tensor:
    """A row for each prompt, the first id once more where there is none."""
    known = torch.where(ids == ABSENT, ids[:, :1], ids)
    return known.to(logits.device).expand(len(logits), -1)


def _pick(logits: Tensor, ids: Ids, absent: float = -torch.inf) -> Tensor:
    """What stands at the ids [batch, choices]; something else where there is none."""
    gone = (ids == ABSENT).to(logits.device).expand(len(logits), -1)
    return logits.gather(1, _rows(ids, logits)).masked_fill(gone, absent)


def _mean_row(unembed: Tensor, ids: Ids) -> Float[Tensor, "_batch d_model"]:
    """The mean of the rows of W_U at the ids that there are. float64."""
    there = ids != ABSENT
    if bool(there.all()):
        return unembed[ids].double().mean(1)
    rows = unembed[ids.clamp(min=0)].double() * there[..., None]
    return rows.sum(1) / there.sum(1, keepdim=True)
