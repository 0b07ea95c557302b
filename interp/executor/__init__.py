"""Work cut into pieces, done in this process, in several, or on a Ray cluster: what comes out is
the same bytes, in the same order."""

from interp.executor.executor import each
from interp.executor.where import ExecutorError, Where

__all__ = ["ExecutorError", "Where", "each"]
