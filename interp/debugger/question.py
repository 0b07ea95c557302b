"""Everything that defines a view, as one value that is also a link: Question.from_url(q.to_url())
== q.

Knows texts only: no model, no run. What a text means to a model is session.py's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

METRICS = ("logits", "probability", "loss", "rank")
# Which way a metric grows when the answer is helped.
HELPS = {"logits": 1, "probability": 1, "loss": -1, "rank": -1}
SPLITS = ("keys", "neurons", "latents")
COMPARISONS = ("", "interventions", "other")
COLUMNS = ("activation", "norm", "direct", "total", "lost")
SIDES = ("", ".right", ".difference")
SORTS = (
    "",
    *(f"{column}{side}" for column in COLUMNS for side in SIDES),
    "change.write",
    "change.scale",
    "address",
)
TABS = ("", "nodes", "trace", "graph", "paths", "lens")
INSTEAD = ("0", "mean(reference)", "other")
# Bounds of what one question may ask for.
MAX_PROMPTS, MAX_TOKENS, MAX_CHARACTERS, MAX_ITEMS, MAX_K, MAX_STEPS = (
    64,
    1024,
    16_384,
    256,
    1000,
    32,
)


class QuestionError(MiniGPTError):
    """A question that cannot be asked: something is missing, unknown, or over a limit."""


@dataclass(frozen=True, repr=False)
class Question(Shown):
    """One view of one model on one prompt (or two). Every field has a default, which a link leaves
    out.

    model, prompt     which model continues which text
    answers           tokens with their space, " Mary"; none: the model's top token
    distractors       the tokens they are compared with; none: the metric is the mean answer logit
    metric            "logits" (answers less distractors), "probability", "loss" or "rank" of the
                      answers
    other             a second prompt to compare with, and to take values from; its own answers and
                      distractors, or (none) the same
    reference         prompts of as many tokens, over which means are taken; none: shuffles of the
                      prompt's own tokens
    patches           interventions on the prompt's run, each a line of a Patch: "a2.6@13 = 0",
                      "a2.6 = other", "m1 = mean(reference)", "a2.6@13 = this" (freeze at the clean
                      run's value), "a2.6 = x0.5" (that many times the clean run's value)
    compare           what stands on the right: "interventions", "other"; "": the interventions
                      where there are any, else the other prompt
    split             "keys": heads by the position whose value they read; "neurons": MLPs by
                      neuron; "latents": writes by the latents of the model's dictionaries
    sort, find, k     of the node table: a column (or column.right, column.difference); "": by what
                      the write changed where there are two sides, else by the direct effect, or by
                      what is lost without the node where there are none; words that a row must
                      have; how many at each end
    instead           what a node or edge is replaced by where an exact effect is measured: "0",
                      "mean(reference)" or "other"
    node              the selected row's address: "a2.6@13", "a2.6@13<3" (what the head took from
                      position 3), "m1.n7@9"
    trail             steps upstream, each "a3.1.q@13<9" (.q, .k, .v, or none for query and key),
                      "a3.1.v@13" or "m2.n17@5"
    graph             nodes of the circuit graph: "a2.6@13", "m1@4", "emb@9"
    pins, notes       of these, those whose edges are always drawn; and what is written at some:
                      "a2.6@13 copies the name"
    tab               which view is in front; "": the one that the question fills
    receivers, at     of the path patching map: ports "a3.4.q"; none: the output; and the position:
                      "END", "13", "all"
    """

    model: str = "ioi-mini"
    prompt: str = ""
    answers: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    metric: str = "logits"
    other: str = ""
    other_answers: tuple[str, ...] = ()
    other_distractors: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    compare: str = ""
    split: tuple[str, ...] = ()
    sort: str = ""
    find: str = ""
    k: int = 10
    instead: str = "0"
    node: str = ""
    trail: tuple[str, ...] = ()
    graph: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    at: str = "END"
    tab: str = ""
    # Read by pydantic where a question comes as JSON: a name that means nothing is refused there
    # too.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, value in _values(self):
            _check_text(name, value)
        for name, given, legal in (
            ("metric", self.metric, METRICS),
            ("compare", self.compare, COMPARISONS),
            ("sort", self.sort, SORTS),
            ("instead", self.instead, INSTEAD),
            ("tab", self.tab, TABS),
            *(("split", each, SPLITS) for each in self.split),
        ):
            if given not in legal:
                raise QuestionError(f"{name}={given!r}", " ".join(map(repr, legal)))
        if not 1 <= self.k <= MAX_K:
            raise QuestionError(f"k={self.k}", f"1 to {MAX_K}")
        if len(self.trail) > MAX_STEPS:
            raise QuestionError(f"a trail of {len(self.trail)} steps", f"up to {MAX_STEPS}")
        if len(self.prompts) > MAX_PROMPTS:
            raise QuestionError(
                f"{len(self.prompts)} prompts",
                f"up to {MAX_PROMPTS}: the prompt, the other and the reference together",
            )

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every text that a model will read."""
        return (self.prompt, *([self.other] if self.other else []), *self.reference)

    @property
    def front(self) -> str:
        """The view in front: the one asked for, or the one that the question fills."""
        filled = {"trace": self.trail, "graph": self.graph, "paths": self.receivers}
        return self.tab or next((name for name, some in filled.items() if some), "nodes")

    @classmethod
    def from_url(cls, params: str | Mapping[str, Any] | Iterable[tuple[str, str]]) -> Question:
        """The question in a query string, or in its parameters; QuestionError for a name or a value
        that means nothing."""
        found: dict[str, Any] = {}
        for name, value in _pairs(params):
            if name not in _FIELDS:
                raise QuestionError(f"nothing is called {name!r} in a question", " ".join(_FIELDS))
            if _FIELDS[name] == "tuple":
                found[name] = (*found.get(name, ()), value)
            elif name in found:
                raise QuestionError(
                    f"{name} is given twice",
                    "once; only "
                    f"{' '.join(n for n, kind in _FIELDS.items() if kind == 'tuple')} "
                    "repeat",
                )
            else:
                found[name] = _whole(name, value) if _FIELDS[name] == "int" else value
        return cls(**found)

    def to_url(self) -> str:
        """The query string that brings this view back; what is at its default is left out."""
        changed = [
            (name, value) for name, value in _values(self) if value != getattr(_DEFAULT, name)
        ]
        return urlencode(
            [
                (name, each)
                for name, value in changed
                for each in (value if isinstance(value, tuple) else (value,))
            ]
        )


