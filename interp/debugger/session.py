"""The runs that a question needs, each made once and kept while there is room:
Session.runs(question) -> Runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor

from interp import metrics
from interp.debugger.align import inverse, twins
from interp.debugger.cache import Kept
from interp.debugger.completion import Completions
from interp.debugger.intervene import Sources, compiled
from interp.debugger.question import MAX_TOKENS, Question, QuestionError
from interp.debugger.saved import Saved
from interp.metrics import Metric
from interp.tasks import Prompts
from minigpt import GPT2, Batch, Tokenizer, Trace
from minigpt.patch import Patch
from minigpt.shown import Shown

# Bytes that a session keeps, of runs and of what was computed from them; shuffles of a prompt that
# stand for the reference where none is given.
MEMORY, SHUFFLES = 2**30, 32
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class Side(Shown):
    """One column of every table: a run after its patch (the empty one, mostly), the metric read off
    it, what a line's words mean on it, and the tokens: of the prompt, and the ids of its answers
    and distractors."""

    name: str
    base: Trace
    patch: Patch
    trace: Trace
    metric: Metric
    sources: Sources
    tokens: tuple[str, ...]
    answers: tuple[int, ...]
    distractors: tuple[int, ...]

    @property
    def run(self) -> Hashable:
        """The run itself, as long as there is one: by this, what is read off it is kept."""
        return ref(self.trace)

    @property
    def read(self) -> Hashable:
        """The run and the metric: by these, what is read off both."""
        return self.run, self.metric.name, self.answers, self.distractors


@dataclass(frozen=True, eq=False, repr=False)
class Runs(Shown):
    """A question made concrete. left: the prompt; right: after the interventions, or the other
    prompt, or None.

    other: the other prompt's side, shown or not; after: the side with the interventions; kept: what
    was computed, by a side's `run` or `read` and what it is.
    """

    question: Question
    model: GPT2
    tokenizer: Tokenizer
    left: Side
    right: Side | None
    other: Side | None
    after: Side | None
    kept: Kept[Any]

    @property
    def answers(self) -> tuple[int, ...]:
        """Ids of the prompt's answers."""
        return self.left.answers

    @property
    def distractors(self) -> tuple[int, ...]:
        """Ids of the tokens that they are compared with."""
        return self.left.distractors

    @property
    def sides(self) -> tuple[Side, ...]:
        """Left, and right where there is one."""
        return (self.left,) if self.right is None else (self.left, self.right)

    @property
    def sort(self) -> str:
        """What rows are sorted by, the question's own or what answers it."""
        natural = "change.write" if self.right is not None else "direct"
        return self.question.sort or (natural if self.left.metric.linear else "lost")

    @property
    def twins(self) -> tuple[int | None, ...]:
        """For each position on the left, the one on the right."""
        return (
            self.left.sources.twins
            if self.right is self.other and self.other is not None
            else tuple(range(len(self.left.tokens)))
        )

    @property
    def pairs(self) -> Prompts:
        """The prompt and the other one as patching takes them; QuestionError where there is none of
        as many tokens."""
        if self.other is None or len(self.other.tokens) != len(self.left.tokens):
            raise QuestionError(
                "path patching without a second prompt"
                if self.other is None
                else (
                    f"path patching between prompts of {len(self.left.tokens)} and "
                    f"{len(self.other.tokens)} tokens"
                ),
                "a second prompt of as many tokens, one thing changed",
            )
        return Prompts(
            self.left.base.tokens.tolist(),
            self.other.base.tokens.tolist(),
            [list(self.answers)],
            [list(self.distractors)] if self.distractors else None,
        )


