"""What is put where: edits, which of them exclude one another, and the patch that they make, with
its text form."""

from minigpt.patch.edit import Edit, Hold, Source
from minigpt.patch.patch import Patch

__all__ = ["Edit", "Hold", "Patch", "Source"]
