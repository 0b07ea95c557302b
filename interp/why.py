"""Why does the model say A rather than B? One question about one prompt, answered as a plain record
for every view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp import attribution, metrics
from interp.attribution import Closure
from interp.effects import Effects
from minigpt import GPT2, Trace, parse
from minigpt.errors import PromptError
from minigpt.shown import LINE, Row, Shown, cut
from minigpt.tokenizer import Tokenizer


@dataclass(frozen=True, repr=False)
class Token(Shown):
    """A token in the model's prediction, or one that a head looked at (probability is then the
    attention weight)."""

    text: str
    probability: float
    logit: float | None = None
    position: int | None = None


@dataclass(frozen=True, repr=False)
class Push(Shown):
    """One node's part in the answer: its direct effect, where it looked (heads), and what its write
    promotes and suppresses."""

    address: str
    effect: float
    looked: tuple[Token, ...]
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Why(Shown):
    """The whole answer. difference is logit(answer) - logit(over); the effects sum to it."""

    model: str
    prompt: str
    tokens: tuple[str, ...]
    answer: str
    over: str
    difference: float
    top: tuple[Token, ...]
    toward_answer: tuple[Push, ...]
    toward_other: tuple[Push, ...]
    effects: Effects
    lens: Effects
    closure: Closure
    attention: dict[str, tuple[float, ...]]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        title = f"Why {self.answer!r} rather than {self.over!r}: {self.difference:+.3f}"
        lines = []
        for side, pushes in (("for", self.toward_answer), ("against", self.toward_other)):
            named = ", ".join(f"{p.address} {p.effect:+.3f}" for p in pushes[:3])
            lines.append(f"  {side} it: {named or 'nothing'}")
        return "\n".join(cut(line, LINE) for line in (title, *lines))

    def _table(self) -> Iterator[Row]:
        yield "node", ">effect", "promotes"
        for push in (*self.toward_answer, *self.toward_other):
            yield push.address, f"{push.effect:+.3f}", " ".join(map(repr, push.promotes))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        plain = ("model", "prompt", "tokens", "answer", "over", "difference", "attention", "notes")
        return {
            **{name: getattr(self, name) for name in plain},
            "top": [vars(t) for t in self.top],
            "toward_answer": [_plain(p) for p in self.toward_answer],
            "toward_other": [_plain(p) for p in self.toward_other],
            "effects": dict(self.effects),
            "logit_lens": dict(self.lens),
            "closure": {**vars(self.closure), "holds": self.closure.holds},
        }


def why(
    model: GPT2,
    prompt: object,
    answer: str | None = None,
    over: str | None = None,
    *,
    k: int = 6,
    neurons: bool = False,
    latents: bool | Sequence[str] = False,
) -> Why:
    """Answer the question about one prompt, a text or token ids. Without an answer: the model's top
    token; without an alternative: the best of the others. neurons: split the MLPs; latents: split
    what the model's dictionaries split (True: all that go together), see `attribution.direct`.

    Raises PromptError where the prompt cannot be read, or an answer is not one token.

    >>> import weights
    >>> prompt = 'When Mary and John went to the store, John gave a drink to'
    >>> answer = why(weights.load('ioi-mini'), prompt)
    >>> answer.answer, answer.toward_answer[2].address
    (' Mary', 'a3.4')
    """
    trace, tokenizer = model.run(prompt), model.words
    if len(trace.tokens) != 1:
        raise PromptError(f"{len(trace.tokens)} prompts", "one", "a call for each")
    logits = trace.logits_at(-1)[0]
    right, wrong = choose(tokenizer, logits, answer, over)
    metric = metrics.logit_diff(answers=right, distractors=wrong)
    split = attribution.splits(model.params) if latents is True else latents or ()
    effects = attribution.direct(trace, metric, neurons=neurons, latents=split)
    pushes = [
        tuple(_push(trace, tokenizer, metric, row) for row in effects.top(k, sign))
        for sign in (1, -1)
    ]
    return Why(
        model=model.name,
        prompt=prompt if isinstance(prompt, str) else tokenizer.decode(trace.tokens[0].tolist()),
        tokens=tuple(tokenizer.pieces(trace.tokens[0].tolist())),
        answer=tokenizer.text(right),
        over=tokenizer.text(wrong),
        difference=float(effects.base[0]),
        top=_top(tokenizer, logits),
        toward_answer=pushes[0],
        toward_other=pushes[1],
        effects=effects,
        lens=attribution.logit_lens(trace, metric),
        closure=attribution.closure(trace, metric, effects),
        attention=_attention(trace, effects.heads().top(k)),
        notes=tuple(
            spacing(tokenizer, text) for text in (answer, over) if text and spacing(tokenizer, text)
        ),
    )


def _plain(push: Push) -> dict[str, Any]:
    return {
        **vars(push),
        "looked": [
            {"position": t.position, "text": t.text, "weight": t.probability} for t in push.looked
        ],
    }


def choose(
    tokenizer: Tokenizer, logits: Float[Tensor, "vocab"], answer: str | None, over: str | None
) -> tuple[int, int]:
    """The tokens that are compared: those given; else the top one and the best of the others."""
    best, second = logits.topk(2).indices.tolist()
    right = tokenizer.single(answer) if answer is not None else best
    wrong = tokenizer.single(over) if over is not None else (second if right == best else best)
    if right == wrong:
        raise PromptError(
            f"the answer and its alternative are the same token {tokenizer.text(right)!r}",
            "two different tokens",
        )
    return right, wrong


def spacing(tokenizer: Tokenizer, text: str) -> str:
    """A warning where a word was given without the space that it has inside a sentence."""
    if text.startswith(" ") or not text[:1].isalpha() or len(tokenizer.encode(" " + text)) != 1:
        return ""
    return (
        f"{text!r} was read as a token without a space before it; within a sentence it is "
        f"{' ' + text!r}."
    )


def _top(tokenizer: Tokenizer, logits: Float[Tensor, "vocab"], k: int = 8) -> tuple[Token, ...]:
    chances = logits.double().softmax(-1)
    return tuple(
        Token(tokenizer.text(i), float(chances[i]), float(logits[i]))
        for i in logits.topk(min(k, len(logits))).indices.tolist()
    )


def _push(
    trace: Trace, tokenizer: Tokenizer, metric: metrics.Metric, row: tuple[str, float]
) -> Push:
    address, effect = row
    wrote = _readout(trace, trace[f"{address}@-1"][0], metric)
    names = [
        tuple(tokenizer.text(i) for i in (sign * wrote).topk(min(5, len(wrote))).indices.tolist())
        for sign in (1, -1)
    ]
    return Push(address, effect, _looked(trace, tokenizer, address), *names)


def _readout(
    trace: Trace, write: Float[Tensor, "d_model"], metric: metrics.Metric
) -> Float[Tensor, "vocab"]:
    """What a write adds to every logit directly, the final LayerNorm's scale being the run's."""
    centred = (write - write.mean()) * trace.params.ln_w / trace.scale(f"out@{metric.position}")[0]
    return F.linear(centred, trace.params.unembed)


def _looked(trace: Trace, tokenizer: Tokenizer, address: str, k: int = 3) -> tuple[Token, ...]:
    if not parse(address).site.is_head:
        return ()
    weights = trace[f"{address}.pattern@-1"][0]
    best = [i for i in weights.topk(min(k, len(weights))).indices.tolist() if weights[i] >= 0.02]
    return tuple(
        Token(tokenizer.text(int(trace.tokens[0, i])), float(weights[i]), position=i) for i in best
    )


def _attention(trace: Trace, heads: Effects) -> dict[str, tuple[float, ...]]:
    return {
        address: tuple(torch.as_tensor(trace[f"{address}.pattern@-1"][0]).tolist())
        for address in heads.addresses
    }
