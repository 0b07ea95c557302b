"""Whether the peers compute the same numbers: python -m benchmarks.peers.check [PEER ...]

Every workload, on a few variants, with random full-size weights and two prompts whose corrupt twin
differs in one token. Each peer's numbers against those of plain hooks. The difference is given
relative to the largest effect, which is the number that a patch changes: a patch that did nothing
at all would show as 1. In float64, which is the default, 1e-9 of it fails; in float32 1e-2, since
some of these effects are a few ten-thousandths of the metric, which rounding alone reaches. The
seconds are of few variants and of a machine that may have been busy: no measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.peers.client import MODULES, Peer, PeerError
from benchmarks.peers.inputs import Edge, Inputs, later_queries

TOLERANCE = {"float64": 1e-9, "float32": 1e-2}
PROMPTS, LENGTH = 2, 12
EDGES = [
    Edge("input", -1, -1, "q", 0, 3),
    Edge("input", -1, -1, "out", -1, -1),
    Edge("head", 2, 5, "q", 7, 1),
    Edge("head", 0, 11, "k", 9, 4),
    Edge("head", 3, 0, "v", 4, 8),
    Edge("head", 6, 6, "mlp", 6, -1),
    Edge("head", 10, 2, "out", -1, -1),
    Edge("mlp", 0, -1, "q", 3, 10),
    Edge("mlp", 1, -1, "v", 11, 0),
    Edge("mlp", 5, -1, "mlp", 8, -1),
    Edge("mlp", 11, -1, "out", -1, -1),
]
SOURCES = [(10, 3), (10, 7)]
ONLY = {"w5_cache, every head's write": "tl2", "w5_cache, every module": "nnsight"}

Values = dict[str, np.ndarray]


@torch.no_grad()
def random_model(seed: int = 0, vocabulary: int = 50257) -> GPT2LMHeadModel:
    """A GPT-2 small whose every parameter is random, biases and LayerNorms too, and large enough
    that patches are seen."""
    torch.manual_seed(seed)
    last = vocabulary - 1
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, bos_token_id=last, eos_token_id=last)
    ).eval()
    for name, x in model.named_parameters():
        if ".ln_" in name:
            x.add_(0.2 * torch.randn_like(x))
        elif x.ndim == 1:
            x.normal_(std=0.1)
        elif ".h." in name:
            x.normal_(std=0.06)
    return model


def make_folder(folder: Path) -> None:
    """The random model as a Hugging Face folder."""
    random_model().save_pretrained(folder)


def common_inputs(seed: int = 0) -> Values:
    """Two prompts; the corrupt ones differ at the fourth token."""
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 50257, (PROMPTS, LENGTH))
    corrupt = clean.copy()
    corrupt[:, 3] = rng.integers(0, 50257, PROMPTS)
    answers, distractors = rng.integers(0, 50257, (2, PROMPTS))
    return {"clean": clean, "corrupt": corrupt, "answers": answers, "distractors": distractors}


def columns(edges: list[Edge]) -> Values:
    """Edges as the arrays that w1_edges takes."""
    return {
        name: np.array(column)
        for name, column in zip(Edge._fields, zip(*edges, strict=True), strict=True)
    }


def workloads(given: Values) -> dict[str, tuple[str, Values]]:
    """What is compared, by a name of its own: a workload and its inputs."""
    some = {"senders": np.array([(0, 1), (6, 4), (9, 9)])}
    later = {
        "senders": np.array([(0, 1), (3, 4), (7, 2)]),
        "receivers": np.array([(7, 3), (7, 9), (8, 6), (8, 10)]),
    }
    neurons = {"layer": np.array(4), "neurons": np.array([0, 700, 3071])}
    return {
        "w3_out": ("w3_out", given | some),
        "w3_out, two passes": ("w3_out_paper", given | some),
        "w3_out, the edge meaning": ("w3_out_frozen", given | some),
        "w3_v": ("w3_v", given | later | {"position": np.array(5)}),
        "w3_v, two passes": ("w3_v_paper", given | later | {"position": np.array(5)}),
        "w3_v, the edge meaning": ("w3_v_frozen", given | later | {"position": np.array(5)}),
        "w3_v, a position for each prompt": (
            "w3_v",
            given | later | {"position": np.array([5, 8])},
        ),
        "heads_by_pos": ("heads_by_pos", given | some),
        "w1_edges": ("w1_edges", given | columns(EDGES)),
        "tl4_head_q": ("tl4_head_q", given | {"sources": np.array(SOURCES)}),
        "w4_neurons": ("w4_neurons", given | neurons),
        "w4_neurons, at the end": ("w4_neurons", given | neurons | {"at_end": np.array(True)}),
        "w5_cache": ("w5_cache", given),
        "w5_cache, every head's write": ("w5_cache", given | {"use_attn_result": np.array(True)}),
        "w5_cache, every module": ("w5_cache", given | {"everything": np.array(True)}),
    }


class Oracle:
    """Plain hooks, and what an unpatched run gives."""

    def __init__(self, hooks: Peer, given: Values) -> None:
        self.hooks = hooks
        self.metric = {tokens: self._unpatched(given, tokens) for tokens in ("clean", "corrupt")}

    def numbers(self, workload: str, inputs: Values) -> tuple[np.ndarray, float]:
        """The workload's numbers, and its largest effect; for w5_cache the largest logit."""
        if workload == "tl4_head_q":
            workload, inputs = "w1_edges", inputs | columns(later_queries(SOURCES))
        _, values = self.hooks.run(workload.removesuffix("_paper"), inputs)
        unpatched = {"w5_cache": 0.0, "heads_by_pos": self.metric["corrupt"]}.get(
            workload, self.metric["clean"]
        )
        return values, float(np.abs(values - unpatched).max())

    def _unpatched(self, given: Values, tokens: str) -> np.ndarray:
        _, logits = self.hooks.run("w5_cache", given | {"clean": given[tokens]})
        return Inputs(given).metric(torch.from_numpy(logits)[:, None]).numpy()


