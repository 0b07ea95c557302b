"""An explanation that a language model gives, and whose predictions are its own: it reads what a
component did, says it in a sentence, and simulates it from the sentence alone (Bills et al.
2023)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from interp.corpus.component import Component
from interp.explain.endpoint import Endpoint, Messages
from interp.explain.explain import Explanation, judged, of_nothing
from interp.explain.passages import Evidence, Floats, Passage, evidence
from minigpt.shown import Shown

# Passages that are shown to explain from; steps into which numbers are cut.
SHOWN, STEPS = 5, 10
EXPLAIN = (
    "A component of a language model is studied. Below are texts, one token a line, each followed "
    "by how strongly the component responds there, from 0 to 10. Say in one short sentence what it "
    "responds to. Begin with: it responds to"
)
SIMULATE = (
    "A component of a language model responds to some tokens. Given what it responds to and a list "
    "of tokens, say for each token how strongly it responds, as an integer from 0 to 10. Answer "
    "with a JSON list of as many integers as there are tokens, and with nothing else."
)
EXAMPLE = (
    "it responds to days of the week\n" + json.dumps(["On", " Monday", " we", " met"]),
    "[0, 10, 0, 0]",
)


@dataclass(frozen=True, eq=False, repr=False)
class Told(Shown):
    """The sentence, and a language model that predicts from it. most: what 10 stands for; failed:
    the passages for which no list of numbers came, which count as predictions of nothing."""

    endpoint: Endpoint
    sentence: str
    most: float
    failed: list[str] = field(default_factory=list)
    kind = "language model"

    def predict(self, passage: Passage) -> Floats:
        """What it says of each numbered token."""
        tokens = list(passage.tokens)
        asked = f"{self.sentence}\n{json.dumps(tokens, ensure_ascii=False)}"
        answer = self.endpoint.ask(_messages(SIMULATE, [EXAMPLE], asked), 8 * len(tokens) + 20)
        steps = parsed(answer, len(tokens))
        if steps is None:
            self.failed.append(answer)
            return np.zeros(len(tokens))
        return steps * self.most / STEPS


def told(component: Component, endpoint: Endpoint, given: Evidence | None = None) -> Explanation:
    """What a language model says of a component, scored as every explanation is. EndpointError
    where it does not answer."""
    known = evidence(component) if given is None else given
    if not known.train or not known.most:
        return of_nothing(component, known)
    shown = sorted(known.train, key=lambda passage: -float(passage.did.max()))[:SHOWN]
    asked = "\n\n".join(written(passage, known.most) for passage in shown)
    sentence = _sentence(endpoint.ask(_messages(EXPLAIN, [], asked), 60))
    return judged(component, Told(endpoint, sentence, known.most), known)


def written(passage: Passage, most: float) -> str:
    """A passage as it is shown: a token and its step a line."""
    steps = np.minimum(STEPS, np.floor(STEPS * passage.did / most)).astype(int)
    pairs = zip(passage.tokens, steps, strict=True)
    return "\n".join(f"{token}\t{step}" for token, step in pairs)


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


def _sentence(answer: str) -> str:
    """The first line, begun as was asked for."""
    line = " ".join(answer.strip().partition("\n")[0].split()).rstrip(".")
    return line if line.lower().startswith("it responds") else f"it responds to {line}"


def _messages(system: str, examples: Sequence[tuple[str, str]], asked: str) -> Messages:
    before = [
        message
        for question, answer in examples
        for message in (
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        )
    ]
    return [{"role": "system", "content": system}, *before, {"role": "user", "content": asked}]
