"""Circuits of edges: when all cut edges at once are faster than one by one; every edge at a state;
searches beside estimates by gradients; two processes and Ray beside one.

python -m benchmarks.circuits crossing singles peers search workers
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import weights
from benchmarks import runner, setting
from benchmarks.peers.check import columns
from benchmarks.peers.client import Peer
from benchmarks.w1_edges import peer_edge
from interp import metrics, patching, tasks
from interp.circuit import Circuit, files
from interp.circuit.ablation import Ablation
from interp.circuit.curve import Curve, chance, curve, ranked
from interp.circuit.matrix import places
from interp.circuit.search import added, blocks, every_edges, exact, removed, steps
from interp.circuit.state import State
from interp.circuit.turns import Turns
from interp.executor import Where, one_thread
from interp.tasks import Prompts
from minigpt import GPT2
from minigpt.address import edges as every_edge
from minigpt.params import tensors

Scores = Mapping[str, float]
ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("TL2_PYTHON", ROOT / ".bench-venv" / "tl2" / "bin" / "python"))
PEER = ROOT / "benchmarks" / "peers" / "eap_ig.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {f.__name__: f for f in (crossing, singles, peers, search, workers)}
    parser.add_argument("parts", nargs="*", default=[*parts], choices=[*parts, []])
    with one_thread():
        for name in parser.parse_args().parts:
            parts[name]()


def asked(model: GPT2, pairs: Prompts) -> Ablation:
    """Noising by pairs; the runs are there already."""
    on = Ablation(model, pairs, metrics.logit_diff(pairs), "pairs", over="heads mlps")
    _ = on.full
    return on


@contextmanager
def models() -> Iterator[dict[str, tuple[GPT2, Prompts]]]:
    """The embedded model and a full-size one, each with pairs that differ in one token."""
    small = weights.load("ioi-mini")
    with setting.setting() as place:
        yield {
            "ioi-mini": (small, one_length(small, 10, 0)),
            "gpt2": (place.model, setting.pairs(1, 15, [10])),
        }


def one_length(model: GPT2, n: int, seed: int) -> Prompts:
    """Prompts of indirect objects of the length that is most frequent."""
    pairs = tasks.ioi.prompts(model.words, 5 * n, seed)
    same = pairs.lengths == pairs.lengths.mode().values
    return pairs.rows(same.nonzero().flatten().tolist()[:n])


def crossing() -> None:
    """A circuit's run, its cut edges one patch each and all at once."""
    with models() as known:
        for name, (model, pairs) in known.items():
            on, every = asked(model, pairs), list(every_edge(model.config))
            order = ranked(chance(every, 0))
            for cut in (1, 4, 8, 16, 64, 256, 1024):
                kept = [edge for edge in every if edge not in set(order[:cut])]
                ways = {
                    "patches": partial(by_patches, on, order[:cut]),
                    "at_once": partial(at_once, on, kept),
                }
                took = {way: best(call) for way, call in ways.items()}
                runner.record("edges cut", {}, model=name, cut=cut, **took)


def by_patches(on: Ablation, cut: list[str]) -> torch.Tensor:
    """A circuit's metric, a patch for each edge that is cut."""
    return on.metric.after(on.model, on.clean, [on.cut(cut)])[0][0]


def at_once(on: Ablation, kept: list[str]) -> torch.Tensor:
    """The same by the matrix of edges."""
    return State(on.model, on.clean, on.source, on.metric, kept).metric


