"""Prompts in pairs, and where they come from."""

from interp.tasks.prompts import Prompts

__all__ = ["Prompts"]
