"""Things that are made once and kept while there is room: the least recently used goes first. Safe
under threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key, of `room` bytes together by `size`; one larger than that is made and given,
    but not kept."""

    def __init__(self, room: int, size: Callable[[T], int]) -> None:
        self.room, self.size, self.used = room, size, 0
        self._found: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key. While one thread makes it, others that want the same wait; those that
        want another do not."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            making = self._making.setdefault(key, Lock())
        with making:
            if (known := self._found.get(key)) is not None:
                return known
            try:
                value = make()
                self._keep(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def _keep(self, key: Hashable, value: T) -> None:
        if self.size(value) > self.room:
            return
        with self._lock:
            self._found[key] = value
            self.used += self.size(value)
            while self.used > self.room:
                _, old = self._found.popitem(last=False)
                self.used -= self.size(old)

    def __len__(self) -> int:
        return len(self._found)
