"""W3: path patching from all 144 heads, the IOI paper's meaning, 32 pairs of 16 tokens: to the output, and to four heads' values."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from interp import patching

RECEIVERS = [(7, 3), (7, 9), (8, 6), (8, 10)]


def main() -> None:
    rounds = setting.rounds()
    with setting.setting() as place:
        given = setting.pairs(32, 16, [3, 8, 11])
        heads = [(layer, head) for layer in range(12) for head in range(12)]
        some = np.random.default_rng(0).choice(144, 2, replace=False).tolist()
        senders = np.array([heads[i] for i in some])
        setting.run(setting.Contest(
            "W3 144 heads -> out at END, 32 pairs of 16", lambda: patching.paths(place.model, given, setting.metric(given)),
            "tl2", "w3_out", setting.arrays(given, senders=senders), some, 120), place, rounds)
        ports = [f"a{layer}.{head}.v" for layer, head in RECEIVERS]
        setting.run(setting.Contest(
            "W3 144 heads -> four heads' v at a middle position, 32 pairs of 16",
            lambda: patching.paths(place.model, given, setting.metric(given), receivers=ports, at="MID"), "tl2", "w3_v",
            setting.arrays(given, senders=senders, receivers=np.array(RECEIVERS), position=np.array(8)), some, 30), place, rounds)


if __name__ == "__main__":
    main()
