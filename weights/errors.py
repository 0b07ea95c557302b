"""What can go wrong between a file and a model, and what is only worth saying."""

from __future__ import annotations

from minigpt.errors import MiniGPTError


class WeightsError(MiniGPTError):
    """A name, file or folder that gives no model, or a folder that cannot be written."""


class WeightsWarning(UserWarning):
    """A model that was loaded, but not quite as its maker would have it."""
