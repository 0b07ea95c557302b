"""A store: a corpus and what every component did on it, as it is read. Queries are DuckDB's, over
parquet files of which only a component's own rows are touched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from interp.corpus.attends import SCORES
from interp.corpus.best import SPAN
from interp.corpus.component import Component, Example
from interp.corpus.documents import CorpusError
from interp.corpus.measure import KINDS
from interp.corpus.windows import Windows, opened
from minigpt.errors import AddressError
from minigpt.tokenizer import Tokenizer

FILES = ("manifest.json", "components.parquet", "records.parquet", "windows.parquet")
COLUMNS = 'kind, rank, value, "window", "at", source, first, acts'
STATISTICS = ("mean", "variance", "skewness", "kurtosis", "least", "most")
# What a search by statistics may say.
WORDS = rf"(?:{'|'.join((*STATISTICS, *SCORES))}|and|or|not|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|[<>=()]+)"


class Store:
    """The store in a folder; words: the tokenizer that its windows are shown with.

    Raises CorpusError where there is none, or one that is not finished.
    """

    def __init__(self, folder: str | Path, words: Tokenizer) -> None:
        self.folder, self.words = Path(folder), words
        lacking = [name for name in FILES if not (self.folder / name).is_file()]
        if lacking:
            raise CorpusError(
                f"{folder} is no finished store: {', '.join(lacking)} is not there",
                "a folder that `interp collate` finished",
                "interp collate CORPUS --out FOLDER",
            )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What it is of: model, corpus, settings, versions."""
        found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        return found

    @cached_property
    def windows(self) -> Windows:
        """Its corpus."""
        return opened(self.folder)

    def component(self, address: str) -> Component:
        """A component's page. AddressError where it is not in the store."""
        number = self.number(address)
        names = ", ".join(("count", *STATISTICS, "counts", *SCORES))
        (row,) = self.ask(f"select {names} from components where component = ?", number)
        attends = dict(zip(SCORES, row[8:], strict=True))
        known = {name: score for name, score in attends.items() if score == score}
        spread = dict(zip(("count", *STATISTICS), row, strict=False))
        examples = tuple(self.examples(number))
        return Component(address, **spread, counts=tuple(row[7]), attends=known, examples=examples)

    def number(self, address: str) -> int:
        """A component's number."""
        found = self.ask("select component from components where address = ?", address)
        if not found:
            some = [name for (name,) in self.ask("select address from components limit 3")]
            raise AddressError(
                f"'{address}' is no component of {self.folder}",
                f"a head, a neuron or a latent that was there when it was made: {', '.join(some)}",
            )
        return int(found[0][0])

    def examples(self, number: int) -> Iterator[Example]:
        """The windows of a component: the largest, the smallest, and those at random."""
        order = "kind, rank"
        rows = self.ask(
            f"select {COLUMNS} from records where component = ? order by {order}", number
        )
        return (self._example(*row) for row in rows)

    def find(self, token: str = "", where: str = "", k: int = 20) -> list[tuple[str, float]]:
        """Components by what is searched for, the best first: those with most of their largest
        numbers at a token, and the share of them that is; or those whose statistics say so
        ("kurtosis > 50 and mean < 0"), by kurtosis. Both together, where both are given.

        Raises CorpusError for what is no such condition, PromptError for no token.
        """
        wrong = re.sub(rf"\s|{WORDS}", "", where)
        if wrong:
            raise CorpusError(
                f"where {where!r}", f"comparisons of {', '.join((*STATISTICS, *SCORES))}"
            )
        ours = f"({where})" if where else "true"
        if not token:
            by = f"from components where {ours} order by kurtosis desc, component limit ?"
            return self.ask(f"select address, kurtosis {by}", k)
        there = "avg((token = ?)::int) as share from records where kind = 0 group by component"
        return self.ask(
            f"select address, share from (select component, {there}) join components using "
            f"(component) where share > 0 and {ours} order by share desc, component limit ?",
            self.words.single(token),
            k,
        )

    def alike(self, address: str, k: int = 10) -> list[tuple[str, float]]:
        """Components that are large in the same windows, and in how many of the top ones."""
        number = self.number(address)
        mine = 'select "window" from records where kind = 0 and component = ?'
        return self.ask(
            f"""select address, n / (select count(*) from ({mine})) from (
                select component, count(*) as n from records
                where kind = 0 and "window" in ({mine}) and component != ? group by component
            ) join components using (component) order by n desc, component limit ?""",
            number,
            number,
            number,
            k,
        )

    @property
    def name(self) -> str:
        """What its corpus is called."""
        read = [*self.manifest["corpus"]]
        return read[0] if len(read) == 1 else f"{len(read)} texts"

    @property
    def said(self) -> dict[str, Any]:
        """What it is of, in a few words."""
        kept = ("model", "documents", "windows", "tokens")
        size = sum(path.stat().st_size for path in self.folder.iterdir())
        ((components, first),) = self.ask(
            "select count(*), min_by(address, component) from components"
        )
        return {
            **{name: self.manifest[name] for name in kept},
            "components": components,
            "megabytes": round(size / 1e6, 1),
            "settings": self.manifest["settings"],
            "for example": first,
        }

    def ask(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        """The rows of a query over the tables components, records, windows, documents."""
        found: list[tuple[Any, ...]] = self._tables.execute(query, list(given)).fetchall()
        return found

    @cached_property
    def _tables(self) -> duckdb.DuckDBPyConnection:
        opened = duckdb.connect()
        opened.execute("set threads = 2; set enable_progress_bar = false")
        for path in sorted(self.folder.glob("*.parquet")):
            place = str(path).replace("'", "''")
            opened.execute(f"create view {path.stem} as from read_parquet('{place}')")
        return opened

    def _example(
        self,
        kind: int,
        rank: int,
        value: float,
        window: int,
        at: int,
        source: int,
        first: int,
        acts: bytes,
    ) -> Example:
        ids = self.windows[window].tolist()
        row = self.windows.table.iloc[window]
        did = np.frombuffer(acts, dtype=np.float16, count=SPAN)[: len(ids) - first]
        return Example(
            KINDS[kind],
            rank,
            value,
            self.windows.names[row.document],
            int(row.number),
            window,
            at,
            None if source < 0 else source,
            tuple(self.words.pieces(ids)),
            first,
            tuple(did.astype(float).tolist()),
        )
