"""What was found, as tables: parquet, sorted by component, so that a query reads the rows of one
alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped
from pyarrow import parquet
from torch import Tensor

from interp.corpus.attends import SCORES, Attends
from interp.corpus.best import FREE, SPAN, Best
from interp.corpus.measure import KINDS, Found
from interp.corpus.moments import Moments
from interp.corpus.windows import Windows
from interp.executor import replaced

# Components of a row group.
GROUP = 1024
HEAD = re.compile(r"a(\d+)\.(\d+)")
# Where the table of components says how many queries each score is a mean of.
QUERIES = "queries"
# What was kept of some components, by kind, and the number of the first.
Records = tuple[int, dict[str, Best]]
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


def write(
    moments: Moments,
    attends: Attends,
    addresses: Sequence[str],
    records: Iterator[Records],
    windows: Windows,
    folder: Path,
) -> None:
    """The tables of components and of records. records: by the number of its first component, what
    was kept of some that follow one another."""
    table = _components(moments, attends, addresses)
    replaced(
        folder / "components.parquet",
        lambda path: parquet.write_table(table, path, compression="zstd", row_group_size=4 * GROUP),
    )
    replaced(folder / "records.parquet", lambda path: _records(records, windows, path))


def parts(n: int) -> Iterator[range]:
    """Components whose records are written together."""
    return (range(start, min(start + GROUP, n)) for start in range(0, n, GROUP))


def kept(found: Found) -> Iterator[Records]:
    """What a pass kept."""
    for part in parts(len(found.moments.mean)):
        rows = slice(part.start, part.stop)
        yield part.start, {kind: best.part(rows).ordered for kind, best in found.best.items()}


def manifest(folder: Path, said: dict[str, Any]) -> None:
    """What a store is of, and what it was made with."""
    text = json.dumps(said, indent=1)
    replaced(folder / "manifest.json", lambda path: path.write_text(text, encoding="utf-8"))


def finished(folder: Path) -> None:
    """Checksums of a store's files, in its manifest."""
    path = folder / "manifest.json"
    files = {each: checksum(folder / each) for each in names(folder)}
    manifest(folder, {**json.loads(path.read_text("utf-8")), "files": files})


def names(folder: Path) -> list[str]:
    """A store's files that never change once it is finished."""
    every = ("tokens.uint*", "windows.parquet", "documents.parquet", "components.parquet")
    found = [
        path for each in (*every, "records.parquet", "dense/*.npy") for path in folder.glob(each)
    ]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def checksum(path: Path) -> str:
    """SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _components(m: Moments, attends: Attends, addresses: Sequence[str]) -> pa.Table:
    columns = {
        "component": np.arange(len(addresses), dtype=np.int32),
        "address": addresses,
        "count": np.full(len(addresses), m.count),
        **{
            name: getattr(m, name).numpy()
            for name in ("mean", "variance", "skewness", "kurtosis", "least", "most")
        },
        "counts": list(m.counts.numpy()),
        **_scores(attends, addresses),
    }
    counts = json.dumps(attends.counts.tolist())
    return pa.table(columns).replace_schema_metadata({QUERIES: counts})


def _scores(attends: Attends, addresses: Sequence[str]) -> dict[str, Any]:
    """Of heads what they attend to; of others nothing."""
    scores = np.full((len(addresses), len(SCORES)), np.nan)
    means = attends.means.numpy()
    for number, address in enumerate(addresses):
        if head := HEAD.fullmatch(address):
            scores[number] = means[int(head[1]), int(head[2])]
    return {name: scores[:, i] for i, name in enumerate(SCORES)}


def _records(records: Iterator[Records], windows: Windows, path: Path) -> None:
    with parquet.ParquetWriter(path, RECORDS, compression="zstd") as out:
        for start, best in records:
            tables = [_table(kind, each, start, windows) for kind, each in best.items()]
            whole = pa.concat_tables(tables).sort_by(
                [("component", "ascending"), ("kind", "ascending"), ("rank", "ascending")]
            )
            out.write_table(whole, row_group_size=max(1, len(whole)))


def _table(kind: str, best: Best, start: int, windows: Windows) -> pa.Table:
    """The records of one kind of some components, those that there are."""
    n, k = best.rank.shape
    kept = (best.rank != FREE).flatten().numpy()
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
