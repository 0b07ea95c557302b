"""W3: path patching from all 144 heads, 32 pairs of 16 tokens, to the output and to four heads'
values, in both meanings.

The IOI meaning against the paper's algorithm to the letter, and against the best that we know to
write with hooks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import setting
from interp import patching
from interp.tasks import Prompts

RECEIVERS = [(7, 3), (7, 9), (8, 6), (8, 10)]
PORTS = [f"a{layer}.{head}.v" for layer, head in RECEIVERS]
OUT, VALUES = "out at END", "four heads' v at a middle position"
# Receivers, meaning, the peer's workload, and the ratio wanted.
CONTESTS: list[tuple[str, str, str, float | None]] = [
    (OUT, "recompute", "w3_out", 120),
    (OUT, "recompute", "w3_out_paper", None),
    (OUT, "frozen", "w3_out_frozen", None),
    (VALUES, "recompute", "w3_v", 30),
    (VALUES, "recompute", "w3_v_paper", None),
    (VALUES, "frozen", "w3_v_frozen", None),
]


def contest(
    place: setting.Setting, given: Prompts, to: str, mlps: str, workload: str, target: float | None
) -> setting.Contest:
    """Our sweep from every head, the peer's from a few."""
    heads = [(layer, head) for layer in range(12) for head in range(12)]
    sample = np.random.default_rng(0).choice(144, 6, replace=False).tolist()
    where: dict[str, Any] = {} if to == OUT else {"receivers": PORTS, "at": "MID"}
    inputs = {} if to == OUT else {"receivers": np.array(RECEIVERS), "position": np.array(8)}
    return setting.Contest(
        f"W3 144 heads -> {to}{'' if mlps == 'recompute' else ', edge meaning'}, 32 pairs of 16",
        lambda: patching.paths(place.model, given, setting.metric(given), mlps=mlps, **where),
        "tl2",
        workload,
        setting.arrays(given, senders=np.array([heads[i] for i in sample]), **inputs),
        sample,
        target,
    )


def main() -> None:
    rounds = setting.rounds()
    with setting.setting() as place, setting.peer_of("tl2", place) as peer:
        given = setting.pairs(32, 16, [3, 8, 11])
        for each in CONTESTS:
            setting.measure(contest(place, given, *each), place, peer, rounds)


if __name__ == "__main__":
    main()
