"""Memory: the total effect of every one of the 36,864 neurons at END, 8 pairs of 16 tokens; peak
memory of this process over what it held before."""

from __future__ import annotations

import resource
import time

from benchmarks import runner, setting
from interp import patching
from minigpt.device import CPU


def main() -> None:
    with setting.setting() as place:
        given = setting.pairs(8, 16, [8])
        place.model.run(given)
        before, start = peak(), time.perf_counter()
        found = patching.nodes(
            place.model, given, setting.metric(given), "neurons@-1", "noising", progress=True
        )
        seconds = time.perf_counter() - start
        assert len(found) == 36_864, "not every neuron"
        assert found.receipt is not None
        runner.record(
            "every neuron at END, 8 pairs of 16",
            {"ours": runner.timing([seconds])},
            variants=len(found),
            prompts=8,
            weights=place.weights,
            peak_over_before=peak() - before,
            budget=CPU.budget,
            gflop=found.receipt.flops / 1e9,
        )


def peak() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
