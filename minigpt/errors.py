"""Everything that can go wrong at a door of this package. Each message says what was given, what is
legal, what to type."""

from __future__ import annotations


class MiniGPTError(ValueError):
    """What was given, what is legal, what to type. The root of this project's errors; a ValueError,
    so that old habits of catching work.

    >>> print(MiniGPTError('a door', 'a window', 'open()'))
    a door
      legal: a window
      try:   open()
    """

    def __init__(self, given: str, legal: str = "", try_: str = "") -> None:
        parts = given, legal and f"  legal: {legal}", try_ and f"  try:   {try_}"
        super().__init__("\n".join(filter(None, parts)))
        self.given = given


class AddressError(MiniGPTError):
    """An address that does not parse, or names nothing in this model."""


class PromptError(MiniGPTError):
    """Prompts or tokens that the model cannot read: empty, too long, out of range, of the wrong
    type."""


class PositionError(MiniGPTError):
    """A position that a prompt does not have."""


class ParamsError(MiniGPTError):
    """Tensors that do not make up a model: missing, extra, of the wrong shape, not finite."""


class PatchError(MiniGPTError):
    """An intervention that contradicts itself, does not fit the model, or has the wrong shape."""


class NoEffectWarning(UserWarning):
    """A patch that should have changed something changed nothing."""
