"""A store: a corpus and what every component did on it, as it is read. Queries are DuckDB's, over
parquet files of which only a component's own rows are touched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from interp.corpus import dense
from interp.corpus.attends import SCORES
from interp.corpus.best import SPAN
from interp.corpus.component import Component, Example
from interp.corpus.documents import CorpusError
from interp.corpus.measure import KINDS
from interp.corpus.windows import Windows, opened
from minigpt.errors import AddressError
from minigpt.tokenizer import Tokenizer

# Changes where what stands in a store does.
FORMAT = 2
EXPLANATIONS = "explanations.parquet"
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
        self._tables: set[Path] = set()
        lacking = [name for name in FILES if not (self.folder / name).is_file()]
        if lacking:
            raise CorpusError(
                f"{folder} is no finished store: {', '.join(lacking)} is not there",
                "a folder that `interp collate` finished",
                "interp collate CORPUS --out FOLDER",
            )

    def __repr__(self) -> str:
        tokens, documents = (self.manifest[name] for name in ("tokens", "documents"))
        return f"Store({self.folder.name}: {tokens:,} tokens of {documents:,} documents)"

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
        (found,) = self.between(number, number + 1)
        return found

    def between(self, start: int, stop: int) -> Iterator[Component]:
        """The pages of components by their numbers."""
        names = ", ".join(("address", "count", *STATISTICS, "counts", *SCORES))
        which = "where component >= ? and component < ? order by component"
        known = self.ask(f"select {names} from components {which}", start, stop)
        rows = self.ask(
            f"select component, {COLUMNS} from records {which}, kind, rank", start, stop
        )
        examples: dict[int, list[Example]] = {}
        for number, *kept in rows:
            examples.setdefault(number, []).append(self._example(*kept))
        for number, row in enumerate(known, start):
            yield _component(row, examples.get(number, []))

    def __len__(self) -> int:
        """How many components it has."""
        return int(self.ask("select count(*) from components")[0][0])

    @cached_property
    def addresses(self) -> list[str]:
        """Its components, in their order."""
        return [name for (name,) in self.ask("select address from components order by component")]

    def table(self, name: str, columns: Sequence[str], part: range) -> dict[str, Any]:
        """Columns of a table as arrays, of some components by their numbers."""
        which = f"component >= {part.start} and component < {part.stop} order by component"
        chosen = ", ".join(f'"{column}"' for column in columns)
        found = self._query(f"select {chosen} from {name} where {which}", ())
        return {key: np.ma.getdata(x) for key, x in found.fetchnumpy().items()}

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

    def find(
        self, token: str = "", where: str = "", words: str = "", k: int = 20
    ) -> list[tuple[str, float]]:
        """Components by what is searched for, the best first: those with most of their largest
        numbers at a token, by the share of them that is; those whose explanation has all these
        words, by how well it simulates; those whose statistics say so ("kurtosis > 50 and mean <
        0"), by kurtosis. Together, those of which all of it is true, by the first.

        Raises CorpusError for what is no such condition, and for words where nothing is explained
        yet; PromptError for no token.
        """
        wrong = re.sub(rf"\s|{WORDS}", "", where)
        if wrong:
            raise CorpusError(
                f"where {where!r}", f"comparisons of {', '.join((*STATISTICS, *SCORES))}"
            )
        said, by, source = words.lower().split(), "kurtosis", "components"
        conditions, given = [f"({where})" if where else "true"], list[object]()
        if said:
            self._explained()
            by, source = "simulation", f"{source} join explanations using (component, address)"
        if token:
            share = "avg((token = ?)::int) as share from records where kind = 0 group by component"
            by, source = "share", f"{source} join (select component, {share}) using (component)"
            conditions.append("share > 0")
            given.append(self.words.single(token))
        conditions += ["contains(lower(sentence), ?)"] * len(said)
        order = f"order by {by} desc, component limit ?"
        return self.ask(
            f"select address, {by} from {source} where {' and '.join(conditions)} {order}",
            *given,
            *said,
            k,
        )

    def sentence(self, address: str) -> str:
        """What explains a component, where the store's explanations are made; "" elsewhere."""
        return self.sentences([address]).get(address, "")

    def sentences(self, addresses: Sequence[str]) -> dict[str, str]:
        """The same of several: of those that are explained."""
        if not self.is_explained:
            return {}
        query = "select address, sentence from explanations where address in (select unnest(?))"
        return {str(name): str(said) for name, said in self.ask(query, [*addresses])}

    @property
    def is_explained(self) -> bool:
        """Whether there is a table of explanations."""
        return (self.folder / EXPLANATIONS).is_file()

    def _explained(self) -> None:
        """CorpusError where no table of explanations is."""
        if not self.is_explained:
            raise CorpusError(
                f"{self.folder} has no explanations yet",
                "a store whose components were explained",
                f"interp explain --all --store {self.folder}",
            )

    def dense(self, name: str) -> dense.Rows:
        """Every number of a node that was chosen when the store was made, [token, n], window after
        window (windows.starts), of which only what is read comes into memory."""
        return dense.opened(self.folder, name)

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
        """The rows of a query over the tables components, records, windows, documents, and
        explanations where they were made."""
        found: list[tuple[Any, ...]] = self._query(query, given).fetchall()
        return found

    def _query(self, query: str, given: Sequence[Any]) -> duckdb.DuckDBPyConnection:
        at = self._opened.cursor()  # of its own: two threads may ask
        for path in sorted(self.folder.glob("*.parquet")):  # some are made while it is open
            if path not in self._tables:
                place = str(path).replace("'", "''")
                at.execute(f"create or replace view {path.stem} as from read_parquet('{place}')")
                self._tables.add(path)
        return at.execute(query, list(given))

    @cached_property
    def _opened(self) -> duckdb.DuckDBPyConnection:
        opened = duckdb.connect()
        opened.execute("set threads = 2")
        with suppress(duckdb.InvalidInputException):  # a notebook that can show no bar
            opened.execute("set enable_progress_bar = false")
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
        document, number, tokens = self._window(window)
        did = np.frombuffer(acts, dtype=np.float16, count=SPAN)[: len(tokens) - first]
        return Example(
            KINDS[kind],
            rank,
            value,
            document,
            number,
            window,
            at,
            None if source < 0 else source,
            tokens,
            first,
            tuple(did.astype(float).tolist()),
        )

    @cached_property
    def _window(self) -> Callable[[int], tuple[str, int, tuple[str, ...]]]:
        """A window's document, its number there, its tokens; those that were asked for last are
        kept, since components have windows in common."""
        return lru_cache(8192)(self._read)

    def _read(self, window: int) -> tuple[str, int, tuple[str, ...]]:
        row = self.windows.table.iloc[window]
        tokens = tuple(self.words.pieces(self.windows[window].tolist()))
        return self.windows.names[row.document], int(row.number), tokens


def _component(row: tuple[Any, ...], examples: Sequence[Example]) -> Component:
    """A row of the table, and what was kept of it."""
    known = dict(zip(("address", "count", *STATISTICS, "counts", *SCORES), row, strict=True))
    attends = {name: known[name] for name in SCORES if known[name] == known[name]}
    spread = {name: known[name] for name in ("address", "count", *STATISTICS)}
    return Component(
        **spread, counts=tuple(known["counts"]), attends=attends, examples=tuple(examples)
    )
