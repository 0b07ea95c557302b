"""W2: edges of 100 pairs at once, 15 tokens that differ in one, as IOI pairs do: a sample of the
graph's 32,491 edges, exact."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from benchmarks.peers.check import columns
from benchmarks.w1_edges import peer_edge
from interp import patching
from minigpt.address import edges

EDGES, SAMPLE = 200, 3


def main() -> None:
    rounds = setting.rounds(2)
    with setting.setting() as place:
        given = setting.pairs(100, 15, [10])
        every = list(edges(place.model.config))
        some = [every[i] for i in np.random.default_rng(1).choice(len(every), EDGES, replace=False)]
        sample = list(range(0, EDGES, EDGES // SAMPLE))[:SAMPLE]
        setting.run(
            setting.Contest(
                f"W2 {EDGES} of all edges, 100 pairs of 15 tokens",
                lambda: patching.edges(place.model, given, setting.metric(given), some),
                "hooks",
                "w1_edges",
                setting.arrays(given, **columns([peer_edge(some[i]) for i in sample])),
                sample,
            ),
            place,
            rounds,
        )


if __name__ == "__main__":
    main()
