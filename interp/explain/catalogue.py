"""What explains each component of a store, as a table beside its others: made part by part, each
kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from interp.corpus.store import EXPLANATIONS, Store
from interp.executor import Where, each, replaced
from interp.explain.explain import Explanation, explain, others_simulate
from interp.explain.passages import Evidence, evidence
from interp.explain.simulators import Simulator
from minigpt.shown import Shown
from minigpt.tokenizer import Tokenizer

# Components of a part, of which each is also explained by so many others' explanations.
PART, OTHERS = 256, 19


@dataclass(frozen=True, repr=False)
class Entry(Shown):
    """A component's explanation, its scores (see Scores), and how well it is simulated by saying
    nothing, by the list of its top tokens, and by other components' explanations on average; p: how
    often one of those does as well."""

    component: int
    address: str
    kind: str
    sentence: str
    simulation: float
    explained: float
    detection: float
    fuzzing: float
    intruder: float
    nothing: float
    its_top_tokens: float
    another: float
    p: float


def catalogue(store: Store, *, where: Where | None = None, progress: bool = True) -> Path:
    """The table of a store's explanations; what an interrupted call left is gone on with."""
    done, parts = store.folder / EXPLANATIONS, store.folder / "explanations"
    if store.is_explained:
        return done
    parts.mkdir(exist_ok=True)
    ranges = [range(i, min(i + PART, len(store))) for i in range(0, len(store), PART)]
    paths = [parts / f"{part.start:07}.parquet" for part in ranges]
    left = [job for job in zip(ranges, paths, strict=True) if not job[1].is_file()]
    known = len(store) - sum(len(part) for part, _ in left)
    bar = tqdm(total=len(store), initial=known, unit=" components", disable=not progress)
    with bar:
        for n in each(Explain(store.folder, store.words), left, where):
            bar.update(n)
    whole = pd.concat(map(pd.read_parquet, paths), ignore_index=True)
    replaced(done, whole.to_parquet)
    for path in paths:
        path.unlink()
    parts.rmdir()
    return done


@dataclass(eq=False, repr=False)
class Explain(Shown):
    """A worker's job: the explanations of components that follow one another in a store, written
    into a file; how many they are."""

    folder: Path
    words: Tokenizer
    _opened: list[Store] = field(default_factory=list)

    def __call__(self, piece: tuple[range, Path]) -> int:
        """Explain a part, and write it down."""
        if not self._opened:
            self._opened.append(Store(self.folder, self.words))
        part, path = piece
        replaced(path, pd.DataFrame(entries(self._opened[0], part)).to_parquet)
        return len(part)


def summary(store: Store) -> list[tuple[str, int, float, float]]:
    """By kind, the most frequent first: how many components it explains, how well it simulates
    them, and how well the list of their top tokens would."""
    return store.ask(
        "select kind, count(*) as n, avg(simulation), avg(its_top_tokens) from explanations "
        "group by kind order by n desc, kind"
    )


def entries(store: Store, part: range) -> list[Entry]:
    """The explanations of some components that follow one another in a store."""
    components = [*store.between(part.start, part.stop)]
    known = [evidence(component) for component in components]
    made = [explain(*given) for given in zip(components, known, strict=True)]
    simulators = [one.simulator for one in made]
    return [
        _entry(number, made[i], known[i], [*_others(simulators, i)])
        for i, number in enumerate(part)
    ]


def _others(simulators: Sequence[Simulator], i: int) -> Iterator[Simulator]:
    """Those of other components, evenly from all that there are."""
    rest = len(simulators) - 1
    for k in range(min(OTHERS, rest)):
        yield simulators[(i + 1 + k * rest // min(OTHERS, rest)) % len(simulators)]


def _entry(number: int, made: Explanation, known: Evidence, others: Sequence[Simulator]) -> Entry:
    theirs, scores = others_simulate(known, others), made.scores
    as_good = sum(other >= scores.simulation for other in theirs)
    baselines = (found.simulation for found in made.baselines.values())
    return Entry(
        number,
        made.address,
        made.kind,
        made.sentence,
        **vars(scores),
        **dict(zip(("nothing", "its_top_tokens"), baselines, strict=True)),
        another=float(np.mean(theirs)) if theirs else np.nan,
        p=(1 + as_good) / (1 + len(theirs)),
    )
