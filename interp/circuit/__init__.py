"""Circuits as values, and what they are judged by."""

from interp.circuit.circuit import Circuit, CircuitError

__all__ = ["Circuit", "CircuitError"]
