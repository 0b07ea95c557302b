"""W1: all 32,491 edges of one pair of 15 tokens that differ in one (as MIB's IOI pairs do), exact;
and head -> head query edges."""

from __future__ import annotations

import numpy as np

from benchmarks import setting
from benchmarks.peers.check import columns
from benchmarks.peers.inputs import Edge
from interp import patching
from minigpt import Site, parse
from minigpt.address import edges


def peer_edge(text: str) -> Edge:
    """An address as peers write it."""
    sender, port = parse(text).sites
    return Edge(
        *_end(sender, {"attn": "head", "mlp": "mlp", "input": "input"}),
        *_end(port, {"in": "mlp", "out": "out", "q": "q", "k": "k", "v": "v"}),
    )


def _end(site: Site, kinds: dict[str, str]) -> tuple[str, int, int]:
    return (
        kinds[site.kind],
        -1 if site.layer is None else site.layer,
        -1 if site.part is None else site.part,
    )


def main() -> None:
    rounds = setting.rounds(2)
    with setting.setting() as place:
        pair = setting.pairs(1, 15, [10])
        every = list(edges(place.model.config))
        sample = np.random.default_rng(0).choice(len(every), 40, replace=False).tolist()
        setting.run(
            setting.Contest(
                "W1 every edge, one pair of 15 tokens",
                lambda: patching.edges(place.model, pair, setting.metric(pair)),
                "hooks",
                "w1_edges",
                setting.arrays(pair, **columns([peer_edge(every[i]) for i in sample])),
                sample,
                15,
            ),
            place,
            rounds,
        )
        queries = [e for e in every if ".q" in e and e.startswith("a")]
        source = parse("a5.3").site
        chosen = [i for i, e in enumerate(queries) if parse(e).sites[0] == source]
        order = sorted(
            chosen,
            key=lambda i: (parse(queries[i]).sites[1].layer, parse(queries[i]).sites[1].part),
        )
        setting.run(
            setting.Contest(
                "head -> head q edges, the same pair",
                lambda: patching.edges(place.model, pair, setting.metric(pair), queries),
                "tl4",
                "tl4_head_q",
                setting.arrays(pair, sources=np.array([[5, 3]])),
                order,
                20,
            ),
            place,
            rounds,
        )


if __name__ == "__main__":
    main()
