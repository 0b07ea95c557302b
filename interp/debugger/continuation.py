"""How each side goes on: the text that the model writes after the prompt, the interventions in
force at every step."""

from __future__ import annotations

from interp.debugger.session import Runs, Side
from minigpt.sample import generate

# Tokens that are written.
TOKENS = 16


def continued(runs: Runs, n: int = TOKENS) -> dict[str, str]:
    """The most likely continuation of each side, by its name. A line that names position 13 acts on
    the fourteenth token at each step; one without a position acts on every token. PatchError where
    a value of the prompt's own length says nothing of a longer text."""
    return {side.name: _continued(runs, side, n) for side in runs.sides}


def _continued(runs: Runs, side: Side, n: int) -> str:
    room = runs.model.config.n_ctx - len(side.tokens)
    return generate(runs.model, side.base.tokens[0].tolist(), min(n, room), patch=side.patch)
