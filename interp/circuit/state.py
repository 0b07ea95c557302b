"""A circuit of edges as it runs: the metric of all prompts, and what it becomes where one edge more
is cut, or one fewer. The prompts go in as many parts as memory needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp.circuit.matrix import matrix, places
from interp.circuit.wired import Wired
from interp.metrics import Metric
from minigpt import GPT2, Trace
from minigpt.patch.edit import Source
from minigpt.recompute.values import Reader

# Bytes that what is kept of one part of the prompts may take.
MEMORY = 1 << 30


class State:
    """The run of a model in which the edges `kept` carry what is written there, and the others what
    their senders write in the source."""

    @torch.inference_mode()
    def __init__(
        self, model: GPT2, clean: Trace, source: Source, metric: Metric, kept: Sequence[str]
    ) -> None:
        self.model, self.question, self.kept = model, metric, kept
        own = matrix(model.config, kept)
        reader, size = Reader(clean), _prompts(model, clean)
        starts = range(0, len(clean.tokens), size)
        rows = (slice(start, start + size) for start in starts)
        self.parts = [Wired(model, clean, source, own, some, reader) for some in rows]

    @cached_property
    def metric(self) -> Float[Tensor, "prompts"]:
        """The metric of each prompt."""
        with torch.inference_mode():
            out = torch.cat([part.out(self.question.at) for part in self.parts])
            return self.question.of_output(out, self.model.params)

    @torch.inference_mode()
    def turned(self, edges: Sequence[str]) -> Float[Tensor, "edges prompts"]:
        """The metric where one of these edges carries the other thing: one that is kept the
        source's, one that is cut what its sender writes in this run."""
        found = torch.empty(len(edges), len(self.metric), dtype=torch.float64)
        for port, (mine, senders) in self._by_port(edges).items():
            parts = (part.turned(port, senders, self.question.at) for part in self.parts)
            found[mine] = self._metric(torch.cat(list(parts), 1))
        return found

    @torch.inference_mode()
    def changed(
        self, port: int, weights: Float[Tensor, "variants senders"]
    ) -> Float[Tensor, "variants prompts"]:
        """The metric where one port reads, of each sender, so many times what the source has more
        than the run."""
        parts = (part.changed(port, weights, self.question.at) for part in self.parts)
        return self._metric(torch.cat(list(parts), 1))

    @torch.inference_mode()
    def with_writes_of(self, other: State, edges: Sequence[str]) -> Float[Tensor, "edges prompts"]:
        """The metric where one of these edges, which are cut, carries what its sender writes in
        another run of the same prompts."""
        found = torch.empty(len(edges), len(self.metric), dtype=torch.float64)
        for port, (mine, senders) in self._by_port(edges).items():
            weights = self.parts[0].kept.new_zeros(len(mine), len(self.parts[0].kept))
            weights[torch.arange(len(mine)), senders] = -1
            pairs = zip(self.parts, other.parts, strict=True)
            parts = (a.changed(port, weights, self.question.at, b.apart) for a, b in pairs)
            found[mine] = self._metric(torch.cat(list(parts), 1))
        return found

    def _by_port(self, edges: Sequence[str]) -> dict[int, tuple[list[int], list[int]]]:
        """Of each port that these edges end at, which of them do, and their senders."""
        at, found = places(self.model.config), dict[int, tuple[list[int], list[int]]]()
        for i, edge in enumerate(edges):
            sender, port = at[edge]
            mine, senders = found.setdefault(port, ([], []))
            mine.append(i)
            senders.append(sender)
        return found

    def _metric(self, out: Tensor) -> Float[Tensor, "variants prompts"]:
        return self.question.of_many(out, self.model.params).cpu()


def _prompts(model: GPT2, clean: Trace) -> int:
    """How many prompts are run together: of each a write of every sender is kept, and queries, keys
    and values of every layer."""
    config, length = model.config, clean.tokens.shape[1]
    vectors = 1 + config.n_layer * (config.n_head * 2 + 7)
    bytes_each = vectors * length * config.d_model * model.params.wte.element_size()
    return max(1, MEMORY // bytes_each)
