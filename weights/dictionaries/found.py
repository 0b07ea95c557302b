"""What is in a dictionary's file, taken by name and shape. What nobody takes is refused: nothing in
a file is silently ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from minigpt.shown import Shown
from weights.errors import WeightsError

T = TypeVar("T")
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True, repr=False)
class Found(Shown):
    """The facts and the tensors of a dictionary in a file; dtype is that asked for, if one is."""

    path: Path
    facts: Mapping[str, Any]
    state: Mapping[str, Any]
    dtype: torch.dtype | None = None

    def take(self, axes: Mapping[str, str], aside: Iterable[str] = ()) -> dict[str, Tensor]:
        """Tensors in one type, by name, each of the shape that its axes spell ("d n"); WeightsError
        unless these are there, and but for those aside nothing else."""
        if absent := [name for name in axes if name not in self.state]:
            raise self.wrong(f"{', '.join(absent)} is not in it", f"{', '.join(axes)}")
        if strange := [name for name in self.state if name not in {*axes, *aside}]:
            raise self.wrong(f"what is {', '.join(map(str, strange[:4]))}?", f"{', '.join(axes)}")
        sizes: dict[str, int] = {}
        for name, shape in axes.items():
            self._check(name, shape.split(), sizes)
        kinds = {self.state[name].dtype for name in axes}
        kind = self.dtype or (torch.float64 if torch.float64 in kinds else torch.float32)
        return {name: self.state[name].detach().to(kind) for name in axes}

    def fact(self, name: str, kind: type[T], otherwise: T | None = None) -> T:
        """What the facts say under a name; what is meant otherwise where they do not."""
        found = self.facts.get(name)
        found = otherwise if found is None else found
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.wrong(f"its {name} is {found!r}", f"a {kind.__name__}")
        return found

    def number(self, name: str) -> int:
        """A whole number that is a tensor of the file."""
        x = self.state.get(name)
        if not isinstance(x, Tensor) or x.numel() != 1 or x.is_floating_point():
            raise self.wrong(f"{name} is {_short(x)}", "a whole number")
        return int(x.item())

    def wrong(self, given: str, legal: str, try_: str = "") -> WeightsError:
        """An error that names the file."""
        return WeightsError(f"{self.path}: {given}", legal, try_)

    def _check(self, name: str, axes: list[str], sizes: dict[str, int]) -> None:
        x = self.state[name]
        if not isinstance(x, Tensor) or x.dtype not in FLOATS or x.layout is not torch.strided:
            raise self.wrong(f"{name} is {_short(x)}", "a tensor of numbers in floating point")
        fits = x.ndim == len(axes) and all(
            n == sizes.setdefault(axis, n) and n > 0 for axis, n in zip(axes, x.shape, strict=True)
        )
        if not fits:
            legal = [f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes]
            raise self.wrong(f"{name} has the shape {list(x.shape)}", f"[{', '.join(legal)}]")
        if not x.isfinite().all():
            raise self.wrong(f"{name} holds NaN or infinity", "finite numbers")


def _short(x: object) -> str:
    if isinstance(x, Tensor):
        return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
    return repr(x)[:60]
