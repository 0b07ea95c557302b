"""A corpus as windows of tokens: each document is cut into pieces that no other document's text is
in; the last piece of a document is as long as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from interp.corpus.documents import CorpusError, Document
from minigpt.shown import Shown
from minigpt.tokenizer import Tokenizer

# A piece of a document that is tokenized at once: a document of megabytes needs no more memory.
PIECE = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Windows(Shown):
    """tokens: of all documents, one after the other, where memory is the disk's; table: a row a
    window: document, number (within it), start (in tokens), length, mark (a checksum of its tokens,
    by which lots are drawn). names: of documents; folder: where all this is kept."""

    tokens: NDArray[np.unsignedinteger]
    table: pd.DataFrame
    names: tuple[str, ...]
    folder: Path

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, window: int) -> Int[Tensor, "pos"]:
        """A window's token ids."""
        start, length = (int(self._columns[name][window]) for name in ("start", "length"))
        return torch.from_numpy(self.tokens[start : start + length].astype(np.int64))

    def mark(self, window: int) -> int:
        """A window's checksum."""
        return int(self._columns["mark"][window])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """How many tokens all windows before each have, and all."""
        return np.concatenate([[0], self._columns["length"].cumsum()])

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.int64]]:
        return {name: self.table[name].to_numpy() for name in ("start", "length", "mark")}


def cut(documents: Iterator[Document], tokenizer: Tokenizer, size: int, folder: Path) -> Windows:
    """Tokenize and cut into windows of `size`; kept in a folder. A document, or a window, that was
    there before is left out. CorpusError where nothing is left."""
    kind = np.uint16 if tokenizer.n_vocab <= 2**16 else np.uint32
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[bytes] = set()
    rows: list[tuple[int, int, int, int, int]] = []
    names: list[str] = []
    start = 0
    with (folder / f"tokens.{np.dtype(kind).name}").open("wb") as out:
        for name, text in documents:
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
            ids = [] if digest in seen else _encoded(tokenizer, text)
            seen.add(digest)
            names.append(name)
            written = np.asarray(ids, dtype=kind)
            for number, first in enumerate(range(0, len(ids), size)):
                piece = written[first : first + size]
                mark = hashlib.sha256(piece.tobytes()).digest()[:16]
                if len(piece) > 1 and mark not in seen:
                    drawn = int.from_bytes(mark[:8], "little", signed=True)
                    rows.append((len(names) - 1, number, start + first, len(piece), drawn))
                seen.add(mark)
            out.write(written.tobytes())
            start += len(ids)
    if not rows:
        raise CorpusError("a corpus without text", "documents of two tokens or more")
    table = pd.DataFrame(rows, columns=["document", "number", "start", "length", "mark"])
    table.to_parquet(folder / "windows.parquet", index=False)
    pd.DataFrame({"name": names}).to_parquet(folder / "documents.parquet", index=False)
    return opened(folder)


def opened(folder: Path) -> Windows:
    """What `cut` kept in a folder."""
    (tokens,) = folder.glob("tokens.uint*")
    return Windows(
        np.memmap(tokens, dtype=tokens.suffix[1:], mode="r"),
        pd.read_parquet(folder / "windows.parquet"),
        tuple(pd.read_parquet(folder / "documents.parquet")["name"]),
        folder,
    )


def _encoded(tokenizer: Tokenizer, text: str) -> Sequence[int]:
    """The ids of a text, of which pieces are read that end at the end of a line."""
    ids: list[int] = []
    for piece in _pieces(text):
        ids += tokenizer.encode(piece)
    return ids


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE)
        line = text.rfind("\n", start, end) + 1
        end = line if end < len(text) and line > start else end
        yield text[start:end]
        start = end
