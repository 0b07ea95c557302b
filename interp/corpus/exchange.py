"""Pages of components as other tools have them: OpenAI's NeuronRecord (Transformer Debugger, neuron
viewer) and Neuronpedia's rows of features and activations; both ways."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from interp.corpus.component import Component, Example
from interp.corpus.documents import CorpusError
from interp.corpus.moments import EDGES, histogram
from interp.corpus.says import Says
from minigpt.address import Site
from minigpt.names import parse

RECORD = "NeuronRecord"
MOMENTS = ("mean", "variance", "skewness", "kurtosis")


def record(component: Component) -> dict[str, Any]:
    """A component as OpenAI's NeuronRecord: its moments, its largest windows, those at random, and
    these by tenths. What each window has is what the store kept of it, around its largest token."""
    site = parse(component.address).site
    drawn = [
        _sequence(example) for example in sorted(component.of("sample"), key=lambda each: each.rank)
    ]
    tenths = component.deciles[::-1]  # theirs from the smallest
    return {
        "dataclass_name": RECORD,
        "neuron_id": {
            "dataclass_name": "NeuronId",
            "layer_index": site.depth,
            "neuron_index": site.part or 0,
        },
        "random_sample": drawn,
        "random_sample_by_quantile": [[_sequence(each) for each in part] for part in tenths],
        "quantile_boundaries": [min(each.value for each in part) for part in tenths],
        "mean": component.mean,
        "variance": component.variance,
        "skewness": component.skewness,
        "kurtosis": component.kurtosis,
        "most_positive_activation_records": [_sequence(each) for each in component.of("top")],
    }


def from_record(plain: Any, kind: str = "m{layer}.n{index}") -> Component:
    """A component from a NeuronRecord; kind: how it is called here, "a{layer}.{index}" of a head,
    "m{layer}.l{index}" of a latent. Its counts and ends are of the windows that it has.

    Raises CorpusError for what is none.
    """
    if not isinstance(plain, Mapping) or plain.get("dataclass_name") != RECORD:
        raise CorpusError("no NeuronRecord", f"an object with dataclass_name {RECORD!r}")
    try:
        top = _examples(plain["most_positive_activation_records"], "top")
        drawn = _examples(plain.get("random_sample") or [], "sample")
        place = plain["neuron_id"]
        name = kind.format(layer=place["layer_index"], index=place["neuron_index"])
        moments = {each: _number(plain.get(each)) for each in MOMENTS}
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f"a NeuronRecord with {type(error).__name__}: {error}",
            "neuron_id and most_positive_activation_records of tokens and activations",
        ) from error
    return _component(name, (*top, *drawn), moments)


def feature(component: Component, says: Says, source: str) -> dict[str, Any]:
    """A component as Neuronpedia's row of a feature; source: the name of what it is one of."""
    site = parse(component.address).site
    up, down = (says.lists.get(name, ()) for name in ("promotes", "suppresses"))
    counted = [(low, n) for (low, _), n in zip(_bounds(), component.counts, strict=True) if n]
    return {
        "layer": source,
        "index": str(site.part or 0),
        "pos_str": [token for token, _ in up],
        "pos_values": [value for _, value in up],
        "neg_str": [token for token, _ in down],
        "neg_values": [value for _, value in down],
        "frac_nonzero": component.positive,
        "maxActApprox": component.most,
        "freq_hist_data_bar_values": [low for low, _ in counted],
        "freq_hist_data_bar_heights": [n for _, n in counted],
    }


def activations(component: Component, source: str) -> Iterator[dict[str, Any]]:
    """Its windows as Neuronpedia's rows of activations: the largest, then those by tenths, each
    with the bounds and the share of its tenth."""
    site = parse(component.address).site
    parts = [component.of("top"), *component.deciles]
    share = 1 / max(1, len(component.deciles))
    for number, part in enumerate(parts):
        low, high = min(each.value for each in part), max(each.value for each in part)
        for example in part:
            tokens, values = _window(example)
            yield {
                "layer": source,
                "index": str(site.part or 0),
                "tokens": tokens,
                "values": values,
                "maxValue": max(values),
                "maxValueTokenIndex": values.index(max(values)),
                "minValue": min(values),
                "binMin": low,
                "binMax": high,
                "binContains": share if number else 0.0,
                "qualifyingTokenIndex": example.at - example.first,
            }


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object a line, pressed where the name ends in .gz."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(path: Path) -> list[Any]:
    """The objects of such a file. CorpusError where it is none."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
        legal = "a JSON object a line, .jsonl or .jsonl.gz"
        raise CorpusError(f"{path}: {error}", legal) from error


def from_activations(rows: Sequence[Mapping[str, Any]], name: str) -> Component:
    """A component from Neuronpedia's rows of activations: those of no bin are its largest windows,
    the others those at random. CorpusError where a row lacks what a window has."""
    try:
        tops = [row for row in rows if not row.get("binContains")]
        drawn = [row for row in rows if row.get("binContains")]
        top, sample = (
            _examples([{"tokens": r["tokens"], "activations": r["values"]} for r in some], kind)
            for some, kind in ((tops, "top"), (drawn, "sample"))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f"a row of activations with {type(error).__name__}: {error}", "tokens and values"
        ) from error
    if not (top or sample):
        raise CorpusError("no activations", "rows with tokens and values")
    return _component(name, (*top, *sample), dict.fromkeys(MOMENTS, math.nan))


def source_of(site: Site) -> str:
    """What Neuronpedia calls the layer that a component is one of: "3-mlp", "3-att"."""
    return f"{site.depth}-{'att' if site.kind.startswith('attn') else 'mlp'}"


def _component(name: str, examples: tuple[Example, ...], moments: Mapping[str, float]) -> Component:
    """With the counts and the ends of the windows that it has."""
    values = [value for example in examples for value in example.acts]
    counts, most = _counts(values), max(values, default=0.0)
    spread = {**moments, "least": min(values, default=0.0), "most": most}
    return Component(name, len(values), **spread, counts=counts, attends={}, examples=examples)


def _sequence(example: Example) -> dict[str, Any]:
    tokens, values = _window(example)
    return {"dataclass_name": "ActivationRecord", "tokens": tokens, "activations": values}


def _window(example: Example) -> tuple[list[str], list[float]]:
    """The tokens of which something is known, and what."""
    last = example.first + len(example.acts)
    return list(example.tokens[example.first : last]), list(example.acts)


def _examples(sequences: Sequence[Mapping[str, Any]], kind: str) -> tuple[Example, ...]:
    return tuple(_example(row, kind, rank) for rank, row in enumerate(sequences))


def _example(row: Mapping[str, Any], kind: str, rank: int) -> Example:
    tokens, acts = tuple(map(str, row["tokens"])), tuple(map(float, row["activations"]))
    if len(tokens) != len(acts) or not tokens:
        raise ValueError(f"{len(tokens)} tokens and {len(acts)} activations")
    at, name = acts.index(max(acts)), f"{kind} {rank}"
    return Example(kind, rank, acts[at], name, 0, rank, at, None, tokens, 0, acts)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _bounds() -> Iterator[tuple[float, float]]:
    return pairwise([-math.inf, *EDGES, math.inf])


def _counts(values: Sequence[float]) -> tuple[int, ...]:
    return tuple(histogram(torch.tensor(values, dtype=torch.float32)[:, None])[0].tolist())
