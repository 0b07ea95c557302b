"""An explanation that a language model gives, and whose predictions are its own: it reads what a
component did, says it in a sentence, and simulates it from the sentence alone (Bills et al.
2023)."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from interp.corpus.component import Component
from interp.explain.asked import STEPS, Form, form, sentence, to_explain, to_simulate
from interp.explain.endpoint import Endpoint
from interp.explain.explain import Explanation, judged, of_nothing
from interp.explain.passages import Evidence, Floats, Passage, evidence
from minigpt.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Told(Shown):
    """The sentence, and a language model that predicts from it. most: what 10 stands for; failed:
    the passages for which no list of numbers came, which count as predictions of nothing."""

    endpoint: Endpoint
    form: Form
    sentence: str
    most: float
    failed: list[str] = field(default_factory=list)
    _said: dict[tuple[str, ...], Floats] = field(default_factory=dict)
    kind = "language model"

    def predict(self, passage: Passage) -> Floats:
        """What it says of each numbered token, asked once."""
        if passage.tokens not in self._said:
            self._said[passage.tokens] = self._asked(passage.tokens)
        return self._said[passage.tokens]

    def _asked(self, tokens: tuple[str, ...]) -> Floats:
        question = to_simulate(self.form, self.sentence, tokens)
        answer = self.endpoint.ask(question, 8 * len(tokens) + 20)
        steps = parsed(answer, len(tokens))
        if steps is None:
            self.failed.append(answer)
            return np.zeros(len(tokens))
        return steps * self.most / STEPS


def told(component: Component, endpoint: Endpoint, given: Evidence | None = None) -> Explanation:
    """What a language model says of a component, scored as every explanation is; so many passages
    are asked about at once as the endpoint bears. EndpointError where it does not answer."""
    known = evidence(component) if given is None else given
    if not known.train or not known.most:
        return of_nothing(component, known)
    kind = form(known.train)
    said = sentence(kind, endpoint.ask(to_explain(known.train, known.most), 60))
    made = Told(endpoint, kind, said, known.most)
    apart = {passage.tokens: passage for passage in known.test}
    with ThreadPoolExecutor(endpoint.at_once) as pool:
        list(pool.map(made.predict, apart.values()))
    return judged(component, made, known)


def parsed(answer: str, n: int) -> Floats | None:
    """The n numbers of an answer; None where it is no such list."""
    found = re.search(r"\[[^\[\]]*\]", answer)
    try:
        numbers = json.loads(found[0]) if found else None
    except json.JSONDecodeError:
        return None
    right = isinstance(numbers, list) and len(numbers) == n and all(map(_is_step, numbers))
    return np.array(numbers, dtype=np.float64) if right else None


def _is_step(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= STEPS  # type: ignore[arg-type, operator]
