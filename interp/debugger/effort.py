"""How long a question may take: seconds by order of magnitude, from sizes alone, so that short ones
need not wait for long ones."""

from __future__ import annotations

from collections.abc import Mapping

from interp.debugger.question import Question
from minigpt import GPT2

# Operations a second, of a laptop; characters a token, of English.
SPEED, CHARACTERS = 5e10, 4
# A pass and what is read off it, in passes; cut into more parts, more.
PASSES = {"summary": 2, "nodes": 3, "graph": 40, "pathmap": 40, "totals": 40, "lens": 4}
SPLIT = 4


def seconds(models: Mapping[str, GPT2], question: Question, name: str) -> float:
    """What a result of a question may take; 0 for a model that there is none of."""
    model = models.get(question.model)
    if model is None:
        return 0.0
    c = model.config
    tokens = sum(len(text) / CHARACTERS + 1 for text in question.prompts)
    one = 2 * c.n_layer * (4 * c.d_model**2 + 2 * c.d_model * c.d_mlp) * tokens
    times = PASSES.get(name, 1) * (SPLIT if question.split else 1)
    return one * times * (2 if question.patches else 1) / SPEED
