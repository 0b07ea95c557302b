"""Results as people look at them: in a terminal, in a notebook, and as pages that need nothing but
themselves."""

from interp.show.here import show

__all__ = ["show"]
