"""W4: the total effect at END of each of the 3,072 neurons of one MLP, 8 pairs of 16 tokens."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from interp import patching


def main() -> None:
    rounds = setting.rounds(2)
    with setting.setting() as place:
        given = setting.pairs(8, 16, [8])
        some = np.random.default_rng(0).choice(3072, 8, replace=False).tolist()
        setting.run(
            setting.Contest(
                "W4 3,072 neurons of m5 at END, 8 pairs of 16",
                lambda: patching.nodes(
                    place.model, given, setting.metric(given), "neurons:m5@-1", "noising"
                ),
                "hooks",
                "w4_neurons",
                setting.arrays(
                    given, layer=np.array(5), neurons=np.array(some), at_end=np.array(True)
                ),
                some,
                10,
            ),
            place,
            rounds,
        )


if __name__ == "__main__":
    main()
