"""What sweeps cost as prompts, positions and edges grow, into scaling.jsonl: python -m
benchmarks.scaling [--rounds 2] [--smallest]"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import setting
from benchmarks.peers.check import columns
from benchmarks.peers.client import Peer
from benchmarks.w1_edges import peer_edge
from interp import patching
from minigpt.address import edges

SCALING = Path(__file__).parent / "scaling.jsonl"
HEADS = [(layer, head) for layer in range(12) for head in range(12)]
PROMPTS, POSITIONS, EDGES = (
    (1, 2, 4, 8, 16, 32, 64),
    (8, 16, 32, 64, 128),
    (100, 300, 1000, 3000, 10000),
)
SENDER = 50  # the head whose passes stand for those of all 144


def head_paths(place: setting.Setting, batch: int, length: int) -> setting.Contest:
    """Paths from every head to the output at the last position, prompts that differ in the
    middle."""
    given = setting.pairs(batch, length, [length // 2])
    return setting.Contest(
        "head paths",
        lambda: patching.paths(place.model, given, setting.metric(given)),
        "tl2",
        "w3_out",
        setting.arrays(given, senders=np.array([HEADS[SENDER]])),
        [SENDER],
    )


def some_edges(place: setting.Setting, count: int) -> setting.Contest:
    """This many edges of one pair of 15 tokens."""
    pair, every = setting.pairs(1, 15, [10]), list(edges(place.model.config))
    some = [every[i] for i in np.random.default_rng(0).choice(len(every), count, replace=False)]
    sample = list(range(0, count, count // 10))[:10]
    return setting.Contest(
        "edges",
        lambda: patching.edges(place.model, pair, setting.metric(pair), some),
        "hooks",
        "w1_edges",
        setting.arrays(pair, **columns([peer_edge(some[i]) for i in sample])),
        sample,
    )


def measure(place: setting.Setting, tl2: Peer, hooks: Peer, rounds: int, points: slice) -> None:
    """A line for each point of the three curves."""
    for batch in PROMPTS[points]:
        setting.measure(
            head_paths(place, batch, 16), place, tl2, rounds, into=SCALING, axis="prompts", x=batch
        )
    for length in POSITIONS[points]:
        setting.measure(
            head_paths(place, 4, length),
            place,
            tl2,
            rounds,
            into=SCALING,
            axis="positions",
            x=length,
        )
    for count in EDGES[points]:
        setting.measure(
            some_edges(place, count), place, hooks, rounds, into=SCALING, axis="edges", x=count
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--smallest", action="store_true", help="the smallest two points of each curve only"
    )
    options = parser.parse_args()
    with (
        setting.setting() as place,
        setting.peer_of("tl2", place) as tl2,
        setting.peer_of("hooks", place) as hooks,
    ):
        measure(place, tl2, hooks, options.rounds, slice(2 if options.smallest else None))


if __name__ == "__main__":
    main()
