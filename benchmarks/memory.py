"""Memory: the total effect of every one of the 36,864 neurons at END, 8 pairs of 16 tokens; peak
memory of this process over what it held before."""

from __future__ import annotations

import resource

from benchmarks import runner, setting
from interp import patching
from interp.effects import Effects
from interp.tasks import Prompts
from minigpt import GPT2
from minigpt.device import CPU


def main() -> None:
    with setting.setting() as place:
        given = setting.pairs(8, 16, [8])
        place.model.run(given)
        before, seen = peak(), []
        timings = runner.alternate({"ours": lambda: seen.append(swept(place.model, given))}, 1, 0)
        (found,) = seen
        assert len(found) == 36_864, "not every neuron"
        assert found.receipt is not None
        runner.record(
            "every neuron at END, 8 pairs of 16",
            timings,
            variants=len(found),
            prompts=8,
            weights=place.weights,
            peak_over_before=peak() - before,
            budget=CPU.budget,
            gflop=found.receipt.flops / 1e9,
        )


def swept(model: GPT2, given: Prompts) -> Effects:
    """The sweep that is measured."""
    metric = setting.metric(given)
    return patching.nodes(model, given, metric, "neurons@-1", "noising", progress=True)


def peak() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
