"""Runtime checks of shape annotations at a function's first calls, and at one in so many after.

Checked at every call, the tests took three to six times as long; an annotation that is wrong is
wrong at the first calls, and at every kind of call that a test is about, since each file's first
calls are checked anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

import jaxtyping
from jaxtyping import _decorator

FIRST, THEN = 4, 1999
_every = _decorator.jaxtyped
# Each function's count of calls, which a new file begins anew.
_counts: list[list[Iterator[int]]] = []


def install(packages: list[str], checker: str) -> None:
    """Check the functions of these packages, which must not have been imported."""
    jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(packages, checker)


def anew() -> None:
    """Check each function's next calls again."""
    for count in _counts:
        count[0] = itertools.count()


def jaxtyped(fn: Any = _decorator._sentinel, **given: Any) -> Any:
    """jaxtyping's decorator; of a plain function, at some of its calls."""
    if fn is _decorator._sentinel:
        return lambda found: jaxtyped(found, **given)
    if not callable(fn) or isinstance(fn, (type, classmethod, staticmethod, property)):
        return _every(fn, **given)
    count = [itertools.count()]
    _counts.append(count)

    @cache
    def checked() -> Callable:
        """Made when it is first called: for all functions that takes ten seconds."""
        return _every(fn, **given)

    @wraps(fn)
    def call(*args: Any, **named: Any) -> Any:
        n = next(count[0])
        if n >= FIRST and n % THEN:
            return fn(*args, **named)
        return checked()(*args, **named)

    return call
