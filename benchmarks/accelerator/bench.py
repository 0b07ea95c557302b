"""The setting of all measurements on a device: a random GPT-2 of minigpt's own making, random
prompts, transformers' model around the same tensors, and a clock that waits for the device.

Needs no vocabulary, no files and no network.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from benchmarks import runner
from benchmarks.peers.inputs import Inputs, Place
from benchmarks.w3_paths import RECEIVERS
from interp.audit import huggingface
from minigpt import GPT2, SIZES, Config, Params, build
from minigpt.params import shapes

# Of rows and a matrix.
Product = Callable[[Tensor, Tensor], Tensor]
# Seconds that the rounds of one race may take together.
PATIENCE = 10.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    shapes: batch x tokens of single passes. pairs, length: of sweeps. edges: how many of one
    pair, and of `crowd` pairs. company: batches that a prompt is put into. prompts: batches of
    the scaling table. products: rows at which the peak is looked for.
    """

    config: Config
    shapes: tuple[tuple[int, int], ...]
    pairs: int
    length: int
    receivers: tuple[tuple[int, int], ...]
    edges: int
    crowd: int
    crowd_edges: int
    company: tuple[int, ...]
    prompts: tuple[int, ...]
    products: tuple[int, ...]
    rounds: int


FULL = Sizes(
    config=SIZES["gpt2"],
    shapes=((32, 16), (1, 1024)),
    pairs=32,
    length=16,
    receivers=tuple(RECEIVERS),
    edges=4000,
    crowd=100,
    crowd_edges=100,
    company=(2, 4, 8, 16, 32, 64, 256),
    prompts=(1, 4, 16, 32, 64, 256, 1024, 4096),
    products=(4096, 16384, 65536),
    rounds=5,
)
# The vocabulary is that of GPT-2, which the benchmarks' random prompts are drawn from.
TINY = Sizes(
    config=Config(3, 4, 32, 64, 32, 50257),
    shapes=((4, 8), (1, 24)),
    pairs=3,
    length=14,
    receivers=((1, 0), (1, 3), (2, 1), (2, 2)),
    edges=40,
    crowd=4,
    crowd_edges=10,
    company=(2, 5),
    prompts=(1, 4),
    products=(64, 128),
    rounds=1,
)


@dataclass(frozen=True, eq=False)
class Bench:
    """A model on a device, and what to measure there."""

    sizes: Sizes
    device: torch.device
    model: GPT2

    @classmethod
    def on(cls, device: str, sizes: Sizes) -> Bench:
        """A random model of these sizes there, in float32, every product in full precision."""
        torch.set_float32_matmul_precision("highest")
        place = torch.device(device)
        return cls(sizes, place, GPT2(random_params(sizes.config).to(place), name="random"))

    @cached_property
    def theirs(self) -> dict[str, GPT2LMHeadModel]:
        """transformers' model around the same tensors, by its kind of attention."""
        return {kind: huggingface.build(self.model.params, kind) for kind in ("eager", "sdpa")}

    @cached_property
    def peak(self) -> float:
        """Operations a second of the best matrix product measured here: the roof of every
        sweep."""
        return max(self.product(rows, torch.mm) for rows in self.sizes.products)

    def tokens(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """Random prompts [batch, length], on the device."""
        drawn = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self.model.config.n_vocab, (batch, length), generator=drawn)
        return ids.to(self.device)

    def product(self, rows: int, product: Product, wide: bool = True) -> float:
        """Operations a second of a product of so many rows with an MLP's first matrix, or its
        second."""
        block = self.model.params.blocks[0]
        w = block.w_in if wide else block.w_out
        x = torch.randn(rows, len(w), device=self.device)
        work = 2 * rows * w.numel()
        times = min(50, max(1, int(2e11) // work))
        taken = min(self.seconds(lambda: [product(x, w) for _ in range(times)]) for _ in range(4))
        return work * times / taken

    # ---- the clock

    def finish(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], Any]) -> float:
        """What a call takes, until the device has done its work too."""
        self.finish()

        def whole() -> None:
            call()
            self.finish()

        return runner.seconds(whole)

    def race(self, calls: Mapping[str, Callable[[], Any]]) -> dict[str, runner.Timing]:
        """Alternating timings after a first turn that warms up; fewer rounds where that took
        long."""
        return self.rounds({name: partial(self.seconds, call) for name, call in calls.items()})

    def rounds(self, contenders: Mapping[str, Callable[[], float]]) -> dict[str, runner.Timing]:
        """The same of contenders that say what they took."""
        first = self.seconds(lambda: [contender() for contender in contenders.values()])
        return runner.race(contenders, max(1, min(self.sizes.rounds, int(PATIENCE / first))))

    # ---- the device

    def memory(self, call: Callable[[], Any]) -> float | None:
        """The most that the device held during a call, in GB; None where it does not say."""
        if self.device.type != "cuda":
            call()
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        self.finish()
        return torch.cuda.max_memory_allocated(self.device) / 1e9

    def clear(self) -> None:
        """Give memory that nothing holds any more back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on."""
        card = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if card else platform.machine(),
            "memory GB": torch.cuda.get_device_properties(self.device).total_memory / 1e9
            if card
            else None,
            "torch": torch.__version__,
            "cuda": torch.version.cuda if card else None,
            "python": platform.python_version(),
            "host threads": torch.get_num_threads(),
            "float32 products": torch.get_float32_matmul_precision(),
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        }


@dataclass(frozen=True)
class Placed(Inputs):
    """A peer's inputs that lie on a device: nothing is carried there while it runs."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @cached_property
    def clean(self) -> Tensor:
        """[B, T] tokens."""
        return super().clean.to(self.device)

    @cached_property
    def corrupt(self) -> Tensor:
        """[B, T] tokens."""
        return super().corrupt.to(self.device)

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        named = (torch.from_numpy(self.arrays[name]).long() for name in ("answers", "distractors"))
        answers, distractors = (ids.to(self.device) for ids in named)
        return torch.arange(len(answers), device=self.device), answers, distractors

    def metric(self, logits: Tensor) -> Tensor:
        """[B, T or 1, V] -> [B]: the logit difference at the last position."""
        rows, answers, distractors = self._ends
        return logits[rows, -1, answers] - logits[rows, -1, distractors]

    def place(self) -> Place:
        """An index (prompts, positions)."""
        prompts, positions = super().place()
        return prompts.to(self.device), positions.to(self.device)


def random_params(config: Config, seed: int = 0) -> Params:
    """Parameters of which none is special, of sizes at which every patch is seen."""
    drawn = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes(config).items():
        x = torch.randn(shape, generator=drawn)
        if len(shape) == 1:
            tensors[name] = 1 + 0.2 * x if name.endswith("weight") else 0.1 * x
        else:
            tensors[name] = x * (0.3 if name in ("wte.weight", "wpe.weight") else shape[0] ** -0.5)
    return build(config, tensors)
