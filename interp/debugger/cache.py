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
        self._found: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T], share: int = 1) -> T:
        """The value of a key. While one thread makes it, others that want the same wait; those that
        want another do not. share: as in `keep`."""
        with self._lock:
            if key in self._found:
                return self._used(key)
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._found:
                    return self._used(key)
            try:
                value = make()
                self.keep(key, value, share)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def known(self, key: Hashable) -> T | None:
        """The value of a key, None where none is kept."""
        with self._lock:
            return self._used(key) if key in self._found else None

    def keep(self, key: Hashable, value: T, share: int = 1) -> None:
        """Keep a value; not one larger than one part in `share` of the room, for which many others
        would have to go."""
        size = self.size(value)
        if size > self.room // share:
            return
        with self._lock:
            self.used += size - self._found.pop(key, (value, 0))[1]
            self._found[key] = value, size
            while self.used > self.room:
                self.used -= self._found.popitem(last=False)[1][1]

    def _used(self, key: Hashable) -> T:
        self._found.move_to_end(key)
        return self._found[key][0]

    def __len__(self) -> int:
        return len(self._found)
