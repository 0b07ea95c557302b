"""What was found, as tables: parquet, sorted by component, so that a query reads the rows of one
alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Shaped
from pyarrow import parquet
from torch import Tensor

from interp.corpus.attends import SCORES
from interp.corpus.best import SPAN, Best
from interp.corpus.groups import Group, offsets
from interp.corpus.measure import KINDS, Found
from interp.corpus.windows import Windows

# Components of a row group.
GROUP = 1024
RECORDS = pa.schema(
    [
        ("component", pa.int32()),
        ("kind", pa.int8()),  # its place in KINDS
        ("rank", pa.int16()),
        ("value", pa.float32()),
        ("window", pa.int32()),
        ("at", pa.int16()),
        ("source", pa.int16()),
        ("token", pa.int32()),
        ("first", pa.int16()),
        ("acts", pa.binary(2 * SPAN)),
    ]
)


def write(found: Found, groups: tuple[Group, ...], windows: Windows, folder: Path) -> None:
    """The tables of components and of records."""
    _replaced(folder / "components.parquet", lambda path: _components(found, groups, path))
    _replaced(folder / "records.parquet", lambda path: _records(found, windows, path))


def manifest(folder: Path, said: dict[str, Any]) -> None:
    """What a store is of, and what it was made with."""
    text = json.dumps(said, indent=1)
    _replaced(folder / "manifest.json", lambda path: path.write_text(text, encoding="utf-8"))


def _replaced(path: Path, made: Any) -> None:
    """A file that is whole, or not there."""
    new = path.with_name(path.name + ".new")
    made(new)
    new.replace(path)


def _components(found: Found, groups: tuple[Group, ...], path: Path) -> None:
    m = found.moments
    addresses = [address for group in groups for address in group.addresses]
    columns = {
        "component": np.arange(len(addresses), dtype=np.int32),
        "address": addresses,
        "count": np.full(len(addresses), m.count),
        **{
            name: getattr(m, name).numpy()
            for name in ("mean", "variance", "skewness", "kurtosis", "least", "most")
        },
        "counts": list(m.counts.numpy()),
        **_scores(found, groups, len(addresses)),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd", row_group_size=4 * GROUP)


def _scores(found: Found, groups: tuple[Group, ...], n: int) -> dict[str, Any]:
    """Of heads what they attend to; of others nothing."""
    scores = np.full((n, len(SCORES)), np.nan)
    starts, means = offsets(groups), found.attends.means.numpy()
    layers = iter(means)
    for group in groups:
        if group.is_heads:
            scores[starts[group.name] : starts[group.name] + group.n] = next(layers)
    return {name: scores[:, i] for i, name in enumerate(SCORES)}


def _records(found: Found, windows: Windows, path: Path) -> None:
    n = len(found.moments.mean)
    with parquet.ParquetWriter(path, RECORDS, compression="zstd") as out:
        for start in range(0, n, GROUP):
            rows = slice(start, min(start + GROUP, n))
            tables = [
                _table(kind, best.part(rows).ordered, start, windows) for kind, best in _kept(found)
            ]
            whole = pa.concat_tables(tables).sort_by(
                [("component", "ascending"), ("kind", "ascending"), ("rank", "ascending")]
            )
            out.write_table(whole, row_group_size=len(whole))


def _kept(found: Found) -> Iterator[tuple[str, Best]]:
    return iter(found.best.items())


def _table(kind: str, best: Best, start: int, windows: Windows) -> pa.Table:
    """The records of one kind of some components, those that there are."""
    n, k = best.key.shape
    kept = (best.key > -torch.inf).flatten().numpy()
    component = np.repeat(np.arange(start, start + n, dtype=np.int32), k)
    rank = np.tile(np.arange(k, dtype=np.int16), n)
    tokens = _tokens(best, windows)
    acts = best.acts.reshape(-1, SPAN).numpy()[kept]
    columns = {
        "component": component[kept],
        "kind": np.full(int(kept.sum()), KINDS.index(kind), np.int8),
        "rank": rank[kept],
        "value": _flat(best.value, kept),
        "window": _flat(best.window, kept).astype(np.int32),
        "at": _flat(best.at, kept),
        "source": _flat(best.source, kept),
        "token": tokens[kept],
        "first": _flat(best.first, kept),
        "acts": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(2 * SPAN), len(acts), [None, pa.py_buffer(np.ascontiguousarray(acts))]
        ),
    }
    return pa.table(columns, schema=RECORDS)


def _tokens(best: Best, windows: Windows) -> np.ndarray:
    """The token at which each record's number was."""
    starts = windows.table["start"].to_numpy()
    window = best.window.flatten().clamp(max=len(starts) - 1).numpy()
    places = starts[window] + best.at.flatten().clamp(min=0).numpy().astype(np.int64)
    found: np.ndarray = windows.tokens[places.clip(max=len(windows.tokens) - 1)].astype(np.int32)
    return found


def _flat(x: Shaped[Tensor, "n k"], kept: np.ndarray) -> np.ndarray:
    found: np.ndarray = x.flatten().numpy()[kept]
    return found