def check(folder: Path, names: list[str], dtype: str) -> bool:
    """Print a line for each peer and workload; whether all agree."""
    given, agree = common_inputs(), True
    with contextlib.ExitStack() as stack:
        peers = {name: stack.enter_context(Peer(name)) for name in dict.fromkeys(["hooks", *names])}
        for name, peer in peers.items():
            facts = peer.load(folder, dtype)
            print(f"{name}: {facts['versions']}, {facts['threads']} threads")
        oracle = Oracle(peers.pop("hooks"), given)
        for label, (workload, inputs) in workloads(given).items():
            asked = [
                peer
                for peer in peers.values()
                if workload in peer.workloads and ONLY.get(label, peer.name) == peer.name
            ]
            if not asked:
                continue
            expected, effect = oracle.numbers(workload, inputs)
            line = (
                f"{label:34} hooks {oracle.hooks.reply['seconds']:6.2f} s, largest effect "
                f"{effect:.1e}; "
            )
            for peer in asked:
                seconds, values = peer.run(workload, inputs)
                gap = np.abs(values - expected).max() / effect
                agree &= bool(gap <= TOLERANCE[dtype])
                print(
                    f"{line}{peer.name} {seconds:6.2f} s, off by {gap:.1e} of "
                    f"it{'' if gap <= TOLERANCE[dtype] else '  FAILS'}"
                )
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "peers",
        nargs="*",
        metavar="PEER",
        help=f"of {', '.join(MODULES)}; all of them if none is named",
    )
    parser.add_argument("--dtype", choices=list(TOLERANCE), default="float64")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder))
        try:
            sys.exit(0 if check(Path(folder), options.peers or list(MODULES), options.dtype) else 1)
        except PeerError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
