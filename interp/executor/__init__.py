"""Work cut into pieces, done in this process, in several, or on a Ray cluster: what comes out is
the same bytes, in the same order."""

from interp.executor.executor import ExecutorError, Where, each

__all__ = ["ExecutorError", "Where", "each"]
