"""Everything that can go wrong at a door of this package. Each message says what was given, what is
legal, what to type."""

from __future__ import annotations


class MiniGPTError(ValueError):
    """What was given, what is legal, what to type. The root of this project's errors; a ValueError,
    so that old habits of catching work."""

    def __init__(self, given: str, legal: str = "", try_: str = "") -> None:
        super().__init__(problem(given, legal, try_))


class AddressError(MiniGPTError):
    """An address that does not parse, or names nothing in this model."""


class PromptError(MiniGPTError):
    """Prompts or tokens that the model cannot read: empty, too long, out of range, of the wrong
    type."""


class PositionError(MiniGPTError):
    """A position that a prompt does not have."""


class ParamsError(MiniGPTError):
    """Tensors that do not make up a model: missing, extra, of the wrong shape, not finite."""


def problem(given: str, legal: str = "", try_: str = "") -> str:
    """The three parts of a good message, as one text."""
    return "".join(
        [given, f"\n  legal: {legal}" if legal else "", f"\n  try:   {try_}" if try_ else ""]
    )


class PatchError(MiniGPTError):
    """An intervention that contradicts itself, does not fit the model, or has the wrong shape."""


class NoEffectWarning(UserWarning):
    """A patch that should have changed something changed nothing."""
