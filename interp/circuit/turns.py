"""What the metric becomes where single edges of a circuit carry the other thing: found by this
process, by several, or by a cluster, the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp.circuit.ablation import Ablation
from interp.circuit.matrix import places, senders
from interp.executor import Kept, Told, Where, kept, one_thread, workers
from interp.executor.lend import Lent, borrowed, sent
from minigpt import GPT2
from minigpt.shown import Shown

# Edges of a piece of work: few enough that two workers end at about the same time. A circuit's own
# run is kept from piece to piece.
PIECE = 64
# A circuit's edges, those that carry the other thing, one at a time, and whether that is what
# their senders write in the whole model.
Piece = tuple[tuple[str, ...], tuple[str, ...], bool]


@dataclass(eq=False, repr=False)
class Turn(Shown):
    """A worker's job: the metric of each prompt where an edge carries the other thing."""

    of: Lent | GPT2
    asked: dict[str, Any]
    _on: list[Ablation] = field(default_factory=list)

    def __call__(self, piece: Piece) -> np.ndarray:
        """[edges, prompts]."""
        circuit, edges, whole = piece
        if not self._on:
            self._on.append(Ablation(borrowed(self.of), **self.asked))
        on = self._on[0]
        with one_thread():
            state = on.state(circuit)
            return (state.with_writes_of(on.whole, edges) if whole else state.turned(edges)).numpy()


class Turns:
    """Has such work done, here or elsewhere, and kept where there is a folder. A context: its
    workers are there as long as it lasts."""

    def __init__(
        self,
        on: Ablation,
        where: Where | None = None,
        folder: Path | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self.on, self.where, self.progress = on, where or Where(), progress
        self.kept = Kept(folder, "" if folder is None else on.fingerprint)
        self._stack = ExitStack()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Turns:
        of = self._stack.enter_context(sent(self.on.model, self.where))
        job = Turn(of, self.on.asked)
        self._done = self._stack.enter_context(workers(Told(job), self.where))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def metric(
        self, circuit: Sequence[str], edges: Sequence[str], *, whole: bool = False
    ) -> Float[Tensor, "edges prompts"]:
        """The metric of a circuit where one of these edges carries the other thing: of one that is
        in it the source's, of one that is not what its sender writes, in this circuit or in the
        whole model."""
        at, last = places(self.on.model.config), len(senders(self.on.model.config))
        # Those into one port are found together.
        order = sorted(range(len(edges)), key=lambda i: at[edges[i]][1] * last + at[edges[i]][0])
        some = [order[i : i + PIECE] for i in range(0, len(order), PIECE)]
        pieces = [(tuple(circuit), tuple(edges[i] for i in mine), whole) for mine in some]
        found = torch.empty(len(edges), len(self.on.full), dtype=torch.float64)
        bar = tqdm(total=len(edges), unit=" edges", disable=not self.progress, leave=False)
        with bar:
            for mine, values in zip(
                some, kept(self._done, self._here, pieces, self.kept), strict=True
            ):
                found[mine] = torch.from_numpy(values)
                bar.update(len(mine))
        return found

    def base(self, circuit: Sequence[str]) -> Float[Tensor, "prompts"]:
        """The metric of a circuit."""
        with one_thread():
            return self.on.state(circuit).metric

    def _here(self, piece: Piece) -> np.ndarray:
        return Turn(self.on.model, {}, [self.on])(piece)
