"""EAP-IG and MIB's circuit track, their own code on our weights and prompts: estimates of all edges
by gradients, and what MIB's evaluation says of a graph.

    EAP_IG=FOLDER MIB_TRACK=FOLDER python eap_ig.py FOLDER

In FOLDER: model/ (Hugging Face's), asked.safetensors (clean, corrupt, answers, distractors), and
graph.json with scores. Written there: answers.safetensors, times.json, theirs.json, theirs.pt.
Where edges.json (places in their matrix) is there instead of a graph: the metric of the graphs that
lack one of them each, and what these runs took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path[:0] = [os.environ["EAP_IG"] + "/src", os.environ["MIB_TRACK"]]
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.peers.tl2 import load  # noqa: E402

_zeros = torch.zeros


def on_this_device(*args, device=None, **more):
    """Their scores are made on a GPU, whatever the model is on."""
    return _zeros(*args, **more) if device == "cuda" else _zeros(*args, device=device, **more)


torch.zeros = on_this_device

from eap import attribute, evaluate  # noqa: E402
from eap.graph import Graph  # noqa: E402
from MIB_circuit_track import evaluation  # noqa: E402


def evaluated(*args, optimal_ablation_path=None, **more):
    """EAP-IG's evaluation, which MIB's own branch of it gave one more argument."""
    assert optimal_ablation_path is None
    return evaluate.evaluate_graph(*args, **more)


evaluation.evaluate_graph = evaluated


def tokens(_model, rows, _max_length=None):
    """Prompts as token ids, all of one length, in place of text."""
    ids = torch.stack(list(rows))
    mask = torch.ones_like(ids)
    return ids, mask, mask.sum(1), ids.shape[1]


attribute.tokenize_plus = evaluate.tokenize_plus = tokens


def logit_diff(logits, _clean, lengths, labels, *, mean=True, loss=False):
    """Their metric: of the last position, the answer's logit less the distractor's."""
    last = logits[torch.arange(len(logits)), lengths - 1]
    right, wrong = (torch.stack([row[i] for row in labels]) for i in (0, 1))
    rows = torch.arange(len(last))
    found = last[rows, right] - last[rows, wrong]
    found = -found if loss else found
    return found.mean() if mean else found


def batches(asked, size):
    """Clean, corrupt and labels, so many prompts at a time."""
    labels = list(zip(asked["answers"], asked["distractors"], strict=True))
    for i in range(0, len(labels), size):
        yield asked["clean"][i : i + size], asked["corrupt"][i : i + size], labels[i : i + size]


def lacking(folder, model, data):
    """Graphs of all edges but one, run by their evaluation; the first once more, before the clock
    starts."""
    plain, found = partial(logit_diff, mean=False), []
    edges = json.loads((folder / "edges.json").read_text())
    graph, started = Graph.from_model(model), []
    for edge in [edges[0], *edges]:
        started.append(time.perf_counter())
        graph.reset(empty=False)
        graph.in_graph[tuple(edge)] = False
        found.append(evaluate.evaluate_graph(model, graph, data, plain, quiet=True))
    took = time.perf_counter() - started[1]
    save_file({"without": torch.stack(found[1:])}, folder / "answers.safetensors")
    (folder / "times.json").write_text(json.dumps({"without": took}))


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = load(str(folder / "model"), torch.float32)
    model.cfg.use_split_qkv_input = model.cfg.use_attn_result = model.cfg.use_hook_mlp_in = True
    asked = load_file(folder / "asked.safetensors")
    data = list(batches(asked, int(os.environ.get("BATCH", "20"))))
    if (folder / "edges.json").is_file():
        lacking(folder, model, data)
        return
    answers, times = {}, {}
    loss, plain = partial(logit_diff, loss=True), partial(logit_diff, mean=False)
    for name, method, steps in (("eap", "EAP", None), ("eap_ig", "EAP-IG-inputs", 5)):
        graph, start = Graph.from_model(model), time.perf_counter()
        attribute.attribute(model, graph, data, loss, method, ig_steps=steps, quiet=True)
        times[name] = time.perf_counter() - start
        answers[name] = graph.scores.contiguous()
    given = Graph.from_json(folder / "graph.json")
    for name, absolute in (("signed", False), ("by_size", True)):
        start = time.perf_counter()
        counts, cpr, cmd, _, found = evaluation.evaluate_area_under_curve(
            model, given, data, plain, quiet=True, absolute=absolute
        )
        times[name] = time.perf_counter() - start
        answers[name] = torch.tensor([*found, cpr, cmd], dtype=torch.float64)
        answers[f"{name}_counts"] = torch.tensor(counts)
    given.to_json(folder / "theirs.json")
    given.to_pt(folder / "theirs.pt")
    answers["baseline"] = evaluate.evaluate_baseline(model, data, plain)
    save_file(answers, folder / "answers.safetensors")
    (folder / "times.json").write_text(json.dumps(times))


if __name__ == "__main__":
    main()