class Session:
    """Models by name, and what was computed so far. Safe under threads; runs and results of up to
    `memory` bytes are kept. saved: the file of the user's views, where there is one; stores: what
    models did on a corpus, by their names."""

    def __init__(
        self,
        models: Mapping[str, GPT2],
        memory: int = MEMORY,
        saved: Saved | None = None,
        stores: Mapping[str, Any] = NONE,
    ) -> None:
        self.models, self.kept, self.saved = dict(models), Kept[Any](memory, size), saved
        self.stores = dict(stores)
        self._completions: dict[str, Completions] = {}

    @property
    def blank(self) -> Question:
        """Nothing asked yet: of the usual model, or the first where that is not there."""
        usual = Question()
        return usual if usual.model in self.models else Question(model=next(iter(self.models)))

    def runs(self, question: Question) -> Runs:
        """The runs of a question; QuestionError, PromptError, PatchError with what to type where it
        cannot be asked."""
        model = self.model(question.model)
        tokenizer = model.words
        clean = self._run(question, question.prompt)
        other = self._run(question, question.other) if question.other else None
        if question.reference:
            _batch(model, question.reference, len(clean.tokens[0]))
        reference = cache(partial(self._reference, question, clean))
        left, right = (_tokens(trace, tokenizer) for trace in (clean, other or clean))
        here = twins(left, right)
        own, others = _choices(question, tokenizer, clean)
        toward = _toward(model, *own)
        sources = Sources(clean, other, here, reference, toward)
        side, across = _side("this prompt", question, sources, left, *own), None
        if other is not None:
            sources = Sources(other, clean, inverse(here, len(right)), reference, toward)
            across = _side("other prompt", question, sources, right, *others)
        before, shown, after = self._sides(question, side, across)
        return Runs(question, model, tokenizer, before, shown, across, after, self.kept)

    def completions(self, name: str) -> Completions:
        """What may be typed for a token of a model."""
        return self._completions.setdefault(name, Completions(self.model(name).words))

    def _sides(
        self, question: Question, side: Side, other: Side | None
    ) -> tuple[Side, Side | None, Side | None]:
        """What stands on the left and on the right, and the side after the interventions."""
        if question.compare == "other" and other is None:
            raise QuestionError(
                "compare='other' without another prompt", "a second prompt, or compare=''"
            )
        patch = compiled(question.patches, side.sources)
        if not patch:
            return side, other if question.compare != "interventions" else None, None
        after = self._after(question, side, patch)
        if question.compare == "other":
            return after, other, after
        return replace(side, name="before"), after, after

    def _after(self, question: Question, side: Side, patch: Patch) -> Side:
        q, model = question, self.models[question.model]
        told = (side.answers, side.distractors) if any("answer" in x for x in q.patches) else ()
        key = (q.model, q.prompt, q.other, q.reference, q.patches, told)
        trace = self.kept.get(key, lambda: model.rerun(side.base, patch))
        return replace(side, name="after", patch=patch, trace=trace)

    def model(self, name: str) -> GPT2:
        """A model by its name; QuestionError where there is none."""
        if name not in self.models:
            raise QuestionError(
                f"the model {name!r}", ", ".join(self.models), f"model={next(iter(self.models))}"
            )
        return self.models[name]

    def _run(self, question: Question, prompt: str) -> Trace:
        model = self.models[question.model]
        trace: Trace = self.kept.get(
            (question.model, prompt), lambda: model.run(_batch(model, [prompt]))
        )
        return trace

    def _reference(self, question: Question, clean: Trace) -> Trace:
        """The run over which means are taken: the reference prompts, or shuffles of the prompt's
        own tokens."""
        model = self.models[question.model]
        make: Callable[[], Batch] = (
            partial(_batch, model, question.reference, len(clean.tokens[0]))
            if question.reference
            else partial(_shuffled, clean)
        )
        trace: Trace = self.kept.get(
            (question.model, question.prompt, question.reference, "reference"),
            lambda: model.run(make()),
        )
        return trace


def runs(model: GPT2, question: Question) -> Runs:
    """The same for one model, by itself."""
    return Session({question.model: model}).runs(question)


