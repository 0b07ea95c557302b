"""Which heads make up the answer, found from the logits backwards; and the record of what was
found."""

from interp.discover.record import Discovery
from interp.discover.search import discover

__all__ = ["Discovery", "discover"]
