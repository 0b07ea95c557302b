"""An explanation that weighs the last tokens: each that matters makes it likelier, or less likely,
that the component is on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interp.explain.passages import ON, Floats, Passage, numbers
from minigpt.shown import Shown

# How far back tokens are read, how many of them a sentence names, and how often one must have been
# seen to be weighed.
BACK, NAMED, OFTEN = 3, 6, 2
Seen = tuple[int, str]
_WHERE = ("on", "after", "two after", "three after")


@dataclass(frozen=True, repr=False)
class Regression(Shown):
    """Logistic regression with few weights (L1). weights: of a token so far back; on, off: the mean
    number where the component is on, and elsewhere."""

    weights: Mapping[Seen, float]
    bias: float
    on: float
    off: float
    kind = "regression"

    @property
    def sentence(self) -> str:
        """The largest weights, those for it first."""
        best = sorted(self.weights, key=lambda seen: (-self.weights[seen], seen))
        named = [seen for seen in best[:NAMED] if self.weights[seen] > 0]
        against = [seen for seen in best[-2:] if self.weights[seen] < 0] if named else []
        said = [f"{_WHERE[back]} {token!r}" for back, token in named]
        return ", ".join([*said, *(f"not {_WHERE[back]} {token!r}" for back, token in against)])

    def predict(self, passage: Passage) -> Floats:
        """The mean where it is on by how likely that is, and that elsewhere."""
        sums = [sum(self.weights.get(seen, 0.0) for seen in row) for row in _seen(passage)]
        likely = 1 / (1 + np.exp(-(np.array(sums, dtype=np.float64) + self.bias)))
        return self.off + (self.on - self.off) * likely


def regression(train: Sequence[Passage]) -> Regression:
    """Fitted to whether the component is on, from a share of its largest number in these."""
    y = numbers(train)
    is_on = y >= ON * y.max() if len(y) and y.max() > 0 else np.zeros(len(y), bool)
    on, off = (float(part.mean()) if len(part) else 0.0 for part in (y[is_on], y[~is_on]))
    rows = [row for passage in train for row in _seen(passage)]
    counts = Counter(seen for row in rows for seen in row)
    names = sorted(seen for seen, times in counts.items() if times >= OFTEN)
    if not is_on.any() or is_on.all() or not names:
        return Regression({}, 0.0, on, on if is_on.all() else off)
    weights, bias = _fitted(rows, names, is_on)
    kept = {names[i]: float(weights[i]) for i in np.flatnonzero(weights)}
    return Regression(kept, bias, on, off)


def _fitted(
    rows: Sequence[Sequence[Seen]], names: Sequence[Seen], is_on: np.ndarray
) -> tuple[Floats, float]:
    """The weights, most of them zero."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    place = {seen: i for i, seen in enumerate(names)}
    found = [[place[seen] for seen in row if seen in place] for row in rows]
    ends = np.cumsum([0, *map(len, found)])
    columns = np.array([column for row in found for column in row], dtype=np.int32)
    shape = len(rows), len(names)
    x = sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=shape)
    model = LogisticRegression(l1_ratio=1.0, solver="liblinear", random_state=0, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that still move a little predict as well
        model.fit(x, is_on)
    return model.coef_[0], float(model.intercept_[0])


def _seen(passage: Passage) -> Iterator[list[Seen]]:
    """What stands at each numbered token, and before it."""
    for i in range(passage.first, passage.last):
        yield [(back, passage.window[i - back]) for back in range(min(BACK, i + 1))]
