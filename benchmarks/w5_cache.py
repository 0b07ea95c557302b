"""W5: one forward pass of 1, 8 and 64 prompts of 16 tokens that keeps the activations. Each tool
keeps what it calls everything."""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np

from benchmarks import runner, setting
from benchmarks.peers.client import Peer

BATCHES = (1, 8, 64)
# What a contender is, which peer runs it, and with which switch of w5_cache.
CONTENDERS = {
    "Hugging Face, hooks on each layer's attention and MLP": ("hooks", None),
    "Hugging Face eager, hidden states and patterns": ("hooks", "everything"),
    "TransformerLens 2.18 run_with_cache": ("tl2", None),
    "TransformerLens 2.18, every head's write too": ("tl2", "use_attn_result"),
    "TransformerLens 4.3 bridge run_with_cache": ("tl4", None),
    "nnsight, saves of each layer's attention and MLP": ("nnsight", None),
    "nnsight, cache of every module": ("nnsight", "everything"),
}


def compare(place: setting.Setting, peers: dict[str, Peer], batch: int, rounds: int) -> None:
    given = setting.pairs(batch, 16, [8])
    mine = place.model.run(given.clean).logits[:, -1].numpy()
    inputs = {
        name: setting.arrays(given, **({switch: np.array(True)} if switch else {}))
        for name, (_, switch) in CONTENDERS.items()
    }
    runs = {
        name: partial(peers[peer].run, "w5_cache", inputs[name])
        for name, (peer, _) in CONTENDERS.items()
    }
    gap = max(setting.agreement(mine, run()[1]) for run in runs.values())
    timings = runner.race(
        {
            "ours": lambda: runner.seconds(lambda: place.model.run(given.clean).logits),
            **{name: lambda run=run: run()[0] for name, run in runs.items()},
        },
        rounds,
        warm_up=1,
    )
    runner.record(
        "W5 keep everything", timings, batch=batch, length=16, weights=place.weights, gap=gap
    )


def main() -> None:
    rounds = setting.rounds(5)
    with setting.setting() as place, contextlib.ExitStack() as stack:
        peers = {
            name: stack.enter_context(setting.peer_of(name, place))
            for name in dict.fromkeys(peer for peer, _ in CONTENDERS.values())
        }
        for batch in BATCHES:
            compare(place, peers, batch, rounds)


if __name__ == "__main__":
    main()