def notes_of(question: Question) -> dict[str, str]:
    """What is written at nodes of the graph, by address; the last where there are several."""
    pairs = (note.partition(" ") for note in question.notes)
    return {address: said.strip() for address, _, said in pairs if said.strip()}


def _values(question: Question) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(question, field.name)) for field in fields(question))


def _pairs(
    params: str | Mapping[str, Any] | Iterable[tuple[str, str]],
) -> Iterator[tuple[str, str]]:
    if isinstance(params, str):
        yield from parse_qsl(params.lstrip("?"), keep_blank_values=True)
        return
    for name, value in params.items() if isinstance(params, Mapping) else params:
        texts = [value] if isinstance(value, (str, int)) else value
        yield from ((name, str(text)) for text in texts)


def _whole(name: str, text: Any) -> int:
    try:
        return int(text)
    except ValueError:
        raise QuestionError(f"{name}={text!r}", "a whole number") from None


def _check_text(name: str, value: Any) -> None:
    items = value if isinstance(value, tuple) else (value,)
    if len(items) > MAX_ITEMS:
        raise QuestionError(f"{len(items)} {name}", f"up to {MAX_ITEMS}")
    for text in (item for item in items if isinstance(item, str)):
        if len(text) > MAX_CHARACTERS:
            raise QuestionError(
                f"{name} of {len(text):,} characters",
                f"up to {MAX_CHARACTERS:,}, and {MAX_TOKENS:,} tokens",
            )
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise QuestionError(
                f"{name} holds half of a surrogate pair", "text that can be written as UTF-8"
            )


_FIELDS = {field.name: str(field.type).partition("[")[0] for field in fields(Question)}
_DEFAULT = Question()
