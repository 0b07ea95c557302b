"""A store's tables as what a pass knows: its statistics, and what was kept of each component."""

from __future__ import annotations

import json

import numpy as np
import torch
from jaxtyping import Float, Int
from pyarrow import parquet
from torch import Tensor

from interp.corpus.attends import SCORES, Attends
from interp.corpus.best import SPAN, Best, keys, ranks
from interp.corpus.measure import KINDS, lots
from interp.corpus.moments import Moments
from interp.corpus.store import Store
from interp.corpus.writing import HEAD, QUERIES


def moments(store: Store) -> Moments:
    """The sums that its statistics are of."""
    names = ("count", "mean", "variance", "skewness", "kurtosis", "least", "most", "counts")
    rows = store.table("components", names, range(len(store)))
    known = {name: torch.from_numpy(rows[name]) for name in names[1:-1]}
    n, variance = int(rows["count"][0]), known["variance"]
    return Moments(
        n,
        known["mean"],
        n * variance,
        n * variance**1.5 * known["skewness"],
        n * variance**2 * known["kurtosis"],
        torch.from_numpy(np.stack(rows["counts"])),
        known["least"],
        known["most"],
    )


def attends(store: Store) -> Attends:
    """The sums that its heads' scores are of."""
    rows = store.table("components", SCORES, range(len(store)))
    every = torch.from_numpy(np.stack([rows[name] for name in SCORES], 1))
    heads = [HEAD.fullmatch(address) for address in store.addresses]
    found = [(int(head[1]), int(head[2]), i) for i, head in enumerate(heads) if head]
    said = parquet.read_schema(store.folder / "components.parquet").metadata
    counts = torch.tensor(json.loads(said[QUERIES.encode()]), dtype=torch.float64)
    shape = max(head[0] for head in found) + 1, max(head[1] for head in found) + 1, len(SCORES)
    sums = torch.zeros(shape, dtype=torch.float64)
    for layer, head, row in found:
        sums[layer, head] = every[row].nan_to_num(0.0) * counts
    return Attends(sums, counts)


def best(store: Store, part: range) -> dict[str, Best]:
    """What was kept of some components, by kind; the keys made anew."""
    names = ("component", "kind", "rank", "value", "window", "at", "source", "first", "acts")
    rows = store.table("records", names, part)
    settings, number, found = store.manifest["settings"], rows["component"] - part.start, {}
    for i, kind in enumerate(KINDS):
        here = rows["kind"] == i
        made = Best.none(len(part), settings[kind])
        places = (number, rows["rank"], rows["window"])
        row, slot, window = (torch.from_numpy(x[here].astype(np.int64)) for x in places)
        for name in ("value", "at", "source", "first"):
            x = getattr(made, name)
            x[row, slot] = torch.from_numpy(rows[name][here]).to(x.dtype)
        acts = np.frombuffer(b"".join(rows["acts"][here]), dtype=np.float16)
        made.acts[row, slot] = torch.from_numpy(acts.copy()).view(-1, SPAN)
        key = _keys(store, kind, made.value[row, slot], window, row + part.start)
        made.rank[row, slot] = ranks(key, window)
        found[kind] = made
    return found


def _keys(
    store: Store,
    kind: str,
    value: Float[Tensor, "m"],
    window: Int[Tensor, "m"],
    component: Int[Tensor, "m"],
) -> Int[Tensor, "m"]:
    """What windows are kept by."""
    if kind != "sample":
        return keys(value if kind == "top" else -value)
    marks = torch.tensor(store.windows.table["mark"].to_numpy())[window]
    return lots(store.manifest["settings"]["seed"], marks, component)
