"""The IOI paper's measurements at full size, 200 prompts: one path patching map, faithfulness of
the 26 heads, the greedy search of completeness.

python -m benchmarks.ioi [--greedy]: the greedy search, with the paper's settings, takes minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import runner, setting
from interp import metrics, patching
from interp.circuit import criteria
from interp.circuit.ablation import Ablation
from interp.ioi.published import CIRCUIT
from interp.tasks import Prompts, ioi
from minigpt.tokenizer import gpt2

GREEDY_PROMPTS = 100  # the authors' N


def prompts(n: int) -> Prompts:
    """p_IOI and p_ABC in GPT-2's words."""
    return ioi.prompts(gpt2(), n)


def timed(
    place: setting.Setting, name: str, n: int, call: Callable[[Prompts], Any], **facts: Any
) -> None:
    """One line: a measurement on n prompts, everything that it needs included."""
    given = prompts(n)
    runner.record(
        name,
        runner.alternate({"ours": lambda: call(given)}, 1, 0),
        prompts=n,
        weights=place.weights,
        **facts,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--greedy", action="store_true")
    chosen = parser.parse_args()
    with setting.setting() as place:
        model = place.model
        timed(
            place,
            "IOI: path patching map, 144 heads to the logits",
            200,
            lambda given: patching.paths(model, given, metrics.logit_diff(given)),
            variants=144,
        )
        timed(
            place,
            "IOI: path patching map, 144 heads to the name movers' q",
            200,
            lambda given: patching.paths(
                model, given, metrics.logit_diff(given), receivers=["a9.9.q", "a9.6.q", "a10.0.q"]
            ),
            variants=144,
        )
        timed(
            place,
            "IOI: faithfulness of the 26 heads",
            200,
            lambda given: criteria.faithfulness(
                Ablation(model, given, metrics.logit_diff(given)), CIRCUIT.nodes
            ),
        )
        if chosen.greedy:
            timed(
                place,
                "IOI: greedy completeness, 10 runs of 10 steps of 10 heads",
                GREEDY_PROMPTS,
                lambda given: criteria.greedy(
                    Ablation(model, given, metrics.logit_diff(given)), CIRCUIT.nodes, progress=True
                ),
            )


if __name__ == "__main__":
    main()
