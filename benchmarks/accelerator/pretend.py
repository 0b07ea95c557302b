"""A card that is not there: on a CPU, which tensors would lie on it, where the host would wait for
it, and what it would refuse.

A tensor lies on the card if it was made from one that does; what is made from nothing (arange,
zeros) lies on the host. Where a call needs a number of the card's, the host would wait; where it
takes tensors of both sides, a real card would refuse, or (row numbers) wait.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from minigpt import GPT2, device
from minigpt.params import tensors

ROOT = Path(__file__).parents[2]
# Operations whose answer, or whose answer's size, the host needs.
ASKING = frozenset(
    "_local_scalar_dense nonzero unique_dim _unique2 _unique equal masked_select is_nonzero "
    "repeat_interleave".split()
)
READING = frozenset("tolist numpy __array__".split())
# Those that turn a mask into row numbers first.
INDEXING = frozenset("index index_put_ index_put _index_put_impl_".split())


class Mixed(Exception):
    """One operation with tensors of both sides."""


class Card(TorchDispatchMode):
    """Follows what lies on the card; `lines`: how often the host would wait, by the line that makes
    it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()
        self._held: Any = WeakIdKeyDictionary()

    def put(self, *many: Tensor) -> None:
        """These lie on the card."""
        for x in many:
            self._held[x] = True

    def holds(self, x: Any) -> bool:
        """Whether this lies on the card."""
        return isinstance(x, Tensor) and x in self._held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = func.overloadpacket.__name__, tree_leaves((args, kwargs or {}))
        on_card = any(map(self.holds, given))
        if on_card:
            self._check(name, [x for x in given if isinstance(x, Tensor)])
        found = func(*args, **(kwargs or {}))
        if on_card:
            self.put(*(x for x in tree_leaves(found) if isinstance(x, Tensor)))
        return found

    def _check(self, name: str, given: list[Tensor]) -> None:
        elsewhere = [x for x in given if x.ndim and not self.holds(x)]
        masked = name in INDEXING and any(x.dtype == torch.bool for x in given[1:] if x.ndim)
        if name in ASKING or masked:
            self.lines[line()] += 1
        if elsewhere:
            shapes = [(list(x.shape), "card" if self.holds(x) else "host") for x in given]
            raise Mixed(f"{name} at {line()} of {shapes}")

    def sent(self, x: Tensor, to: Tensor) -> Tensor:
        """In place of minigpt.device.sent."""
        if self.holds(x) or not self.holds(to):
            return x
        here = x.clone()
        self.put(here)
        return here

    def fetched(self, x: Tensor) -> Tensor:
        """In place of minigpt.device.fetched: the host waits."""
        if not self.holds(x):
            return x
        self.lines[line()] += 1
        self._held.pop(x)
        here = x.clone()
        self.put(x)
        return here


class _Reading(TorchFunctionMode):
    """What reads a tensor's memory past all operations."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in READING and self.card.holds(args[0]):
            self.card.lines[line()] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended(model: GPT2) -> Iterator[Card]:
    """While this lasts, a model lies on a card."""
    card = Card()
    card.put(*tensors(model.params).values())
    with (
        card,
        _Reading(card),
        _replaced(device.sent, card.sent),
        _replaced(device.fetched, card.fetched),
    ):
        yield card


@contextmanager
def _replaced(old: Callable[..., Tensor], new: Callable[..., Tensor]) -> Iterator[None]:
    """Another function in its place, in every module of the engine that has it."""
    name = old.__name__
    places = [
        module
        for path, module in sys.modules.items()
        if path.partition(".")[0] == "minigpt" and getattr(module, name, None) is old
    ]
    for module in places:
        setattr(module, name, new)
    try:
        yield
    finally:
        for module in places:
            setattr(module, name, old)


def line() -> str:
    """The innermost line of this project that is being run, of a file other than this one."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"
