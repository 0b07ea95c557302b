"""Feature graphs as the JSON that Neuronpedia and circuit-tracer draw and write.

Ids there: a latent "3_127_5" (layer, number, position), an error "0_3_5" (written here as
"0_3_5_error" where a latent of layer 0 is called so), a token "E_464_5", an output "13_5335_14"
(one layer more than there are MLPs). They know no heads: ours are "A2_6_13", of a type of their
own. Their links are linear weights; so are ours, the exact ones beside them as "exact".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.features.graph import OUT, Edge, FeatureGraph, Node
from interp.features.influence import influence
from minigpt import parse
from minigpt.errors import MiniGPTError

KINDS = {
    "latent": "cross layer transcoder",
    "head": "attention head",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "out": "logit",
}
RECEIVERS = ("latent", "head", "out")
OURS = {theirs: ours for ours, theirs in KINDS.items()}


class GraphFileError(MiniGPTError):
    """A file that is no feature graph."""


def to_json(graph: FeatureGraph, slug: str, *, layers: int, answer: int, scan: str = "") -> Any:
    """The graph as plain values for the file's JSON. slug: its name there; scan: the name of the
    dictionaries; layers: of the model; answer: the token whose logit is asked about."""
    names = {node.address: _id(graph, node, layers, answer) for node in graph.nodes}
    shares = _influences(graph)
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": [],
            "prompt_tokens": list(graph.tokens),
            "prompt": graph.prompt,
            "node_threshold": None,
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": [
            _node(graph, node, names[node.address], shares.get(node.address), answer)
            for node in graph.nodes
        ],
        "links": [
            {
                "source": names[edge.sender],
                "target": names[edge.receiver],
                "weight": edge.linear,
                "exact": edge.exact,
            }
            for edge in graph.edges
        ],
    }


def save(
    graph: FeatureGraph, path: str | Path, *, layers: int, answer: int, scan: str = ""
) -> None:
    """Write it as a file, named for its slug."""
    plain = to_json(graph, Path(path).stem, layers=layers, answer=answer, scan=scan)
    Path(path).write_text(json.dumps(plain, indent=1), encoding="utf-8")


def load(path: str | Path) -> FeatureGraph:
    """A graph from a file of either. GraphFileError where it is none."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GraphFileError(f"'{path}' is no JSON: {error}", "a graph's JSON") from error
    return from_json(plain)


