"""Work cut into pieces, done in this process, in several, or on a Ray cluster: what comes out is
the same bytes, in the same order."""

from interp.executor.executor import each, workers
from interp.executor.kept import Kept, Told, kept, replaced
from interp.executor.where import ExecutorError, Where, one_thread

__all__ = [
    "ExecutorError",
    "Kept",
    "Told",
    "Where",
    "each",
    "kept",
    "one_thread",
    "replaced",
    "workers",
]