def best(call: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of a few calls."""
    return min(runner.seconds(call) for _ in range(times))


def singles() -> None:
    """Every edge on its own: at the whole model by the engine and by the matrix of edges, at a
    circuit of a tenth; a sample of a fiftieth at full size, all of it on the embedded model."""
    with models() as known:
        for name, (model, pairs) in known.items():
            on, every = asked(model, pairs), list(every_edge(model.config))
            sample = every if name == "ioi-mini" else by_port(every, 0.02)
            tenth = set(ranked(chance(every, 1))[: len(every) // 10])
            for size, kept in (("whole", every), ("a tenth", [e for e in every if e in tenth])):
                state = State(model, on.clean, on.source, on.metric, kept)
                _ = state.metric
                took = {"at_once": best(partial(state.turned, sample), 2)}
                if size == "whole":
                    call = partial(patching.edges, model, pairs, on.metric, sample)
                    took["patches"] = best(call, 2)
                each = len(sample) * len(pairs)
                rates = {f"{way}_per_second": each / x for way, x in took.items()}
                hours = took["at_once"] / each * len(every) * 100 / 3600
                more = {"sample": len(sample), "pairs": len(pairs), "hours_of_100_pairs": hours}
                runner.record("every edge", {}, model=name, circuit=size, **took, **rates, **more)


def by_port(every: list[str], share: float) -> list[str]:
    """All edges into some of the ports, drawn by chance, until they are so many."""
    found: list[str] = []
    names = list(dict.fromkeys(edge.split(">")[1] for edge in every))
    for i in torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist():
        if len(found) < share * len(every):
            found += [edge for edge in every if edge.endswith(f">{names[i]}")]
    return found


def peers() -> None:
    """Edges x pairs a second of everyone who computes exact effects of edges, taking turns on one
    thread: here by patches and at once, hooks on Hugging Face's GPT-2, TransformerLens 2 by its
    hooks, TransformerLens 4 by its own sweep (edges into queries only), EAP-IG's own run of a
    graph that lacks an edge. Everyone else runs a few of the edges."""
    with setting.setting() as place, ExitStack() as held:
        pair = setting.pairs(1, 15, [10])
        on, every = asked(place.model, pair), list(every_edge(place.model.config))
        sample = by_port(every, 0.02)
        few = np.random.default_rng(0).choice(every, 40, replace=False).tolist()
        state = State(on.model, on.clean, on.source, on.metric, every)
        _ = state.metric
        queries = [f"a5.3>a{layer}.{head}.q" for layer in range(6, 12) for head in range(12)]
        given = setting.arrays(pair, **columns([peer_edge(edge) for edge in few]))
        asked_of = {
            "hooks": ("w1_edges", given, few),
            "tl2": ("w1_edges", given, few),
            "tl4": ("tl4_head_q", setting.arrays(pair, sources=np.array([[5, 3]])), queries),
        }
        calls: dict[str, tuple[int, Callable[[], float]]] = {
            "at once": (len(sample), partial(runner.seconds, partial(state.turned, sample))),
            "patches": (len(sample), partial(runner.seconds, partial(exactly, on, sample))),
        }
        for name, (workload, arrays, edges) in asked_of.items():
            peer = held.enter_context(setting.peer_of(name, place))
            setting.agreement(
                exactly(on, edges).numpy(), peer.run(workload, arrays)[1].reshape(len(edges), -1)
            )
            calls[name] = (len(edges), partial(own_seconds, peer, workload, arrays))
        if "EAP_IG" in os.environ and PYTHON.is_file():
            calls["EAP-IG"] = (len(few[:4]), partial(without, on, place, few[:4]))
        found = runner.race({name: call for name, (_, call) in calls.items()}, 5, 1)
        rates = {name: calls[name][0] / timing.median for name, timing in found.items()}
        over = {name: rates["at once"] / rate for name, rate in rates.items()}
        runner.record(
            "edges x pairs a second",
            found,
            weights=place.weights,
            edges={name: n for name, (n, _) in calls.items()},
            rates=rates,
            at_once_over=over,
        )


def exactly(on: Ablation, edges: list[str]) -> torch.Tensor:
    """The metric with each edge's clean write replaced by its corrupt one: [edges, pairs]."""
    found = patching.edges(on.model, on.pairs, on.metric, edges)
    return found.per_prompt + found.base


def without(on: Ablation, place: setting.Setting, edges: list[str]) -> float:
    """What EAP-IG's evaluation takes for graphs that lack one edge each."""
    at = places(place.model.config)
    with tempfile.TemporaryDirectory() as folder:
        give(Path(folder), on.pairs)
        (Path(folder) / "edges.json").write_text(json.dumps([at[edge] for edge in edges]))
        (Path(folder) / "model").symlink_to(place.folder)
        values, took = theirs(Path(folder))
    setting.agreement(exactly(on, edges).numpy(), values["without"].reshape(len(edges), -1).numpy())
    return took["without"]


def own_seconds(peer: Peer, workload: str, arrays: Mapping[str, Any]) -> float:
    """What a peer's edges took, without the two runs that it prepares."""
    took, _ = peer.run(workload, arrays)
    return took - float(peer.reply.get("preparing", 0.0))


def search() -> None:
    """Circuits found on some prompts, judged on others; the estimates of EAP and EAP-IG by their
    own code, where it is at hand (EAP_IG, MIB_TRACK)."""
    model = weights.load("ioi-mini")
    train, test = one_length(model, 20, 0), one_length(model, 40, 1)
    on, judge = asked(model, train), asked(model, test)
    found, took = {}, {}
    with Turns(on) as turns:
        names = every_edges(turns)
        for name, call in {
            "exact": lambda: dict(zip(names, exact(turns).mean(1).tolist(), strict=True)),
            "blocks": lambda: removed(turns, blocks(turns), absolute=True),
            "greedy": lambda: removed(turns, steps(turns), absolute=True),
            "greedy, signed": lambda: removed(turns, steps(turns)),
            "added": lambda: added(turns, most=len(names) // 5),
        }.items():
            start = time.perf_counter()
            found[name] = call()
            took[name] = time.perf_counter() - start
    theirs, times = estimates(model, train, found["exact"])
    found, took = {**found, **theirs}, {**took, **times}
    own = torch.tensor([found["exact"][edge] for edge in names])
    curves = {
        (name, absolute): curve(judge, scores, absolute=absolute)
        for name, scores in found.items()
        for absolute in (False, True)
    }
    for name, scores in found.items():
        values = torch.tensor([scores[edge] for edge in names])
        by_size = curves[name, True]
        runner.record(
            "circuits searched",
            {},
            search=name,
            seconds=took[name],
            signed=said(curves[name, False]),
            by_size=said(by_size),
            over_exact=by_size.over(curves["exact", True]),
            over_eap_ig=by_size.over(curves["EAP-IG", True]) if "EAP-IG" in found else None,
            rank_correlation=spearman(values.abs(), own.abs()),
            of_the_100_largest=overlap(values.abs(), own.abs(), 100),
        )
    drawn = [curve(judge, chance(names, seed)) for seed in range(5)]
    runner.record(
        "circuits searched", {}, search="chance", signed={"cpr": [each.cpr for each in drawn]}
    )


def estimates(
    model: GPT2, pairs: Prompts, scores: Scores
) -> tuple[dict[str, Scores], dict[str, float]]:
    """EAP's and EAP-IG's, and how long each took; none where their code is not at hand."""
    if not PYTHON.is_file() or "EAP_IG" not in os.environ:
        return {}, {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights.save(model, folder / "model")
        give(folder, pairs)
        files.write(Circuit({}, [*scores], scores), model.config, folder / "graph.json")
        found, took = theirs(folder)
    # Their scores are of the loss, with an edge corrupt less without: positive where it helps.
    at = places(model.config)
    kept = {
        name: {edge: float(found[key][place]) for edge, place in at.items()}
        for name, key in (("EAP", "eap"), ("EAP-IG", "eap_ig"))
    }
    return kept, {"EAP": took["eap"], "EAP-IG": took["eap_ig"]}


def give(folder: Path, pairs: Prompts) -> None:
    """Prompts as eap_ig.py reads them."""
    assert pairs.distractors is not None
    assert pairs.corrupt is not None
    given = {
        "clean": pairs.clean,
        "corrupt": pairs.corrupt,
        "answers": pairs.answers[:, 0],
        "distractors": pairs.distractors[:, 0],
    }
    save_file({k: x.contiguous() for k, x in given.items()}, folder / "asked.safetensors")


def theirs(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """eap_ig.py's answers and times, on one thread."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([PYTHON, PEER, folder], check=True, env=alone)
    return load_file(folder / "answers.safetensors"), json.loads(
        (folder / "times.json").read_text()
    )


def said(found: Curve) -> dict[str, Any]:
    """A curve's areas with their intervals, and its points."""
    values = [round(x, 4) for x in found.recovered.tolist()]
    return {"cpr": found.cpr, "cmd": found.cmd, "intervals": found.intervals(), "recovered": values}


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    """The correlation of ranks."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def overlap(a: torch.Tensor, b: torch.Tensor, n: int) -> float:
    """How many of the n largest are the same, as a share."""
    largest = [set(x.argsort(descending=True)[:n].tolist()) for x in (a, b)]
    return len(largest[0] & largest[1]) / n


def workers() -> None:
    """All edges of a full-size model's sample: one process, two, and Ray with one worker and with
    two, taking turns."""
    with setting.setting() as place:
        on = asked(place.model, setting.pairs(4, 15, [10]))
        sample = by_port(list(every_edge(place.model.config)), 0.04)
        ways = {
            "one": Where(),
            "two": Where(2),
            "ray one": Where(1, "local"),
            "ray two": Where(2, "local"),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(2):
            for name, where in ways.items():
                with Turns(on, where) as turns:
                    turns.metric(every_edges(turns), sample[:200])  # whoever works is there
                    call = partial(turns.metric, every_edges(turns), sample)
                    took[name].append(runner.seconds(call))
        least = {name: min(values) for name, values in took.items()}
        runner.record(
            "workers",
            {},
            weights=runner.weight_hash(tensors(place.model.params)),
            seconds=took,
            two_over_one=least["one"] / least["two"],
            ray_overhead=least["ray one"] / least["one"] - 1,
            ray_two_over_one=least["one"] / least["ray two"],
            edges=len(sample),
        )


if __name__ == "__main__":
    main()
