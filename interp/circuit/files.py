"""Circuits in files, ours and those of EAP-IG and MIB: text, JSON, and their .pt of tensors, with
the scores of all edges."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from interp.circuit.circuit import Circuit, CircuitError
from interp.circuit.matrix import matrix, places, ports, senders
from minigpt import Config
from minigpt.names import ours, theirs

# What EAP-IG's own reader wants of a .pt file.
KEYS = ("cfg", "src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph")
ENDINGS = (".json", ".pt")
LEGAL = "a .json or .pt file as EAP-IG and MIB write them, or lines 'name mover: a9.9@END'"


def read(path: Path) -> Circuit:
    """A circuit from a file, by its ending: .pt as EAP-IG writes it; text, our JSON or theirs."""
    try:
        if path.suffix == ".pt":
            return _from_pt(torch.load(path, map_location="cpu", weights_only=True))
        return Circuit.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitError(f"{path}: {getattr(error, 'strerror', error)}", LEGAL) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CircuitError(f"{path} holds no tensors: {error}"[:200], LEGAL) from error


def write(circuit: Circuit, config: Config, path: Path) -> None:
    """A circuit of a model of this shape as EAP-IG and MIB read it: .json, or .pt."""
    if path.suffix == ".json":
        path.write_text(json.dumps(circuit.to_eap(config)), encoding="utf-8")
    elif path.suffix == ".pt":
        torch.save(to_pt(circuit, config), path)
    else:
        raise CircuitError(f"{path}", "a name that ends in .json or .pt")


def to_pt(circuit: Circuit, config: Config) -> dict[str, Any]:
    """EAP-IG's tensors: of all edges their scores and whether they are in, [senders, ports]; of all
    senders whether they are."""
    graph = circuit.to_eap(config)
    at, scores = places(config), torch.zeros(len(senders(config)), len(ports(config)))
    for edge, place in at.items():
        scores[place] = graph["edges"][theirs(edge, "eap")]["score"]
    nodes = [theirs(name, "eap") for name in senders(config)]
    return {
        "cfg": graph["cfg"],
        "src_nodes": nodes,
        # A port has a name there only as the end of an edge.
        "dst_nodes": [theirs(f"input>{port}", "eap").partition("->")[2] for port in ports(config)],
        "edges_scores": scores,
        "edges_in_graph": matrix(config, circuit.edges),
        "nodes_in_graph": torch.tensor([graph["nodes"][name]["in_graph"] for name in nodes]),
    }


def _from_pt(data: Any) -> Circuit:
    if not isinstance(data, Mapping) or not set(KEYS) <= set(data):
        given = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise CircuitError(f"a .pt file with {given}"[:200], ", ".join(KEYS))
    layers, heads = data["cfg"]["n_layers"], data["cfg"]["n_heads"]
    config = Config(layers, heads, heads, 1, 1, 1)
    inside, scores = data["edges_in_graph"], data["edges_scores"]
    shape = (len(senders(config)), len(ports(config)))
    if tuple(scores.shape) != shape or tuple(inside.shape) != shape:
        raise CircuitError(f"scores of shape {list(scores.shape)}", f"{list(shape)}")
    if [str(ours(name)) for name in data["src_nodes"]] != list(senders(config)):
        raise CircuitError("senders in another order", ", ".join(senders(config)[:6]) + ", ...")
    at = places(config)
    return Circuit(
        {"circuit": [name for name in _named(data, config) if name != "input"]},
        [edge for edge, place in at.items() if bool(inside[place])],
        {edge: float(scores[place]) for edge, place in at.items()},
        (layers, heads),
    )


def _named(data: Mapping[str, Any], config: Config) -> list[str]:
    inside = data["nodes_in_graph"].tolist()
    return [name for name, kept in zip(senders(config), inside, strict=True) if kept]
