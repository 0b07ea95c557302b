"""Activation patching of all 144 heads at all positions, 32 pairs of 16 tokens, against
TransformerLens' own function for it."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from interp import patching


def main() -> None:
    rounds = setting.rounds(2)
    with setting.setting() as place:
        given = setting.pairs(32, 16, [8])
        heads = [(layer, head) for layer in range(12) for head in range(12)]
        some = np.random.default_rng(0).choice(144, 3, replace=False).tolist()
        setting.run(
            setting.Contest(
                "activation patching, 144 heads at all positions, 32 pairs of 16",
                lambda: patching.nodes(place.model, given, setting.metric(given)),
                "tl2",
                "heads_by_pos",
                setting.arrays(given, senders=np.array([heads[i] for i in some])),
                some,
                4,
            ),
            place,
            rounds,
        )


if __name__ == "__main__":
    main()