def from_json(plain: Any) -> FeatureGraph:
    """A graph from the plain values of such a file; several outputs are out, out.2, ..."""
    if not isinstance(plain, Mapping) or not {"metadata", "nodes", "links"} <= plain.keys():
        raise GraphFileError(
            "no feature graph", "an object with metadata, nodes and links, as circuit-tracer writes"
        )
    try:
        return _graph(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GraphFileError(
            f"a graph with {type(error).__name__}: {error}",
            "nodes with node_id, feature_type, ctx_idx; links with source, target, weight",
        ) from error


def _graph(plain: Mapping[str, Any]) -> FeatureGraph:
    tokens = tuple(plain["metadata"]["prompt_tokens"])
    outs = [node["node_id"] for node in plain["nodes"] if node["feature_type"] == "logit"]
    addresses = [_address(node, outs) for node in plain["nodes"]]
    names = _by_id(plain["nodes"], addresses)
    ids = {n["ctx_idx"]: int(n["node_id"].split("_")[1]) for n in plain["nodes"] if _is_token(n)}
    active = sum(node["feature_type"] == KINDS["latent"] for node in plain["nodes"])
    return FeatureGraph(
        plain["metadata"]["prompt"],
        tokens,
        tuple(ids.get(at, -1) for at in range(len(tokens))),
        next((n.get("clerp", "") for n in plain["nodes"] if n["node_id"] in outs), ""),
        None,
        tuple(
            Node(address, _token(node, tokens), node.get("activation"))
            for address, node in zip(addresses, plain["nodes"], strict=True)
        ),
        tuple(_edges(plain["links"], names)),
        active,
        active,
        None,
        None,
    )


def _by_id(
    nodes: Sequence[Mapping[str, Any]], addresses: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Our names by theirs, the latent first where an error has the same."""
    found: dict[str, tuple[str, ...]] = {}
    for node, address in zip(nodes, addresses, strict=True):
        found[node["node_id"]] = (*found.get(node["node_id"], ()), address)
    return {name: tuple(sorted(both, key=_is_error)) for name, both in found.items()}


def _is_error(address: str) -> bool:
    return ".e@" in address


def _edges(
    links: Sequence[Mapping[str, Any]], names: Mapping[str, tuple[str, ...]]
) -> Iterator[Edge]:
    """The links by our names. Of two from the same name to the same node the first is the
    latent's, as they are written; nothing leads to an error."""
    seen: Counter[tuple[str, str]] = Counter()
    for link in links:
        ends = link["source"], link["target"]
        sender = names[ends[0]][min(seen[ends], len(names[ends[0]]) - 1)]
        seen[ends] += 1
        yield Edge(sender, names[ends[1]][0], link.get("exact"), link["weight"])


def _is_token(node: Mapping[str, Any]) -> bool:
    return bool(node["feature_type"] == KINDS["token"])


def _token(node: Mapping[str, Any], tokens: Sequence[str]) -> str:
    return "" if node["feature_type"] == "logit" else tokens[node["ctx_idx"]]


def _address(node: Mapping[str, Any], outs: Sequence[str]) -> str:
    """Our name for a node of theirs."""
    kind, at = OURS[node["feature_type"]], node["ctx_idx"]
    if kind == "out":
        place = outs.index(node["node_id"])
        return f"{OUT}.{place + 1}" if place else OUT
    if kind == "token":
        return f"emb@{at}"
    if kind == "error":
        return f"m{node['layer']}.e@{at}"
    if kind == "head":
        return f"a{node['layer']}.{node['node_id'].split('_')[1]}@{at}"
    return f"m{node['layer']}.l{node['node_id'].split('_')[1]}@{at}"


def _id(graph: FeatureGraph, node: Node, layers: int, answer: int) -> str:
    """Their name for a node of ours."""
    if node.kind == "out":
        return f"{layers + 1}_{answer}_{len(graph.tokens) - 1}"
    address = parse(node.address)
    assert isinstance(address.at, int)
    if node.kind == "token":
        return f"E_{graph.token_ids[address.at]}_{address.at}"
    if node.kind in ("latent", "head"):
        sign = "A" if node.kind == "head" else ""
        return f"{sign}{address.site.layer}_{address.site.part}_{address.at}"
    same = f"m0.l{address.site.layer}@{address.at}"  # whose id would be the same
    clash = any(other.address == same for other in graph.nodes)
    return f"0_{address.site.layer}_{address.at}" + "_error" * clash


def _node(
    graph: FeatureGraph, node: Node, name: str, share: float | None, answer: int
) -> dict[str, Any]:
    layer, number, at = name.split("_")[:3]
    last = node.kind == "out"
    features = {"error": -1, "token": int(at), "out": answer, "head": int(number)}
    if node.kind == "latent":
        features["latent"] = _paired(int(layer), int(number))
    return {
        "node_id": name,
        "feature": features[node.kind],
        "layer": number if node.kind == "error" else layer.removeprefix("A"),
        "ctx_idx": int(at),
        "feature_type": KINDS[node.kind],
        "token_prob": 0.0,
        "is_target_logit": last,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"L_{number}-{at}" if last else f"{layer}_{number}-{at}",
        "clerp": graph.asked if last else "",
        "influence": share,
        "activation": node.activation,
    }


def _paired(layer: int, number: int) -> int:
    """Both as one number, as Cantor did."""
    return (layer + number) * (layer + number + 1) // 2 + number


def _influences(graph: FeatureGraph) -> dict[str, float]:
    """The share of all influence that a node and the larger ones have together, as the files have
    it."""
    senders = [node.address for node in graph.nodes if node.address != OUT]
    receivers = [node.address for node in graph.nodes if node.kind in RECEIVERS]
    found = influence(senders, receivers, graph.weights(senders, receivers))
    order = found.argsort(descending=True, stable=True).tolist()
    shares = found[order].cumsum(0) / found.sum()
    return {senders[i]: float(share) for i, share in zip(order, shares, strict=True)}