def size(value: object) -> int:
    """Bytes that a value holds: of a run its cells, of anything else its tensors, and 64 for each
    number or text."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, Trace):
        return size(value.cells)
    if isinstance(value, Mapping):
        return size(tuple(value)) + size(tuple(value.values()))
    if isinstance(value, tuple | list):
        return sum(map(size, value))
    if is_dataclass(value):
        return sum(size(getattr(value, field.name)) for field in fields(value))
    return 64


def _tokens(trace: Trace, tokenizer: Tokenizer) -> tuple[str, ...]:
    return tuple(tokenizer.pieces(trace.tokens[0].tolist()))


def _batch(model: GPT2, texts: Sequence[str], n: int | None = None) -> Batch:
    """Texts as a batch in which END is the last position; QuestionError where one is too long, or
    not n tokens."""
    batch = model.batch(list(texts))
    for text, length in zip(texts, batch.lengths.tolist(), strict=True):
        if length > MAX_TOKENS:
            raise QuestionError(f"a prompt of {length:,} tokens", f"up to {MAX_TOKENS:,}")
        if n is not None and length != n:
            raise QuestionError(
                f"a reference prompt of {length} tokens for a prompt of {n}: "
                f"{'|'.join(model.words.tokens(text))}",
                f"reference prompts of {n} tokens, so that a position means one thing",
            )
    return Batch(batch.tokens, batch.lengths, {"END": batch.lengths - 1})


def _shuffled(clean: Trace) -> Batch:
    """The prompt's own tokens in other orders, the first in its place, since a model treats that
    one as no other."""
    generator, tokens = torch.Generator().manual_seed(0), clean.tokens[0].cpu()
    first, rest = tokens[:1], tokens[1:]
    orders = [torch.randperm(len(rest), generator=generator) for _ in range(SHUFFLES)]
    lengths = torch.full((SHUFFLES,), len(tokens))
    shuffled = torch.stack([torch.cat([first, rest[order]]) for order in orders])
    return Batch(shuffled, lengths, {"END": lengths - 1})


def _choices(
    question: Question, tokenizer: Tokenizer, clean: Trace
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Ids of answers and distractors, of the prompt and of the other; what the other has none of is
    the prompt's."""
    q = question
    texts = (q.answers, q.distractors, q.other_answers, q.other_distractors)
    answers, distractors, others, against = (tuple(map(tokenizer.single, some)) for some in texts)
    answers = answers or (int(clean.logits_at(-1)[0].argmax()),)
    return [(answers, distractors), (others or answers, against or distractors)]


def _toward(
    model: GPT2, answers: tuple[int, ...], distractors: tuple[int, ...]
) -> Float[Tensor, "d_model"]:
    """The direction of the answers' rows of W_U, less the others', of length one."""
    against = distractors or None
    asked = (
        metrics.logit(answers=[list(answers)])
        if against is None
        else metrics.logit_diff(answers=[list(answers)], distractors=[list(against)])
    )
    direction = asked.direction(model.params)[0]
    unit: Tensor = (direction / direction.norm()).to(model.dtype)
    return unit


def _side(
    name: str,
    question: Question,
    sources: Sources,
    tokens: tuple[str, ...],
    answers: tuple[int, ...],
    distractors: tuple[int, ...],
) -> Side:
    """A side without interventions."""
    run, metric = sources.this, _metric(question.metric, answers, distractors)
    return Side(name, run, Patch(), run, metric, sources, tokens, answers, distractors)


def _metric(name: str, answers: tuple[int, ...], distractors: tuple[int, ...]) -> Metric:
    """The metric at the last position of one prompt."""
    if both := set(answers) & set(distractors):
        raise QuestionError(
            f"token {min(both)} is an answer and a distractor", "different tokens on the two sides"
        )
    right = torch.tensor([answers])
    if name == "logits":
        return (
            metrics.logit_diff(answers=right, distractors=torch.tensor([distractors]))
            if distractors
            else metrics.logit(answers=right)
        )
    return {"probability": metrics.prob, "loss": metrics.loss, "rank": metrics.rank}[name](
        answers=right
    )
